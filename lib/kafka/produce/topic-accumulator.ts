import { PartitionBatcher, type PendingRecord } from './partition-batcher.js';

/** What a partition gets before the next has its turn, as in Kafka's own client. */
const enoughBytes = 16 * 1024;

/** What is on its way to one topic. */
export class TopicAccumulator {
  /** One for each partition that was written to, and for those before it. */
  readonly queues: PartitionBatcher[] = [];
  /** Those that come before the number of partitions is known, in order. */
  waiting: PendingRecord[] = [];
  /** Whether that number is being asked for. */
  isAsking = false;
  #partitions = 0;
  #sticky: number | undefined;
  /** Bytes sent to it since it was chosen. */
  #stuckBytes = 0;

  constructor(readonly topic: string) {}

  queue(partition: number): PartitionBatcher {
    while (this.queues.length <= partition) {
      this.queues.push(new PartitionBatcher(this.topic, this.queues.length));
    }
    return this.queues[partition]!;
  }

  /**
   * Where records without a key go for now. One partition for a while: what comes while a request is under way then goes out together,
   * where spread over all of them each record would have a request of its own.
   */
  sticky(partitions: number, random: () => number): number {
    this.#partitions = partitions;
    // Clients that start together do not all begin with the first.
    if (this.#sticky === undefined || this.#sticky >= partitions)
      this.#sticky = Math.floor(random() * partitions);
    return this.#sticky;
  }

  /** A batch goes out to the partition. Partitions take turns. */
  sent(partition: number, bytes: number): void {
    if (partition !== this.#sticky) return;
    this.#stuckBytes += bytes;
    if (this.#stuckBytes >= enoughBytes) this.leave(partition);
  }

  /** Those that are slow or away are passed over. */
  leave(partition: number): void {
    if (partition !== this.#sticky) return;
    this.#stuckBytes = 0;
    this.#sticky =
      this.#next(partition, (phase) => phase === 'idle') ??
      this.#next(partition, (phase) => phase !== 'backing-off') ??
      (partition + 1) % this.#partitions;
  }

  #next(after: number, isWelcome: (phase: PartitionBatcher['phase']) => boolean): number | undefined {
    for (let i = 1; i <= this.#partitions; i++) {
      const partition = (after + i) % this.#partitions;
      if (isWelcome(this.queues[partition]?.phase ?? 'idle')) return partition;
    }
    return undefined;
  }
}
