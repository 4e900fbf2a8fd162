import { PartitionBatcher, removeFrom, type PendingRecord } from './partition-batcher.js';

/** Bytes that one partition receives before the next one is chosen: `batch.size` of the Java client. */
const stickyBytesLimit = 16 * 1024;

/** The records of one topic that are not confirmed yet. */
export class TopicAccumulator {
  /** Indexed by partition; partitions below the highest one that was written to have one, too. */
  readonly batchers: PartitionBatcher[] = [];
  /** Records that arrived before the partition count was known, in order. */
  unrouted: PendingRecord[] = [];
  isFetchingMetadata = false;
  #partitionCount = 0;
  #stickyPartition: number | undefined;
  /** Bytes sent to the sticky partition since it was chosen. */
  #stickyBytes = 0;

  constructor(readonly topic: string) {}

  batcher(partition: number): PartitionBatcher {
    while (this.batchers.length <= partition) {
      this.batchers.push(new PartitionBatcher(this.topic, this.batchers.length));
    }
    return this.batchers[partition]!;
  }

  /** Removes a record that is not in flight. Returns false if it is in flight or not here. */
  remove(record: PendingRecord): boolean {
    return removeFrom(this.unrouted, record) || this.batchers.some((batcher) => batcher.removeQueued(record));
  }

  /**
   * The partition for records without a key. It is sticky: records that arrive while a request is in flight
   * then share the next request. Spread over all partitions, each record would need a request of its own.
   */
  stickyPartition(partitionCount: number, random: () => number): number {
    this.#partitionCount = partitionCount;
    // Random, so that producers that start together do not all write to partition 0.
    if (this.#stickyPartition === undefined || this.#stickyPartition >= partitionCount)
      this.#stickyPartition = Math.floor(random() * partitionCount);
    return this.#stickyPartition;
  }

  /** Counts what was sent; after `stickyBytesLimit` another partition becomes the sticky one. */
  countSent(partition: number, bytes: number): void {
    if (partition !== this.#stickyPartition) return;
    this.#stickyBytes += bytes;
    if (this.#stickyBytes >= stickyBytesLimit) this.moveStickyFrom(partition);
  }

  /** Chooses another sticky partition: an idle one if there is any, else one that is not backing off. */
  moveStickyFrom(partition: number): void {
    if (partition !== this.#stickyPartition) return;
    this.#stickyBytes = 0;
    this.#stickyPartition =
      this.#nextPartition(partition, (phase) => phase === 'idle') ??
      this.#nextPartition(partition, (phase) => phase !== 'backing-off') ??
      (partition + 1) % this.#partitionCount;
  }

  #nextPartition(
    after: number,
    isSuitable: (phase: PartitionBatcher['phase']) => boolean,
  ): number | undefined {
    for (let i = 1; i <= this.#partitionCount; i++) {
      const partition = (after + i) % this.#partitionCount;
      if (isSuitable(this.batchers[partition]?.phase ?? 'idle')) return partition;
    }
    return undefined;
  }
}
