import { Fifo } from '../../core/runtime/fifo.js';
import { eligibleAt, type RetryTopicTiming } from '../../driver-kit/log/retry-topic-delays.js';
import type { FetchedRecord } from '../client/client.js';
import { headersAsSent } from '../records.js';

/** The delay of a retry topic, and how far the clock of a record's producer may be ahead. */
export type RetryTopicDelay = Omit<RetryTopicTiming, 'now'>;

/** Limits of what a delay buffer holds. */
export interface DelayBufferBounds {
  readonly records: number;
  readonly bytes: number;
}

interface DelayedRecord {
  readonly record: FetchedRecord;
  readonly eligibleAt: number;
  readonly bytes: number;
}

/** Estimated memory of a record besides its value. */
const recordBytes = 1_000;

/**
 * Fetched records of one partition of a retry topic that are not eligible yet, in offset order: each waits
 * for those before it. Due times rise with the offset except for clock skew and parallel producers; a
 * record may be late by that difference. By its producer's clock, no record is early.
 */
export class DelayBuffer {
  readonly #delay: RetryTopicDelay;
  #records = new Fifo<DelayedRecord>();
  #bytes = 0;

  constructor(delay: RetryTopicDelay) {
    this.#delay = delay;
  }

  get size(): number {
    return this.#records.size;
  }

  /** Offset of the head, for which all other records wait. */
  get firstOffset(): string | undefined {
    return this.#records.first?.record.offset;
  }

  /**
   * Adds a fetched record. Its eligible time is computed here, once: computed again later, a due time or a
   * timestamp in the future would postpone the record each time.
   */
  push(record: FetchedRecord, now: number): void {
    const { headers = {}, timestamp, value } = record;
    const carried = { headers: headersAsSent(headers), timestamp: Number(timestamp) };
    const bytes = recordBytes + (value?.length ?? 0);
    this.#records.push({ record, eligibleAt: eligibleAt(carried, { ...this.#delay, now }), bytes });
    this.#bytes += bytes;
  }

  /** Milliseconds until the head is eligible, negative if it already is; undefined for an empty buffer. */
  waitMs(now: number): number | undefined {
    const { first } = this.#records;
    return first === undefined ? undefined : first.eligibleAt - now;
  }

  /** Removes and returns the head if it is eligible. */
  take(now: number): FetchedRecord | undefined {
    const { first } = this.#records;
    if (first === undefined || first.eligibleAt > now) return undefined;
    this.#bytes -= first.bytes;
    return this.#records.shift()!.record;
  }

  clear(): void {
    this.#records = new Fifo();
    this.#bytes = 0;
  }

  /** Whether the partition should be paused. The last fetch is added as a whole, even beyond the bounds. */
  isFull({ records, bytes }: DelayBufferBounds): boolean {
    return this.size >= records || this.#bytes >= bytes;
  }
}
