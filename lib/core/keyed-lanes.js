const unbounded = [];
/**
 * Runs items with at most `concurrency` at once; those of one lane strictly one after another, in the order in which they came.
 * A lane whose item has ended goes to the back of the line, so a busy key does not starve the others. An item at one of its bounds
 * waits beside the line, holding its lane and nothing else. Lanes exist only while they hold something.
 */
export class KeyedLanes {
  #concurrency;
  #run;
  /** Items of a lane behind the one that runs, stands in `#ready` or is parked. */
  #lanes = new Map();
  /** Each has a place in all its bounds, so that it can start as soon as there is a slot. */
  #ready = new Fifo();
  #bounds = new Map();
  #running = 0;
  #waiting = 0;
  #halted = false;
  #idleWaiters = [];
  /** `run` must not reject. */
  constructor(concurrency, run) {
    this.#concurrency = concurrency;
    this.#run = run;
  }
  get running() {
    return this.#running;
  }
  /** Items not yet started. */
  get waiting() {
    return this.#waiting;
  }
  push(lane, item, bounds = unbounded) {
    this.#waiting++;
    const entry = { lane, item, bounds };
    if (lane !== undefined) {
      const behind = this.#lanes.get(lane);
      if (behind !== undefined) {
        behind.push(entry);
        return;
      }
      this.#lanes.set(lane, new Fifo());
    }
    this.#admit(entry);
    this.#startReady();
  }
  /** Starts nothing more until `proceed`; resolves when nothing runs. */
  halt() {
    this.#halted = true;
    return this.settled();
  }
  proceed() {
    this.#halted = false;
    this.#startReady();
  }
  /** Resolves when nothing runs, at once if so already. */
  settled() {
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }
  /** Takes out everything that has not started, in no particular order over lanes. */
  takeWaiting() {
    const taken = [];
    for (let next = this.#ready.shift(); next !== undefined; next = this.#ready.shift()) {
      for (const bound of next.bounds) this.#bounds.get(bound).taken--;
      this.#takeHead(next, taken);
    }
    for (const { parked } of this.#bounds.values()) {
      for (let next = parked.shift(); next !== undefined; next = parked.shift()) this.#takeHead(next, taken);
    }
    // What is left belongs to lanes whose first item runs.
    for (const behind of this.#lanes.values()) drain(behind, taken);
    this.#waiting = 0;
    return taken;
  }
  #takeHead({ lane, item }, into) {
    into.push(item);
    if (lane === undefined) return;
    const behind = this.#lanes.get(lane);
    this.#lanes.delete(lane);
    if (behind !== undefined) drain(behind, into);
  }
  /** Puts the head of a lane in line, or beside it where one of its bounds is reached. */
  #admit(entry) {
    for (const bound of entry.bounds) {
      const state = this.#stateOf(bound);
      if (state.taken < bound.limit) continue;
      state.parked.push(entry);
      return;
    }
    // All places or none: who waits for one must not hold another.
    for (const bound of entry.bounds) this.#bounds.get(bound).taken++;
    this.#ready.push(entry);
  }
  #stateOf(bound) {
    let state = this.#bounds.get(bound);
    if (state === undefined) {
      state = { taken: 0, parked: new Fifo() };
      this.#bounds.set(bound, state);
    }
    return state;
  }
  #startReady() {
    while (!this.#halted && this.#running < this.#concurrency) {
      const next = this.#ready.shift();
      if (next === undefined) return;
      this.#waiting--;
      this.#running++;
      const ended = () => this.#ended(next);
      // A slot must come back whatever happens.
      void this.#run(next.item).then(ended, ended);
    }
  }
  #ended({ lane, bounds }) {
    this.#running--;
    for (const bound of bounds) this.#bounds.get(bound).taken--;
    // Before the lane's next one, which came after them.
    for (const bound of bounds) this.#admitParked(bound);
    if (lane !== undefined) {
      const next = this.#lanes.get(lane)?.shift();
      if (next === undefined) this.#lanes.delete(lane);
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
  #admitParked(bound) {
    const state = this.#bounds.get(bound);
    while (state.taken < bound.limit) {
      const next = state.parked.shift();
      if (next === undefined) return;
      this.#admit(next);
    }
  }
}
function drain(entries, into) {
  for (let next = entries.shift(); next !== undefined; next = entries.shift()) into.push(next.item);
}
/** A queue whose `shift` does not move what stays. `undefined` cannot be an item. */
class Fifo {
  #items = [];
  #head = 0;
  push(item) {
    this.#items.push(item);
  }
  shift() {
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
