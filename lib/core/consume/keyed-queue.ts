import { Fifo } from '../runtime/fifo.js';

/**
 * How many items that share it may run at once, within the concurrency of the lanes that they are pushed to.
 */
export interface ConcurrencyLimit {
  readonly max: number;
}

interface Entry<T> {
  readonly orderingKey: string | undefined;
  readonly item: T;
  readonly bounds: readonly ConcurrencyLimit[];
}

/** A bound as these lanes know it. */
interface LimitState<T> {
  /** Entries that run or stand in line, at most the limit. */
  taken: number;
  /** Entries that wait for it, each at the head of its lane. */
  readonly parked: Fifo<Entry<T>>;
}

const unbounded: readonly ConcurrencyLimit[] = [];

/**
 * Runs items with at most `concurrency` at once; those of one lane strictly one after another, in the order
 * in which they came. A lane whose item has ended goes to the back of the line, so a busy key does not starve
 * the others. An item at one of its bounds waits beside the line, holding its lane and nothing else. Lanes
 * exist only while they hold something.
 */
export class KeyedQueue<T> {
  readonly #concurrency: number;
  readonly #run: (item: T) => Promise<void>;
  /** Items of a lane behind the one that runs, stands in `#ready` or is parked. */
  readonly #lanes = new Map<string, Fifo<Entry<T>> | undefined>();
  /** Each has a place in all its bounds, so that it can start as soon as there is a slot. */
  readonly #ready = new Fifo<Entry<T>>();
  readonly #bounds = new Map<ConcurrencyLimit, LimitState<T>>();
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

  push(orderingKey: string | undefined, item: T, bounds = unbounded): void {
    this.#waiting++;
    const entry = { orderingKey, item, bounds };
    if (orderingKey !== undefined) {
      if (this.#lanes.has(orderingKey)) return this.#pushBehind(orderingKey, entry);
      // Most keys have one message at a time: nothing is made for those behind it until there is one.
      this.#lanes.set(orderingKey, undefined);
    }
    this.#admit(entry);
    this.#startReady();
  }

  #pushBehind(orderingKey: string, entry: Entry<T>): void {
    let behind = this.#lanes.get(orderingKey);
    if (behind === undefined) {
      behind = new Fifo();
      this.#lanes.set(orderingKey, behind);
    }
    behind.push(entry);
  }

  /** Starts nothing more until `proceed`; resolves when nothing runs. */
  quiesce(): Promise<void> {
    this.#quiesced = true;
    return this.settled();
  }

  resume(): void {
    this.#quiesced = false;
    this.#startReady();
  }

  /** Resolves when nothing runs, at once if so already. */
  settled(): Promise<void> {
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Takes out everything that has not started, in no particular order over lanes. */
  takeWaiting(): T[] {
    const taken: T[] = [];
    for (let next = this.#ready.shift(); next !== undefined; next = this.#ready.shift()) {
      for (const bound of next.bounds) this.#bounds.get(bound)!.taken--;
      this.#takeHead(next, taken);
    }
    for (const { parked } of this.#bounds.values()) {
      for (let next = parked.shift(); next !== undefined; next = parked.shift()) this.#takeHead(next, taken);
    }
    // What is left belongs to lanes whose first item runs.
    for (const behind of this.#lanes.values()) if (behind !== undefined) drain(behind, taken);
    this.#waiting = 0;
    return taken;
  }

  #takeHead({ orderingKey, item }: Entry<T>, into: T[]): void {
    into.push(item);
    if (orderingKey === undefined) return;
    const behind = this.#lanes.get(orderingKey);
    this.#lanes.delete(orderingKey);
    if (behind !== undefined) drain(behind, into);
  }

  /** Puts the head of a lane in line, or beside it where one of its bounds is reached. */
  #admit(entry: Entry<T>): void {
    for (const bound of entry.bounds) {
      const state = this.#stateOf(bound);
      if (state.taken < bound.max) continue;
      state.parked.push(entry);
      return;
    }
    // All places or none: who waits for one must not hold another.
    for (const bound of entry.bounds) this.#bounds.get(bound)!.taken++;
    this.#ready.push(entry);
  }

  #stateOf(bound: ConcurrencyLimit): LimitState<T> {
    let state = this.#bounds.get(bound);
    if (state === undefined) {
      state = { taken: 0, parked: new Fifo() };
      this.#bounds.set(bound, state);
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
      // A slot must come back whatever happens.
      void this.#run(next.item).then(ended, ended);
    }
  }

  #ended({ orderingKey, bounds }: Entry<T>): void {
    this.#running--;
    for (const bound of bounds) this.#bounds.get(bound)!.taken--;
    // Before the lane's next one, which came after them.
    for (const bound of bounds) this.#admitParked(bound);
    if (orderingKey !== undefined) {
      const next = this.#lanes.get(orderingKey)?.shift();
      if (next === undefined) this.#lanes.delete(orderingKey);
      else this.#admit(next);
    }
    this.#startReady();
    if (this.#running === 0 && this.#idleWaiters.length > 0) {
      const waiters = this.#idleWaiters;
      this.#idleWaiters = [];
      for (const resolve of waiters) resolve();
    }
  }

  /** Each that leaves takes a place here or waits for another bound, so this ends. */
  #admitParked(bound: ConcurrencyLimit): void {
    const state = this.#bounds.get(bound)!;
    while (state.taken < bound.max) {
      const next = state.parked.shift();
      if (next === undefined) return;
      this.#admit(next);
    }
  }
}

function drain<T>(entries: Fifo<Entry<T>>, into: T[]): void {
  for (let next = entries.shift(); next !== undefined; next = entries.shift()) into.push(next.item);
}
