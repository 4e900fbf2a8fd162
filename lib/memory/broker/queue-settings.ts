import { BrokerError } from './broker-error.js';
import type { MemoryQueueOptions } from './memory-queue.js';

/** `name` counts for nothing here: the queue's name is given beside its settings. */
export type QueueSettings = Omit<MemoryQueueOptions, 'name'> & { readonly name?: string | undefined };

const names = [
  'deadLetterExchange',
  'deadLetterRoutingKey',
  'deliveryLimit',
  'messageTtlMs',
  'maxLength',
  'overflow',
  'maxPriority',
] as const satisfies readonly Exclude<keyof QueueSettings, 'name'>[];

/** Throws on the first setting in which a queue differs from what is declared now. Left out is not the same as given. */
export function assertSameSettings(existing: MemoryQueueOptions, given: QueueSettings): void {
  for (const name of names) {
    if (existing[name] === given[name]) continue;
    const was = JSON.stringify(existing[name]) ?? 'none';
    const is = JSON.stringify(given[name]) ?? 'none';
    throw new BrokerError(
      406,
      `Queue "${existing.name}" exists with ${name} ${was}, declared now with ${is}`,
    );
  }
}
