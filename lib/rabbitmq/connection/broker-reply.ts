import type { StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import { withTimeout } from '../../core/runtime/with-timeout.js';

/** Awaits an RPC of the broker. On a stalled link amqplib waits for the reply without a limit. */
export function brokerReply<T>(clock: StorkClock, ask: () => PromiseLike<T>, limitMs = 10_000): Promise<T> {
  const timeoutError = () => new ConnectionLostError(`the broker did not answer within ${limitMs} ms`);
  return withTimeout(ask, { clock, limitMs, timeoutError });
}
