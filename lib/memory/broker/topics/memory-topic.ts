import { copyHeaders, type MessageHeaders } from '../../../core/message/headers.js';
import { BrokerError } from '../broker-error.js';
import { Mailbox } from '../mailbox.js';
import { murmur2 } from '../../../driver-kit/log/murmur2.js';

export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

export interface MemoryRecord extends TopicPartition {
  readonly offset: number;
  readonly key: string | undefined;
  /** `null` is a tombstone. */
  readonly value: Buffer | null;
  readonly headers: MessageHeaders;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp: number;
}

export interface RecordToAppend {
  readonly key?: string | undefined;
  readonly value: Buffer | null;
  readonly headers: MessageHeaders;
  readonly timestamp: number;
  readonly partition?: number | undefined;
}

/** A Kafka topic: append-only partitions that are read by offset, without compaction and retention. */
export class MemoryTopic {
  readonly name: string;
  readonly #partitions: MemoryRecord[][] = [];
  readonly #listeners = new Set<Mailbox<MemoryRecord>>();
  #nextWithoutKey = 0;

  constructor(name: string, partitions: number) {
    this.name = name;
    this.grow(partitions);
  }

  get partitionCount(): number {
    return this.#partitions.length;
  }

  /** Adds partitions up to `count`; partitions are never removed. True if it added any. */
  grow(count: number): boolean {
    if (!Number.isSafeInteger(count) || count < 1) {
      throw new RangeError(`Topic "${this.name}" cannot have ${count} partitions`);
    }
    const before = this.partitionCount;
    while (this.#partitions.length < count) this.#partitions.push([]);
    return this.partitionCount > before;
  }

  append(record: RecordToAppend): { partition: number; offset: number } {
    const partition = record.partition ?? this.#choosePartition(record.key);
    const log = this.#log(partition);
    const stored: MemoryRecord = {
      topic: this.name,
      partition,
      offset: log.length,
      key: record.key,
      value: record.value,
      headers: copyHeaders(record.headers),
      timestamp: record.timestamp,
    };
    log.push(stored);
    for (const listener of this.#listeners) listener.post(stored);
    return { partition, offset: stored.offset };
  }

  /** The offset of the partition's next record. */
  endOffset(partition: number): number {
    return this.#log(partition).length;
  }

  read(partition: number, offset: number, max: number): readonly MemoryRecord[] {
    return this.#log(partition).slice(Math.max(0, offset), Math.max(0, offset) + max);
  }

  /**
   * Calls `listener` with each record after the call stack that appended it has returned. It must not
   * throw.
   */
  onAppend(listener: (record: MemoryRecord) => void): () => void {
    const mailbox = new Mailbox(listener);
    this.#listeners.add(mailbox);
    return () => {
      this.#listeners.delete(mailbox);
      mailbox.withdraw();
    };
  }

  /** Removes all listeners. */
  close(): void {
    for (const mailbox of this.#listeners) mailbox.withdraw();
    this.#listeners.clear();
  }

  #choosePartition(key: string | undefined): number {
    if (key === undefined) return this.#nextWithoutKey++ % this.partitionCount;
    // As Kafka's partitioner does: clears the sign bit.
    return (murmur2(Buffer.from(key)) & 0x7fffffff) % this.partitionCount;
  }

  #log(partition: number): MemoryRecord[] {
    const log = this.#partitions[partition];
    if (log === undefined) throw new BrokerError(404, `Topic "${this.name}" has no partition ${partition}`);
    return log;
  }
}
