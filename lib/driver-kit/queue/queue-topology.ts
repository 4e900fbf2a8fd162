import type { SubscribedPattern, SubscriptionSpec } from '../../core/port/driver.js';

// The queues and bindings that stork declares for one source queue.

/** Deliveries of a message before the broker itself dead-letters it, unless an option says otherwise. */
export const defaultDeliveryLimit = 100;

/**
 * Dead letters are browsed and replayed, and every browse counts as a delivery. RabbitMQ 4's default of
 * 20 would drop a dead letter at its 21st browse; this limit only stops a consumer that crashes on one
 * message in a loop.
 */
export const deadLetterDeliveryLimit = 1_000_000;

export function deadLetterQueue(queue: string): string {
  return `${queue}.dlq`;
}

export function isDeadLetterQueue(queue: string): boolean {
  return queue.endsWith(deadLetterQueue(''));
}

/** The queue in which messages of `queue` wait `delayMs` before they are routed back to it. */
export function retryQueue(queue: string, delayMs: number): string {
  return `${queue}.retry.${delayMs}`;
}

/** Delays of the retry queues that are declared with the source queue. */
export function retryQueueDelays({
  redeliverDelaysMs,
  unhandledDelayMs,
}: Pick<SubscriptionSpec, 'redeliverDelaysMs' | 'unhandledDelayMs'>): ReadonlySet<number> {
  return new Set(
    unhandledDelayMs === undefined ? redeliverDelaysMs : [...redeliverDelaysMs, unhandledDelayMs],
  );
}

/** Routing keys that bind the source queue to its exchange. A fanout exchange ignores routing keys. */
export function bindingKeys(exchangeType: string, patterns: readonly SubscribedPattern[]): readonly string[] {
  return exchangeType === 'fanout' ? [''] : patterns.map(({ text }) => text);
}
