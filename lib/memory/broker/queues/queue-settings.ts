import { BrokerError } from '../broker-error.js';

export interface MemoryQueueOptions {
  readonly name: string;
  /** `''` is the default exchange. Without it, dead-lettered messages are dropped. */
  readonly deadLetterExchange?: string | undefined;
  /** @defaultValue the routing key of the message */
  readonly deadLetterRoutingKey?: string | undefined;
  /** A message that is requeued more often than this is dead-lettered. */
  readonly deliveryLimit?: number | undefined;
  readonly messageTtlMs?: number | undefined;
  /** Limit of ready messages; unacknowledged ones do not count. */
  readonly maxLength?: number | undefined;
  /** @defaultValue 'drop-head' */
  readonly overflow?: 'reject-publish' | 'drop-head' | undefined;
  /** @defaultValue none: priorities are ignored */
  readonly maxPriority?: number | undefined;
}

/** A `name` is ignored: the name of the queue is an argument of `declareQueue`. */
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

/** @throws BrokerError 406 that names the first setting which differs from those of the existing queue */
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
