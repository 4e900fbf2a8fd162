/** Events of a transport's messages that are counted. */
export type CounterName =
  | 'received'
  | 'handled'
  | 'failed'
  /** In-process retries. */
  | 'retried'
  /** Retries through the broker. */
  | 'redelivered'
  /** Messages without a handler that were sent back through the broker. */
  | 'unhandled-redelivered'
  | 'dead-lettered'
  /** Failed messages of handlers whose dead letters are disabled. */
  | 'dropped'
  | 'skipped'
  /** Duplicates of messages that an idempotent handler has handled; settled without calling it. */
  | 'duplicate'
  /** Duplicates that waited because the same message was in progress elsewhere. */
  | 'duplicates-in-flight'
  /** Messages of idempotent handlers that were handled without a key. */
  | 'no-idempotency-key'
  | 'expired'
  | 'requeued'
  | 'stale-settlements'
  | 'reply-undeliverable'
  | 'late-replies'
  /** Events of `emit()` that failed without a subscriber. */
  | 'emit-failed'
  /** Rebalances of the consumer group. */
  | 'rebalances'
  /** Records that the broker deleted before they were consumed. */
  | 'offset-out-of-range';

/** Counts since the start of the process. */
export class Counters {
  readonly #counts = new Map<CounterName, number>();

  add(name: CounterName, count = 1): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + count);
  }

  get(name: CounterName): number {
    return this.#counts.get(name) ?? 0;
  }

  snapshot(): Partial<Record<CounterName, number>> {
    return Object.fromEntries(this.#counts);
  }
}

/**
 * Interface of Nest's `Logger`, as far as core uses it. Core never passes it a message body or credentials.
 */
export interface StorkLogger {
  debug(line: string): void;
  log(line: string): void;
  warn(line: string): void;
  error(line: string): void;
}
