/** Everything that happens to messages of a transport and would otherwise go unseen. */
export type CounterName =
  | 'received'
  | 'handled'
  | 'failed'
  /** Further runs in place. */
  | 'retried'
  /** Further runs that go through the broker. */
  | 'redelivered'
  | 'dead-lettered'
  /** Messages whose handler keeps no dead letters. */
  | 'dropped'
  | 'skipped'
  /** Messages that an idempotent handler had done before: settled without a run. */
  | 'duplicate'
  /** Messages that waited for another run of theirs to end. */
  | 'duplicates-in-flight'
  /** Messages of idempotent handlers that ran without a key. */
  | 'no-idempotency-key'
  | 'expired'
  | 'requeued'
  | 'stale-settlements'
  | 'reply-undeliverable'
  | 'late-replies'
  /** Times that a consumer's group gave out its partitions anew. */
  | 'rebalances'
  /** Records that the broker had deleted before they were read. */
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
