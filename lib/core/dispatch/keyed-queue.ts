import { Fifo } from '../runtime/fifo.js';

/**
 * A limit, below the concurrency of the queue, that several items share: the concurrency of one handler.
 */
export interface ConcurrencyLimit {
  readonly max: number;
}

interface Entry<T> {
  readonly orderingKey: string | undefined;
  readonly item: T;
  readonly limits: readonly ConcurrencyLimit[];
}

/** What the queue tracks per concurrency limit. */
interface LimitState<T> {
  /** Entries that are running or ready, at most `max`. */
  taken: number;
  /** Entries that wait for the limit, each the first of its key. */
  readonly parked: Fifo<Entry<T>>;
}

const unlimited: readonly ConcurrencyLimit[] = [];

/**
 * Runs items with a concurrency limit, and the items of one key strictly one after another, in the order in
 * which they were pushed. After each item, its key moves to the end of the ready queue, so that a busy key
 * does not starve the others. An item whose own concurrency limit is reached waits outside the ready queue:
 * it blocks its key, but no other item. A key needs memory only while it has items.
 */
export class KeyedQueue<T> {
  readonly #concurrency: number;
  readonly #run: (item: T) => Promise<void>;
  /** Per key, the entries behind the one that is running, ready or parked. */
  readonly #behindByKey = new Map<string, Fifo<Entry<T>> | undefined>();
  /** Entries that have taken all their limits and start as soon as a slot is free. */
  readonly #ready = new Fifo<Entry<T>>();
  readonly #limits = new Map<ConcurrencyLimit, LimitState<T>>();
  #running = 0;
  #waiting = 0;
  #quiesced = false;
  #idleWaiters: (() => void)[] = [];

  /** `run` must not reject. */
  constructor(concurrency: number, run: (item: T) => Promise<void>) {
    this.#concurrency = concurrency;
    this.#run = run;
  }

  get running(): number {
    return this.#running;
  }

  /** Items not yet started. */
  get waiting(): number {
    return this.#waiting;
  }

  push(orderingKey: string | undefined, item: T, limits = unlimited): void {
    this.#waiting++;
    const entry = { orderingKey, item, limits };
    if (orderingKey !== undefined) {
      if (this.#behindByKey.has(orderingKey)) return this.#pushBehind(orderingKey, entry);
      // Most keys have a single message at a time, so the queue behind it is created only when needed.
      this.#behindByKey.set(orderingKey, undefined);
    }
    this.#admit(entry);
    this.#startReady();
  }

  #pushBehind(orderingKey: string, entry: Entry<T>): void {
    let behind = this.#behindByKey.get(orderingKey);
    if (behind === undefined) {
      behind = new Fifo();
      this.#behindByKey.set(orderingKey, behind);
    }
    behind.push(entry);
  }

  /** Starts no item until `resume`. Resolves when no item is running. */
  quiesce(): Promise<void> {
    this.#quiesced = true;
    return this.settled();
  }

  resume(): void {
    this.#quiesced = false;
    this.#startReady();
  }

  /** Resolves when no item is running. */
  settled(): Promise<void> {
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Removes and returns all items that have not started. Items of one key are in order. */
  takeWaiting(): T[] {
    const taken: T[] = [];
    for (let next = this.#ready.shift(); next !== undefined; next = this.#ready.shift()) {
      for (const limit of next.limits) this.#limits.get(limit)!.taken--;
      this.#takeHead(next, taken);
    }
    for (const { parked } of this.#limits.values()) {
      for (let next = parked.shift(); next !== undefined; next = parked.shift()) this.#takeHead(next, taken);
    }
    // The remaining entries belong to keys with a running item.
    for (const behind of this.#behindByKey.values()) if (behind !== undefined) drain(behind, taken);
    this.#waiting = 0;
    return taken;
  }

  #takeHead({ orderingKey, item }: Entry<T>, into: T[]): void {
    into.push(item);
    if (orderingKey === undefined) return;
    const behind = this.#behindByKey.get(orderingKey);
    this.#behindByKey.delete(orderingKey);
    if (behind !== undefined) drain(behind, into);
  }

  /** Makes the first entry of a key ready, or parks it if one of its limits is reached. */
  #admit(entry: Entry<T>): void {
    for (const limit of entry.limits) {
      const state = this.#stateOf(limit);
      if (state.taken < limit.max) continue;
      state.parked.push(entry);
      return;
    }
    // All limits or none: an entry that waits for one limit must not occupy another.
    for (const limit of entry.limits) this.#limits.get(limit)!.taken++;
    this.#ready.push(entry);
  }

  #stateOf(limit: ConcurrencyLimit): LimitState<T> {
    let state = this.#limits.get(limit);
    if (state === undefined) {
      state = { taken: 0, parked: new Fifo() };
      this.#limits.set(limit, state);
    }
    return state;
  }

  #startReady(): void {
    while (!this.#quiesced && this.#running < this.#concurrency) {
      const next = this.#ready.shift();
      if (next === undefined) return;
      this.#waiting--;
      this.#running++;
      const ended = (): void => this.#ended(next);
      // The slot must be freed even if `run` breaks its contract and rejects.
      void this.#run(next.item).then(ended, ended);
    }
  }

  #ended({ orderingKey, limits }: Entry<T>): void {
    this.#running--;
    for (const limit of limits) this.#limits.get(limit)!.taken--;
    // Parked entries come before the next entry of this key, which was pushed later.
    for (const limit of limits) this.#admitParked(limit);
    if (orderingKey !== undefined) {
      const next = this.#behindByKey.get(orderingKey)?.shift();
      if (next === undefined) this.#behindByKey.delete(orderingKey);
      else this.#admit(next);
    }
    this.#startReady();
    if (this.#running === 0 && this.#idleWaiters.length > 0) {
      const waiters = this.#idleWaiters;
      this.#idleWaiters = [];
      for (const resolve of waiters) resolve();
    }
  }

  /** Terminates: each entry either takes this limit or is parked for another one. */
  #admitParked(limit: ConcurrencyLimit): void {
    const state = this.#limits.get(limit)!;
    while (state.taken < limit.max) {
      const next = state.parked.shift();
      if (next === undefined) return;
      this.#admit(next);
    }
  }
}

function drain<T>(entries: Fifo<Entry<T>>, into: T[]): void {
  for (let next = entries.shift(); next !== undefined; next = entries.shift()) into.push(next.item);
}
