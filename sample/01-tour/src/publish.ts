import { setTimeout as sleep } from 'node:timers/promises';
import { isStorkError, type StorkClient } from 'nestjs-stork';
import { messageIdOf } from './ledger.js';
import type { OrderLine } from './order-file.js';

const inFlight = 100;
const againAfterMs = 200;
/** After these nobody knows whether the broker has the message. */
const isDoubtful: ReadonlySet<string> = new Set(['PUBLISH_UNCONFIRMED', 'CONNECTION_LOST']);

/**
 * In the order of the file, a hundred on their way at a time: all senders take their next line from one iterator. Resolves when the
 * broker has everything.
 */
export async function publishAll(
  lines: readonly OrderLine[],
  shop: StorkClient,
  pace: number | undefined,
): Promise<void> {
  const rest = lines.values();
  const begun = performance.now();
  /** The last message of each order. */
  const last = new Map<string, Promise<void>>();
  const send = async (): Promise<void> => {
    for (const line of rest) {
      const dueAt = pace === undefined ? begun : begun + ((line.number - 1) / pace) * 1_000;
      const key = line.event?.key;
      // One order's messages wait for one another: a payment must not overtake its order when that has to be sent again.
      // Its place is taken before any wait: timers do not end in the order in which they began.
      const before = key === undefined ? undefined : last.get(key);
      const sent = Promise.all([before, until(dueAt)]).then(() => publishUntilConfirmed(line, shop));
      if (key !== undefined) last.set(key, sent);
      await sent;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, send));
}

/** Sends a doubtful message again, under the same id: the shop knows by it what it has seen. While the broker is away it waits. */
async function publishUntilConfirmed(line: OrderLine, shop: StorkClient): Promise<void> {
  for (;;) {
    try {
      return await publish(line, shop);
    } catch (error) {
      if (!isStorkError(error) || !isDoubtful.has(error.code)) throw error;
      await sleep(againAfterMs);
    }
  }
}

/** Resolves when the broker has the message, not when it is handled. */
async function publish({ number, text, event }: OrderLine, shop: StorkClient): Promise<void> {
  const messageId = messageIdOf(number);
  if (event === undefined) {
    // Bytes go out as they are, whatever the content type says of them: so a broken sender is played.
    await shop.publish('order.created', Buffer.from(text), { messageId, contentType: 'application/json' });
  } else {
    const { type, key, data } = event;
    await shop.publish(type, data, key === undefined ? { messageId } : { messageId, key });
  }
}

async function until(time: number): Promise<void> {
  const waitMs = time - performance.now();
  if (waitMs > 0) await sleep(waitMs);
}
