import type { PublishCancellation } from '../../core/port/publish-cancellation.js';
import type { RecordToSend } from '../client/client.js';

/** A record whose publisher waits for the confirmation. */
export class PendingRecord {
  constructor(
    readonly record: RecordToSend,
    readonly bytes: number,
    /** The partition that the publisher named. */
    readonly partition: number | undefined,
    readonly resolve: () => void,
    readonly reject: (error: Error) => void,
    readonly cancellation?: PublishCancellation,
  ) {}
}

/** Upper bounds of the framing bytes that a record batch adds for each record, and for each header. */
const recordOverhead = 32;
const headerOverhead = 10;

/**
 * Bytes of a record in a record batch before compression, rounded up: an estimate below the real size could
 * exceed the limit.
 */
export function sizeOf({ key, value, headers }: RecordToSend): number {
  let bytes = recordOverhead + (value?.length ?? 0) + (key === null ? 0 : byteLengthOf(key));
  for (const name in headers) {
    const values = headers[name]!;
    if (!Array.isArray(values)) bytes += headerBytes(name, values);
    else for (const value of values) bytes += headerBytes(name, value);
  }
  return bytes;
}

function headerBytes(name: string, value: Buffer | string): number {
  return headerOverhead + Buffer.byteLength(name) + byteLengthOf(value);
}

function byteLengthOf(value: Buffer | string): number {
  return typeof value === 'string' ? Buffer.byteLength(value) : value.length;
}

export interface BatchLimits {
  readonly maxRecords: number;
  /** A larger record is sent in a batch of its own. */
  readonly maxBytes: number;
}

/**
 * The records of one partition in the order in which they were published. At most one request per partition
 * is in flight: with two, a failed first request that is sent again would be written behind the second.
 *
 * Phases. `ready`: sent as soon as a producer is open. `backing-off`: the partition leader is unavailable.
 */
export class PartitionBatcher {
  phase: 'idle' | 'ready' | 'in-flight' | 'backing-off' = 'idle';
  /** Bytes of the last request. */
  inFlightBytes = 0;
  /** Records of the request in flight, then the queued ones. */
  #records: PendingRecord[] = [];
  #inFlight = 0;
  /** Record counts of the batches into which a too large batch was split; the last entry is sent next. */
  #splitCounts: number[] = [];

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

  /** Records of the next request. They stay here until the outcome of the request is known. */
  beginRequest({ maxRecords, maxBytes }: BatchLimits): readonly RecordToSend[] {
    const maxCount = Math.min(this.#splitCounts.at(-1) ?? maxRecords, this.#records.length);
    const batch: RecordToSend[] = [];
    let bytes = 0;
    for (let i = 0; i < maxCount; i++) {
      const next = this.#records[i]!;
      bytes += next.bytes;
      if (i > 0 && bytes > maxBytes) break;
      batch.push(next.record);
    }
    this.#inFlight = batch.length;
    this.inFlightBytes = bytes;
    return batch;
  }

  /** Removes the records in flight, whose outcome is now known. */
  takeInFlight(): readonly PendingRecord[] {
    if (this.#inFlight === 0) return [];
    const count = this.#inFlight;
    this.#inFlight = 0;
    this.#splitCounts.pop();
    if (count < this.#records.length) return this.#records.splice(0, count);
    const all = this.#records;
    this.#records = [];
    return all;
  }

  /** Removes the queued records, none of which was written. */
  takeQueued(): readonly PendingRecord[] {
    this.#splitCounts = [];
    return this.#records.splice(this.#inFlight);
  }

  /** Removes one queued record. Returns false if it is in flight or not here. */
  removeQueued(record: PendingRecord): boolean {
    return removeFrom(this.#records, record, this.#inFlight);
  }

  /**
   * The request wrote nothing: its records are queued again, before the others. Removes and returns those
   * whose publish was cancelled meanwhile.
   */
  requeueInFlight(): readonly PendingRecord[] {
    const cancelled = this.#records.slice(0, this.#inFlight).filter((each) => each.cancellation?.isCancelled);
    this.#inFlight = 0;
    for (const record of cancelled) this.removeQueued(record);
    return cancelled;
  }

  /**
   * The broker refused the batch in flight as too large: its halves are sent next, in order. A batch of a
   * single record cannot be split: that record is removed and returned.
   */
  splitInFlight(): PendingRecord | undefined {
    if (this.#inFlight <= 1) return this.takeInFlight()[0];
    const first = Math.ceil(this.#inFlight / 2);
    this.#splitCounts.pop();
    this.#splitCounts.push(this.#inFlight - first, first);
    this.#inFlight = 0;
    return undefined;
  }
}

/** Removes an item at or after the index `from`. Returns false if there is none. */
export function removeFrom<T>(items: T[], item: T, from = 0): boolean {
  const index = items.indexOf(item, from);
  if (index < 0) return false;
  items.splice(index, 1);
  return true;
}
