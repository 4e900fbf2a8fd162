import type { CancelTimer, StorkClock } from '../../core/runtime/clock.js';
import { Fifo } from '../../core/runtime/fifo.js';
import type { FetchedRecord } from '../client/client.js';
import { DelayBuffer, type DelayBufferBounds, type RetryTopicDelay } from '../retry/delay-buffer.js';

export interface RecordBufferFields {
  readonly clock: StorkClock;
  /** Of a retry topic; undefined on a source topic, whose records can be dispatched at once. */
  readonly delay: RetryTopicDelay | undefined;
  /** Called when the delay of a record has elapsed. */
  delayElapsed(): void;
}

/** Fetched records of a partition that were not dispatched. Those of a retry topic wait for their delay. */
export class RecordBuffer {
  readonly #fields: RecordBufferFields;
  readonly #delayed: DelayBuffer | undefined;
  /** Records without a delay, or whose delay has elapsed. */
  #eligible = new Fifo<FetchedRecord>();
  #eligibleBytes = 0;
  #cancelTimer: CancelTimer = () => {};

  constructor(fields: RecordBufferFields) {
    this.#fields = fields;
    this.#delayed = fields.delay === undefined ? undefined : new DelayBuffer(fields.delay);
  }

  /** Records that can be dispatched. */
  get eligible(): number {
    return this.#eligible.size;
  }

  /** Bytes of their values. */
  get eligibleBytes(): number {
    return this.#eligibleBytes;
  }

  get isEmpty(): boolean {
    return this.#eligible.size === 0 && (this.#delayed?.size ?? 0) === 0;
  }

  get firstOffset(): string | undefined {
    return this.#eligible.first?.offset ?? this.#delayed?.firstOffset;
  }

  /** Whether so many records wait for their delay that the partition should be paused. */
  isDelayBufferFull(bounds: DelayBufferBounds): boolean {
    return this.#delayed?.isFull(bounds) ?? false;
  }

  push(record: FetchedRecord, now: number): void {
    if (this.#delayed === undefined) this.#pushEligible(record);
    else this.#delayed.push(record, now);
  }

  shift(): FetchedRecord {
    const record = this.#eligible.shift()!;
    this.#eligibleBytes -= record.value?.length ?? 0;
    return record;
  }

  /** Makes records eligible whose delay has elapsed, and sets a timer for the next one. */
  releaseElapsed(): void {
    if (this.#delayed === undefined) return;
    const { clock } = this.#fields;
    const now = clock.now();
    for (let record = this.#delayed.take(now); record !== undefined; record = this.#delayed.take(now))
      this.#pushEligible(record);
    this.#cancelTimer();
    const waitMs = this.#delayed.waitMs(now);
    if (waitMs === undefined) return;
    this.#cancelTimer = clock.setTimer(waitMs, () => {
      this.releaseElapsed();
      this.#fields.delayElapsed();
    });
  }

  clear(): void {
    this.#eligible = new Fifo();
    this.#eligibleBytes = 0;
    this.#delayed?.clear();
    this.#cancelTimer();
  }

  #pushEligible(record: FetchedRecord): void {
    this.#eligible.push(record);
    this.#eligibleBytes += record.value?.length ?? 0;
  }
}
