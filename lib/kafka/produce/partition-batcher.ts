import type { RecordToSend } from '../client/client.js';

/** A publish that somebody waits for. */
export class PendingRecord {
  constructor(
    readonly record: RecordToSend,
    readonly bytes: number,
    /** The partition that the caller named. */
    readonly partition: number | undefined,
    readonly resolve: () => void,
    readonly reject: (error: Error) => void,
  ) {}
}

/** Most that a record costs in its batch besides its bytes, and a header besides its own. */
const recordOverhead = 32;
const headerOverhead = 10;

/** Bytes of a record in its batch, before compression; never too few. */
export function sizeOf({ key, value, headers }: RecordToSend): number {
  let bytes = recordOverhead + (value?.length ?? 0) + (key === null ? 0 : bytesOf(key));
  for (const name in headers) {
    const held = headers[name]!;
    if (!Array.isArray(held)) bytes += headerBytes(name, held);
    else for (const one of held) bytes += headerBytes(name, one);
  }
  return bytes;
}

function headerBytes(name: string, value: Buffer | string): number {
  return headerOverhead + Buffer.byteLength(name) + bytesOf(value);
}

function bytesOf(value: Buffer | string): number {
  return typeof value === 'string' ? Buffer.byteLength(value) : value.length;
}

export interface BatchLimits {
  readonly maxRecords: number;
  /** A record that is larger goes alone. */
  readonly maxBytes: number;
}

/**
 * What is to be written to one partition, in order; at most one request of it is under way. `due`: it will be sent as soon as there is a
 * producer. `backing-off`: the partition cannot be written for now.
 */
export class PartitionBatcher {
  /** Of the last request. */
  bytesUnderWay = 0;
  phase: 'idle' | 'due' | 'sending' | 'backing-off' = 'idle';
  /** Those under way, then those that wait. */
  #records: PendingRecord[] = [];
  #underWay = 0;
  /** Lengths of the pieces that a batch was cut into because it was too large; the next to send is the last. */
  #pieces: number[] = [];

  constructor(
    readonly topic: string,
    readonly partition: number,
  ) {}

  get isEmpty(): boolean {
    return this.#records.length === 0;
  }

  push(record: PendingRecord): void {
    this.#records.push(record);
  }

  /** The next request's records; they stay in the queue until it is known what became of them. */
  begin({ maxRecords, maxBytes }: BatchLimits): readonly RecordToSend[] {
    const most = Math.min(this.#pieces.at(-1) ?? maxRecords, this.#records.length);
    const batch: RecordToSend[] = [];
    let bytes = 0;
    for (let i = 0; i < most; i++) {
      const next = this.#records[i]!;
      bytes += next.bytes;
      if (i > 0 && bytes > maxBytes) break;
      batch.push(next.record);
    }
    this.#underWay = batch.length;
    this.bytesUnderWay = bytes;
    return batch;
  }

  /** Those under way, which are settled now. */
  takeUnderWay(): readonly PendingRecord[] {
    if (this.#underWay === 0) return [];
    const count = this.#underWay;
    this.#underWay = 0;
    this.#pieces.pop();
    if (count < this.#records.length) return this.#records.splice(0, count);
    const all = this.#records;
    this.#records = [];
    return all;
  }

  /** Those that are not under way; nothing of them was ever written. */
  takeUnsent(): readonly PendingRecord[] {
    this.#pieces = [];
    return this.#records.splice(this.#underWay);
  }

  /** The request was not done: its records wait again, first in line. */
  requeueAfterDelay(): void {
    this.#underWay = 0;
  }

  /** The batch under way was too large: its halves come next, in order. A record that was alone is taken out and returned. */
  halve(): PendingRecord | undefined {
    if (this.#underWay <= 1) return this.takeUnderWay()[0];
    const first = Math.ceil(this.#underWay / 2);
    this.#pieces.pop();
    this.#pieces.push(this.#underWay - first, first);
    this.#underWay = 0;
    return undefined;
  }
}
