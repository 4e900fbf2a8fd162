import { Fifo } from '../../core/runtime/fifo.js';
import { eligibleAt, type RetryTopicTiming } from '../../driver-kit/log/retry-topic-delays.js';
import type { FetchedRecord } from '../client/client.js';
import { carriedHeaders } from '../records.js';

export type DueTimes = Omit<RetryTopicTiming, 'now'>;

/** How much may wait in memory. */
export interface DelayBufferBounds {
  readonly records: number;
  readonly bytes: number;
}

interface WaitingRecord {
  readonly record: FetchedRecord;
  readonly eligibleAt: number;
  readonly bytes: number;
}

/** What a record costs in memory besides its body, roughly. */
const recordBytes = 1_000;

/**
 * Records of a retry topic's partition that were fetched and are not due, in the order of their log: each waits for those before it.
 * Due times rise there but for clocks that differ and for parallel writers, by so much one may be late. None is early by the clock of its writer.
 */
export class DelayBuffer {
  readonly #times: DueTimes;
  #waiting = new Fifo<WaitingRecord>();
  #bytes = 0;

  constructor(times: DueTimes) {
    this.#times = times;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Offset of the one that all others wait for. */
  get firstOffset(): string | undefined {
    return this.#waiting.first?.record.offset;
  }

  /** Its time is told now, once: one that claims to be of the future would be put off again each time. */
  push(record: FetchedRecord, now: number): void {
    const { headers = {}, timestamp, value } = record;
    const said = { headers: carriedHeaders(headers), timestamp: Number(timestamp) };
    const bytes = recordBytes + (value?.length ?? 0);
    this.#waiting.push({ record, eligibleAt: eligibleAt(said, { ...this.#times, now }), bytes });
    this.#bytes += bytes;
  }

  /** Milliseconds until the first is to be taken up, below zero where that is past; undefined where none waits. */
  waitMs(now: number): number | undefined {
    const { first } = this.#waiting;
    return first === undefined ? undefined : first.eligibleAt - now;
  }

  /** The first, if its time has come. */
  take(now: number): FetchedRecord | undefined {
    const { first } = this.#waiting;
    if (first === undefined || first.eligibleAt > now) return undefined;
    this.#bytes -= first.bytes;
    return this.#waiting.shift()!.record;
  }

  clear(): void {
    this.#waiting = new Fifo();
    this.#bytes = 0;
  }

  /** Whether no more should be fetched; what is fetched at once comes at once, so there may be more. */
  reaches({ records, bytes }: DelayBufferBounds): boolean {
    return this.size >= records || this.#bytes >= bytes;
  }
}
