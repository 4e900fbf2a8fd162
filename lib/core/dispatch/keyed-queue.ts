import { Fifo } from '../runtime/fifo.js';

/**
 * A limit, below the concurrency of the queue, that several items share: the concurrency of one handler.
 */
export interface ConcurrencyLimit {
  readonly max: number;
}

/** An item from `push` to its end. Only the queue changes it. */
export class QueueEntry<T> {
  readonly orderingKey: string | undefined;
  readonly item: T;
  readonly limits: readonly ConcurrencyLimit[];
  state: 'queued' | 'running' | 'suspended' | 'left' | 'interrupted' | 'ended' = 'queued';
  /** Whether the next entry of the key waits for this one. */
  holdsKey = false;
  /** Set while a suspended entry waits for a slot. */
  onSlot: ((hasSlot: boolean) => void) | undefined;

  constructor(orderingKey: string | undefined, item: T, limits: readonly ConcurrencyLimit[]) {
    this.orderingKey = orderingKey;
    this.item = item;
    this.limits = limits;
  }
}

/** What the queue tracks per concurrency limit. */
interface LimitState<T> {
  /** Entries that are running or ready, at most `max`. */
  taken: number;
  /** Entries that wait for the limit, each the first of its key. */
  readonly parked: Fifo<QueueEntry<T>>;
}

const unlimited: readonly ConcurrencyLimit[] = [];

/**
 * Runs items with a concurrency limit, and the items of one key strictly one after another, in the order in
 * which they were pushed. After each item, its key moves to the end of the ready queue, so that a busy key
 * does not starve the others. An item whose own concurrency limit is reached waits outside the ready queue:
 * it blocks its key, but no other item. A key needs memory only while it has items.
 *
 * A running item that has to wait is suspended: it gives its slot to others and keeps its key.
 */
export class KeyedQueue<T> {
  readonly #concurrency: number;
  readonly #maxSuspended: number;
  readonly #onStart: (item: T, entry: QueueEntry<T>) => void;
  /** Per key, the entries behind the one that holds it. */
  readonly #behindByKey = new Map<string, Fifo<QueueEntry<T>> | undefined>();
  /** Entries that have taken all their limits and start as soon as a slot is free. */
  readonly #ready = new Fifo<QueueEntry<T>>();
  /** The same for readmitted entries, which continue before others start. */
  readonly #readmitted = new Fifo<QueueEntry<T>>();
  /** Entries that wait for a slot again. */
  readonly #awaitingSlot = new Set<QueueEntry<T>>();
  readonly #limits = new Map<ConcurrencyLimit, LimitState<T>>();
  #running = 0;
  #suspended = 0;
  #waiting = 0;
  #quiesced = false;
  #idleWaiters: (() => void)[] = [];

  /**
   * @param onStart starts an item; `end` must follow
   * @param maxSuspended number of suspended items at which no further item starts
   */
  constructor(
    concurrency: number,
    onStart: (item: T, entry: QueueEntry<T>) => void,
    maxSuspended = Infinity,
  ) {
    this.#concurrency = concurrency;
    this.#onStart = onStart;
    this.#maxSuspended = maxSuspended;
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
    this.#enqueue(new QueueEntry(orderingKey, item, limits));
  }

  /** Ends an entry that has started, and frees its slot and its key. */
  end(entry: QueueEntry<T>): void {
    this.#stop(entry, 'ended');
    this.#freeKey(entry);
    this.#continue();
  }

  /** Frees the slot of a running entry, but not its key. */
  suspend(entry: QueueEntry<T>): void {
    this.#suspended++;
    this.#stop(entry, 'suspended');
    this.#continue();
  }

  /** Frees the slot and the key of an entry. */
  leave(entry: QueueEntry<T>): void {
    this.#stop(entry, 'left');
    this.#freeKey(entry);
    this.#continue();
  }

  /**
   * Waits until a suspended entry has a slot again and one that has left its key too. Resolves with false if
   * the wait was interrupted.
   */
  readmit(entry: QueueEntry<T>): Promise<boolean> {
    return new Promise((resolve) => {
      entry.onSlot = resolve;
      this.#awaitingSlot.add(entry);
      if (!entry.holdsKey) return this.#enqueue(entry);
      this.#admit(entry);
      this.#startReady();
    });
  }

  /** Interrupts `readmit` for the items that match. */
  interrupt(isMatch: (item: T) => boolean): void {
    for (const entry of this.#awaitingSlot) if (isMatch(entry.item)) this.#endWait(entry, false);
  }

  /**
   * Counts a suspended entry, or one that has left, as running again, beyond the concurrency and the
   * limits: its wait was interrupted, and all that remains is to settle it.
   */
  interrupted(entry: QueueEntry<T>): void {
    if (entry.state === 'suspended') this.#suspended--;
    this.#running++;
    entry.state = 'interrupted';
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
      this.#releaseLimits(next);
      this.#takeHolder(next, taken);
    }
    for (const { parked } of this.#limits.values()) {
      for (let left = parked.size; left > 0; left--) {
        const next = parked.shift()!;
        if (next.state === 'queued') this.#takeHolder(next, taken);
        else parked.push(next);
      }
    }
    // The remaining entries belong to keys that a started item holds.
    for (const behind of this.#behindByKey.values()) if (behind !== undefined) takeQueued(behind, taken);
    this.#waiting = 0;
    return taken;
  }

  #takeHolder(entry: QueueEntry<T>, into: T[]): void {
    into.push(entry.item);
    if (!entry.holdsKey) return;
    const behind = this.#behindByKey.get(entry.orderingKey!);
    if (behind !== undefined) takeQueued(behind, into);
    this.#freeKey(entry);
  }

  #enqueue(entry: QueueEntry<T>): void {
    const { orderingKey } = entry;
    if (orderingKey !== undefined) {
      if (this.#behindByKey.has(orderingKey)) return this.#pushBehind(orderingKey, entry);
      // Most keys have a single message at a time, so the queue behind it is created only when needed.
      this.#behindByKey.set(orderingKey, undefined);
      entry.holdsKey = true;
    }
    this.#admit(entry);
    this.#startReady();
  }

  #pushBehind(orderingKey: string, entry: QueueEntry<T>): void {
    let behind = this.#behindByKey.get(orderingKey);
    if (behind === undefined) {
      behind = new Fifo();
      this.#behindByKey.set(orderingKey, behind);
    }
    behind.push(entry);
  }

  /** Makes an entry that holds its key ready, or parks it if one of its limits is reached. */
  #admit(entry: QueueEntry<T>): void {
    for (const limit of entry.limits) {
      const state = this.#stateOf(limit);
      if (state.taken < limit.max) continue;
      state.parked.push(entry);
      return;
    }
    // All limits or none: an entry that waits for one limit must not occupy another.
    for (const limit of entry.limits) this.#limits.get(limit)!.taken++;
    if (entry.state === 'queued') this.#ready.push(entry);
    else this.#readmitted.push(entry);
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
      const next = this.#readmitted.shift() ?? this.#nextNew();
      if (next === undefined) return;
      if (next.state === 'queued') this.#start(next);
      else if (next.onSlot !== undefined) this.#endWait(next, true);
      else this.#skip(next);
    }
  }

  #nextNew(): QueueEntry<T> | undefined {
    // A running item may be suspended too.
    return this.#suspended + this.#running < this.#maxSuspended ? this.#ready.shift() : undefined;
  }

  #start(entry: QueueEntry<T>): void {
    this.#waiting--;
    this.#running++;
    entry.state = 'running';
    this.#onStart(entry.item, entry);
  }

  #endWait(entry: QueueEntry<T>, hasSlot: boolean): void {
    const onSlot = entry.onSlot!;
    entry.onSlot = undefined;
    this.#awaitingSlot.delete(entry);
    if (hasSlot) {
      this.#running++;
      if (entry.state === 'suspended') this.#suspended--;
      entry.state = 'running';
    }
    onSlot(hasSlot);
  }

  /** An entry whose wait for a slot was interrupted while it was queued. */
  #skip(entry: QueueEntry<T>): void {
    this.#releaseLimits(entry);
    if (entry.state === 'ended') this.#freeKey(entry);
  }

  #continue(): void {
    this.#startReady();
    if (this.#running === 0 && this.#idleWaiters.length > 0) {
      const waiters = this.#idleWaiters;
      this.#idleWaiters = [];
      for (const resolve of waiters) resolve();
    }
  }

  #stop(entry: QueueEntry<T>, state: 'suspended' | 'left' | 'ended'): void {
    const before = entry.state;
    entry.state = state;
    if (before === 'suspended') this.#suspended--;
    if (before === 'running' || before === 'interrupted') this.#running--;
    if (before === 'running') this.#releaseLimits(entry);
  }

  /** Parked entries come before the next entry of the key, which was pushed later. */
  #releaseLimits({ limits }: QueueEntry<T>): void {
    for (const limit of limits) this.#limits.get(limit)!.taken--;
    for (const limit of limits) this.#admitParked(limit);
  }

  #freeKey(entry: QueueEntry<T>): void {
    if (!entry.holdsKey) return;
    entry.holdsKey = false;
    const next = this.#behindByKey.get(entry.orderingKey!)?.shift();
    if (next === undefined) {
      this.#behindByKey.delete(entry.orderingKey!);
      return;
    }
    next.holdsKey = true;
    this.#admit(next);
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

/** Started entries stay. */
function takeQueued<T>(entries: Fifo<QueueEntry<T>>, into: T[]): void {
  for (let left = entries.size; left > 0; left--) {
    const next = entries.shift()!;
    if (next.state === 'queued') into.push(next.item);
    else entries.push(next);
  }
}
