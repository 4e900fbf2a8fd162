import { BrokerError } from '../broker-error.js';

export interface MemoryQueueOptions {
  readonly name: string;
  /** `''` is the default exchange. Without it, what would be dead-lettered vanishes. */
  readonly deadLetterExchange?: string | undefined;
  /** The message's own routing key unless given. */
  readonly deadLetterRoutingKey?: string | undefined;
  /** A message that was given back more often than this is dead-lettered. */
  readonly deliveryLimit?: number | undefined;
  readonly messageTtlMs?: number | undefined;
  /** Counts ready messages only. */
  readonly maxLength?: number | undefined;
  /** `drop-head` unless given. */
  readonly overflow?: 'reject-publish' | 'drop-head' | undefined;
  /** Without it priorities are ignored. */
  readonly maxPriority?: number | undefined;
}

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
