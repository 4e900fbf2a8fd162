import type { LogEntry, PartitionEnds } from '../client/client.js';
import { logSlices, type LogSlicesFields } from './log-slices.js';

/**
 * Which letters are done with, as their marks say. A mark of a transaction counts once that is committed, which its end in the log tells:
 * asked for what is committed alone, the broker would keep back all that lies behind a transaction that somebody else has left open.
 */
export class ReplayLedger {
  readonly #fields: LogSlicesFields;
  readonly #topic: string;
  readonly #keys = new Set<string>();
  /** By partition, where to go on. */
  readonly #next = new Map<number, number>();
  /** By partition and producer, the marks of its open transaction. */
  readonly #undecided = new Map<string, string[]>();

  constructor(fields: LogSlicesFields, topic: string) {
    this.#fields = fields;
    this.#topic = topic;
  }

  has(key: string): boolean {
    return this.#keys.has(key);
  }

  add(key: string): void {
    this.#keys.add(key);
  }

  /** Takes in what has come since the last time. @param ends of the marks' topic */
  async read(ends: readonly PartitionEnds[]): Promise<void> {
    for (const { partition, low } of ends) await this.#readFrom(partition, this.#next.get(partition) ?? low);
  }

  /** The same of the partitions that were read before. */
  async readOn(): Promise<void> {
    for (const [partition, next] of this.#next) await this.#readFrom(partition, next);
  }

  /** Whether some of what was added is not committed as far as the log tells: whoever reads it now does not count that. */
  get isBehind(): boolean {
    return [...this.#undecided.values()].some((marks) => marks.some((mark) => this.#keys.has(mark)));
  }

  /** How many letters between these ends are marked; two that lay in one place, before and after it was made anew, count once. */
  countWithin(ends: readonly PartitionEnds[]): number {
    const places = new Set<string>();
    for (const key of this.#keys) {
      const [partition, offset] = key.split('/', 2).map(Number);
      const range = ends.find((one) => one.partition === partition);
      if (range !== undefined && offset! >= range.low && offset! < range.high)
        places.add(`${partition}/${offset}`);
    }
    return places.size;
  }

  async #readFrom(partition: number, from: number): Promise<void> {
    const at = { topic: this.#topic, partition };
    for await (const { entries, nextOffset } of logSlices(this.#fields, at, 'all', from)) {
      for (const entry of entries) this.#take(partition, entry);
      this.#next.set(partition, nextOffset);
    }
  }

  #take(partition: number, { key, value, producer, marker }: LogEntry): void {
    const transaction = `${partition}/${producer}`;
    if (marker !== undefined) {
      const decided = this.#undecided.get(transaction) ?? [];
      this.#undecided.delete(transaction);
      if (marker === 'commit') for (const mark of decided) this.#keys.add(mark);
      return;
    }
    if (key === null || value === null) return;
    if (producer === undefined) {
      this.#keys.add(key.toString());
      return;
    }
    const undecided = this.#undecided.get(transaction) ?? [];
    this.#undecided.set(transaction, undecided);
    undecided.push(key.toString());
  }
}
