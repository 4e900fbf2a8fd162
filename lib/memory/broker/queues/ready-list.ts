import type { MemoryMessage } from '../message.js';

/** A message in a queue. */
export interface QueueEntry {
  readonly message: MemoryMessage;
  /** Position in the queue; a requeued message keeps it. */
  readonly sequence: number;
  readonly priority: number;
  readonly expiresAtMs: number | undefined;
  redelivered: boolean;
  deliveryCount: number;
}

/** Consumed entries are removed in blocks: `Array.shift` would move a long list for each message. */
const blockSize = 1_024;

/** Entries in order of delivery: higher priority first, then by sequence. */
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
    // Most entries go to the end; comparing with the last one avoids the search.
    if (high > low && precedes(this.#entries[high - 1]!, entry)) low = high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (precedes(this.#entries[middle]!, entry)) low = middle + 1;
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

function precedes(a: QueueEntry, b: QueueEntry): boolean {
  return a.priority === b.priority ? a.sequence < b.sequence : a.priority > b.priority;
}
