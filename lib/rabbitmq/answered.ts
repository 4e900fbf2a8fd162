import { endsWithin, type Clock } from '../core/clock.js';
import { ConnectionLostError } from '../core/errors.js';

/** On a stalled link the client waits for its answers without limit. What comes too late is nobody's. */
export async function answered<T>(clock: Clock, ask: () => PromiseLike<T>, limitMs = 10_000): Promise<T> {
  // The client throws at once where the channel is gone.
  const answer = Promise.resolve().then(ask);
  const isInTime = await endsWithin(
    clock,
    answer.catch(() => {}),
    limitMs,
  );
  if (isInTime) return answer;
  throw new ConnectionLostError(`the broker did not answer within ${limitMs} ms`);
}
