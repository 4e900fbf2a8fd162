import { setTimeout as sleep } from 'node:timers/promises';
import { isStorkError, type StorkClient } from 'nestjs-stork';
import { messageIdOf } from './result-log.js';
import type { OrderLine } from './order-file.js';

const inFlight = 100;
const againAfterMs = 200;
/** Codes after which it is unknown whether the broker has the message. */
const unconfirmedCodes: ReadonlySet<string> = new Set(['PUBLISH_UNCONFIRMED', 'CONNECTION_LOST']);

/**
 * Publishes in the order of the file, a hundred messages in flight: all senders take their next line from one
 * iterator. Resolves when the broker has confirmed everything.
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
      // Messages of one order wait for one another: a payment must not overtake an order that has to be
      // published again. The place in that sequence is taken before any wait, because timers do not fire in
      // the order in which they were set.
      const before = key === undefined ? undefined : last.get(key);
      const sent = Promise.all([before, until(dueAt)]).then(() => publishUntilConfirmed(line, shop));
      if (key !== undefined) last.set(key, sent);
      await sent;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, send));
}

/**
 * Repeats an unconfirmed message under the same id, by which the shop recognises it. Waits while the broker
 * is away.
 */
async function publishUntilConfirmed(line: OrderLine, shop: StorkClient): Promise<void> {
  for (;;) {
    try {
      return await publish(line, shop);
    } catch (error) {
      if (!isStorkError(error) || !unconfirmedCodes.has(error.code)) throw error;
      await sleep(againAfterMs);
    }
  }
}

/** Resolves when the broker has confirmed the message, not when it is handled. */
async function publish({ number, text, event }: OrderLine, shop: StorkClient): Promise<void> {
  const messageId = messageIdOf(number);
  if (event === undefined) {
    // Bytes are published as they are, whatever the content type: this plays a broken sender.
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
