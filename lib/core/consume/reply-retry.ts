import { backoffMs, sleep } from '../runtime/clock.js';
import { messageOf } from '../runtime/errors.js';
import type { DeliveryContext, ProcessingSlot } from './delivery-context.js';
import type { ReplyRetry } from './reply-writer.js';

const backoff = { delayMs: 500, maxDelayMs: 10_000 };
/** Without a deadline. */
const defaultLimitMs = 60_000;
/** A broker may take back a message that is unsettled for too long. */
const maxLimitMs = 600_000;

/**
 * A reply is sent again until the caller's deadline, while the message can still be acknowledged. The handler
 * is not called again for it: its work is done.
 *
 * @param slot released during the waits, once the handler has ended; undefined while it runs
 */
export function newReplyRetry(
  { delivery, metadata, scope }: Pick<DeliveryContext, 'delivery' | 'metadata' | 'scope'>,
  slot?: ProcessingSlot,
): ReplyRetry {
  const { clock, random, logger, subscription } = scope;
  let until: number | undefined;
  return async (retry, error) => {
    const now = clock.now();
    if (retry === 0 || until === undefined) until = now + limitMs(metadata.deadline, now);
    const delayMs = backoffMs(retry + 1, backoff, random);
    if (delivery.aborted || now + delayMs >= until) return false;
    if (retry === 0)
      logger.warn(`${subscription}: a reply was not confirmed and is sent again: ${messageOf(error)}`);
    // A shutdown ends the waits of slots; the retries continue until its deadline.
    if (slot === undefined || !(await slot.wait(delayMs))) await sleep(clock, delayMs, delivery.signal);
    return !delivery.aborted;
  };
}

/** A deadline in the past says nothing: each item of a stream restarts the caller's time-out. */
function limitMs(deadline: number | undefined, now: number): number {
  return deadline === undefined || deadline <= now ? defaultLimitMs : Math.min(deadline - now, maxLimitMs);
}
