import type { MemoryMessage } from '../message.js';

/** A message as a queue keeps it. */
export interface QueueEntry {
  readonly message: MemoryMessage;
  /** Position in the queue, kept over redeliveries. */
  readonly sequence: number;
  readonly priority: number;
  readonly expiresAtMs: number | undefined;
  redelivered: boolean;
  deliveryCount: number;
}

/** Consumed places at the front are given up in blocks: `Array.shift` would move a long list at each message. */
const blockSize = 1_024;

/** Entries in the order in which they are to be delivered: higher priority first, then by sequence. */
export class ReadyList {
  #entries: (QueueEntry | undefined)[] = [];
  #start = 0;

  get length(): number {
    return this.#entries.length - this.#start;
  }

  get first(): QueueEntry | undefined {
    return this.#entries[this.#start];
  }

  insert(entry: QueueEntry): void {
    let low = this.#start;
    let high = this.#entries.length;
    // Most entries are the newest of all; a look at the last one saves the search.
    if (high > low && goesBefore(this.#entries[high - 1]!, entry)) low = high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (goesBefore(this.#entries[middle]!, entry)) low = middle + 1;
      else high = middle;
    }
    this.#entries.splice(low, 0, entry);
  }

  takeFirst(): QueueEntry | undefined {
    const entry = this.first;
    if (entry === undefined) return undefined;
    this.#entries[this.#start++] = undefined;
    if (this.#start >= blockSize && this.#start * 2 >= this.#entries.length) {
      this.#entries = this.#entries.slice(this.#start);
      this.#start = 0;
    }
    return entry;
  }

  remove(message: MemoryMessage): boolean {
    const index = this.#entries.findIndex((entry) => entry?.message === message);
    if (index < 0) return false;
    this.#entries.splice(index, 1);
    return true;
  }

  messages(): MemoryMessage[] {
    return this.#entries.slice(this.#start).map((entry) => entry!.message);
  }

  clear(): void {
    this.#entries = [];
    this.#start = 0;
  }
}

function goesBefore(a: QueueEntry, b: QueueEntry): boolean {
  return a.priority === b.priority ? a.sequence < b.sequence : a.priority > b.priority;
}
