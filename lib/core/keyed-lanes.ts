/**
 * Runs items with at most `concurrency` at once; those of one lane strictly one after another, in the order in which they came.
 * A lane whose item has ended goes to the back of the line, so a busy key does not starve the others. Lanes exist only while they
 * hold something.
 */
export class KeyedLanes<T> {
  readonly #concurrency: number;
  readonly #run: (item: T) => Promise<void>;
  /** Items of a lane behind the one that runs or stands in `#ready`. */
  readonly #lanes = new Map<string, Fifo<T>>();
  readonly #ready = new Fifo<{ readonly lane: string | undefined; readonly item: T }>();
  #running = 0;
  #waiting = 0;
  #halted = false;
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

  push(lane: string | undefined, item: T): void {
    this.#waiting++;
    if (lane !== undefined) {
      const behind = this.#lanes.get(lane);
      if (behind !== undefined) {
        behind.push(item);
        return;
      }
      this.#lanes.set(lane, new Fifo());
    }
    this.#ready.push({ lane, item });
    this.#startReady();
  }

  /** Starts nothing more until `proceed`; resolves when nothing runs. */
  halt(): Promise<void> {
    this.#halted = true;
    return this.settled();
  }

  proceed(): void {
    this.#halted = false;
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
      taken.push(next.item);
      if (next.lane !== undefined) this.#drainLane(next.lane, taken);
    }
    // What is left belongs to lanes whose first item runs.
    for (const behind of this.#lanes.values()) {
      for (let item = behind.shift(); item !== undefined; item = behind.shift()) taken.push(item);
    }
    this.#waiting = 0;
    return taken;
  }

  #drainLane(lane: string, into: T[]): void {
    const behind = this.#lanes.get(lane);
    this.#lanes.delete(lane);
    for (let item = behind?.shift(); item !== undefined; item = behind?.shift()) into.push(item);
  }

  #startReady(): void {
    while (!this.#halted && this.#running < this.#concurrency) {
      const next = this.#ready.shift();
      if (next === undefined) return;
      this.#waiting--;
      this.#running++;
      const ended = (): void => this.#ended(next.lane);
      // A slot must come back whatever happens.
      void this.#run(next.item).then(ended, ended);
    }
  }

  #ended(lane: string | undefined): void {
    this.#running--;
    if (lane !== undefined) {
      const item = this.#lanes.get(lane)?.shift();
      if (item === undefined) this.#lanes.delete(lane);
      else this.#ready.push({ lane, item });
    }
    this.#startReady();
    if (this.#running === 0 && this.#idleWaiters.length > 0) {
      const waiters = this.#idleWaiters;
      this.#idleWaiters = [];
      for (const resolve of waiters) resolve();
    }
  }
}

/** A queue whose `shift` does not move what stays. `undefined` cannot be an item. */
class Fifo<T> {
  #items: T[] = [];
  #head = 0;

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#head++;
    if (this.#head * 2 > this.#items.length && this.#head > 32) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    } else if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    return item;
  }
}
