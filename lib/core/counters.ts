/** Everything that happens to messages of a transport and would otherwise go unseen. */
export type CounterName =
  | 'received'
  | 'handled'
  | 'failed'
  | 'dead-lettered'
  | 'unhandled-skipped'
  | 'expired'
  | 'given-back'
  | 'stale'
  | 'reply-undeliverable'
  | 'reply-late';

/** Counts since the start of the process. */
export class Counters {
  readonly #counts = new Map<CounterName, number>();

  add(name: CounterName): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  get(name: CounterName): number {
    return this.#counts.get(name) ?? 0;
  }

  snapshot(): Partial<Record<CounterName, number>> {
    return Object.fromEntries(this.#counts);
  }
}
