import type { OwnedPartition } from './owned-partition.js';

export interface PartitionDispatcherFields {
  /** False while the sink is paused. */
  readonly isFlowing: () => boolean;
  /** Called after each pass over the partitions. */
  dispatched(): void;
}

/** Records dispatched from one partition before the next one's turn. */
const burst = 16;
/** Records dispatched in one tick of the event loop, so that sockets and timers are served in between. */
const maxPerTick = 512;

/** Dispatches buffered records of the assigned partitions round-robin. */
export class PartitionDispatcher {
  readonly #fields: PartitionDispatcherFields;
  #roundRobin: readonly OwnedPartition[] = [];
  #cursor = 0;
  #leftThisTick = maxPerTick;
  #total = 0;
  #nextTick: NodeJS.Immediate | undefined;
  #isDispatching = false;

  constructor(fields: PartitionDispatcherFields) {
    this.#fields = fields;
  }

  get partitions(): readonly OwnedPartition[] {
    return this.#roundRobin;
  }

  set partitions(partitions: readonly OwnedPartition[]) {
    this.#roundRobin = partitions;
  }

  /** Number of records dispatched so far. */
  get total(): number {
    return this.#total;
  }

  /** Dispatches until the buffers are empty, the sink pauses or the tick's limit is reached. */
  dispatch(): void {
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    let idle = 0;
    while (idle < this.#roundRobin.length && this.#leftThisTick > 0 && this.#fields.isFlowing()) {
      const count = this.#dispatchFrom(this.#roundRobin[this.#cursor++ % this.#roundRobin.length]!);
      idle = count === 0 ? idle + 1 : 0;
    }
    this.#isDispatching = false;
    if (this.#leftThisTick < maxPerTick) this.#dispatchNextTick();
    this.#fields.dispatched();
  }

  /** Dispatches from one partition, in this tick if possible: the next message of a key follows at once. */
  dispatchNow(partition: OwnedPartition): void {
    if (!this.#isDispatching && this.#leftThisTick > 0) this.#dispatchFrom(partition);
    this.#dispatchNextTick();
  }

  stop(): void {
    clearImmediate(this.#nextTick);
  }

  #dispatchFrom(partition: OwnedPartition): number {
    const count = partition.dispatch(burst, this.#fields.isFlowing);
    this.#leftThisTick -= count;
    this.#total += count;
    return count;
  }

  #dispatchNextTick(): void {
    this.#nextTick ??= setImmediate(() => {
      this.#nextTick = undefined;
      this.#leftThisTick = maxPerTick;
      this.dispatch();
    });
  }
}
