import type { StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import { withTimeout } from '../../core/runtime/with-timeout.js';

/** Awaits the broker's response to an AMQP method. On a stalled link amqplib waits without a time limit. */
export function brokerRpc<T>(clock: StorkClock, call: () => PromiseLike<T>, limitMs = 10_000): Promise<T> {
  const timeoutError = () => new ConnectionLostError(`the broker did not answer within ${limitMs} ms`);
  return withTimeout(call, { clock, limitMs, timeoutError });
}
