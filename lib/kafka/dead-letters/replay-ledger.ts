import type { LogEntry, PartitionOffsets } from '../client/client.js';
import { readPartition, type ReadPartitionFields } from './read-partition.js';

/**
 * Which dead letters were replayed or discarded, according to the markers topic. A marker that was written
 * in a transaction counts once the log holds the commit of that transaction. The topic is read uncommitted:
 * a committed read ends before the first open transaction, so a process that leaves one open would hide all
 * later markers.
 */
export class ReplayLedger {
  readonly #fields: ReadPartitionFields;
  readonly #markersTopic: string;
  /** Keys of the markers that count. */
  readonly #keys = new Set<string>();
  readonly #nextOffsets = new Map<number, number>();
  /** Keys of the markers of open transactions, by partition and producer. */
  readonly #uncommitted = new Map<string, string[]>();

  constructor(fields: ReadPartitionFields, markersTopic: string) {
    this.#fields = fields;
    this.#markersTopic = markersTopic;
  }

  has(key: string): boolean {
    return this.#keys.has(key);
  }

  add(key: string): void {
    this.#keys.add(key);
  }

  /**
   * Reads the markers that were written since the last read.
   * @param ends offsets of the partitions of the markers topic
   */
  async read(ends: readonly PartitionOffsets[]): Promise<void> {
    for (const { partition, low } of ends)
      await this.#readPartition(partition, this.#nextOffsets.get(partition) ?? low);
  }

  /** Like `read`, for the partitions that were read before. */
  async readNew(): Promise<void> {
    for (const [partition, nextOffset] of this.#nextOffsets) await this.#readPartition(partition, nextOffset);
  }

  /**
   * Whether the log does not show the commit of an added marker yet. Until then other readers ignore that
   * marker.
   */
  get isAheadOfLog(): boolean {
    return [...this.#uncommitted.values()].some((keys) => keys.some((key) => this.#keys.has(key)));
  }

  /**
   * Number of marked dead letters within these offsets. A marker from before the topic was recreated and a
   * new one of the same offset count once.
   */
  countWithin(ends: readonly PartitionOffsets[]): number {
    const positions = new Set<string>();
    for (const key of this.#keys) {
      const [partition, offset] = key.split('/', 2).map(Number);
      const range = ends.find((one) => one.partition === partition);
      if (range !== undefined && offset! >= range.low && offset! < range.high)
        positions.add(`${partition}/${offset}`);
    }
    return positions.size;
  }

  async #readPartition(partition: number, from: number): Promise<void> {
    const at = { topic: this.#markersTopic, partition };
    for await (const { entries, nextOffset } of readPartition(this.#fields, at, 'all', from)) {
      for (const entry of entries) this.#apply(partition, entry);
      this.#nextOffsets.set(partition, nextOffset);
    }
  }

  #apply(partition: number, { key, value, producer, transactionEnd }: LogEntry): void {
    const transaction = `${partition}/${producer}`;
    if (transactionEnd !== undefined) {
      const ended = this.#uncommitted.get(transaction) ?? [];
      this.#uncommitted.delete(transaction);
      if (transactionEnd === 'commit') for (const markerKey of ended) this.#keys.add(markerKey);
      return;
    }
    if (key === null || value === null) return;
    if (producer === undefined) {
      this.#keys.add(key.toString());
      return;
    }
    const uncommitted = this.#uncommitted.get(transaction) ?? [];
    this.#uncommitted.set(transaction, uncommitted);
    uncommitted.push(key.toString());
  }
}
