import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import { partitionName, type KafkaConsumer } from '../client/client.js';
import type { DelayBufferBounds } from '../retry/delay-buffer.js';
import type { OwnedPartition } from './owned-partition.js';

export interface FetchBackpressureFields {
  readonly consumer: Pick<KafkaConsumer, 'pause' | 'resume'>;
  /** Limit of one fetch, and of the buffered bytes over all partitions. */
  readonly maxBytes: number;
  readonly maxOffsetGap: number;
  readonly name: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  /** All assigned partitions. */
  readonly partitions: () => readonly OwnedPartition[];
  /** Number of records dispatched since the consumer started. */
  readonly dispatched: () => number;
}

/**
 * Buffered records above which no more is fetched. Half of them last longer than the `maxWaitMs` for which
 * kafkajs sleeps while all partitions are paused.
 */
const maxBufferedRecords = 20_000;
/** Delayed records of retry topics in memory, over all partitions; `maxBytes` limits their bytes. */
const maxDelayedRecords = 20_000;
/**
 * How long a full buffer delays the next fetch before its partitions are paused. A delayed fetch continues
 * at once when there is capacity; a paused partition is fetched up to `maxWaitMs` later.
 */
const fetchDelayMs = 200;
/** Upper limit of that delay while records are dispatched. kafkajs sends no heartbeat during it. */
const maxFetchDelayMs = 1_000;

/** Limits fetched records in memory: a full buffer delays the next fetch, and after a while pauses. */
export class FetchBackpressure {
  readonly #fields: FetchBackpressureFields;
  /** Bounds for each partition of a retry topic. */
  #delayBufferBounds: DelayBufferBounds = { records: 0, bytes: 0 };
  /** Set while a fetch is delayed. */
  #capacity: { readonly promise: Promise<void>; resolve(): void } | undefined;

  constructor(fields: FetchBackpressureFields) {
    this.#fields = fields;
  }

  /**
   * Shares the limits among partitions of retry topics: records of a long delay must not fill the
   * memory for those of a short one.
   */
  shareDelayBufferBounds(): void {
    const retryPartitions = this.#fields.partitions().filter(({ delayMs }) => delayMs !== undefined);
    const shares = Math.max(1, retryPartitions.length);
    const records = Math.ceil(maxDelayedRecords / shares);
    this.#delayBufferBounds = { records, bytes: Math.ceil(this.#fields.maxBytes / shares) };
  }

  /**
   * Called after a batch was buffered and dispatched as far as possible. A promise delays the next fetch.
   */
  onBatch(partition: OwnedPartition): void | Promise<void> {
    if (partition.isOffsetGapExceeded) this.#pauseForGap(partition);
    if (partition.isDelayBufferFull(this.#delayBufferBounds)) this.pause(partition);
    if (!this.#isBufferFull()) return;
    return this.#waitForCapacity();
  }

  /** Continues a delayed fetch and resumes paused partitions once the buffer is half empty. */
  resumeIfCapacity(): void {
    const partitions = this.#fields.partitions();
    const isLimited = this.#capacity !== undefined || partitions.some(({ paused }) => paused);
    if (!isLimited || this.#isBufferFull(2)) return;
    this.#capacity?.resolve();
    this.#capacity = undefined;
    for (const partition of partitions) {
      const { paused, started, isOffsetGapExceeded, isKeyBacklogFull } = partition;
      if (!paused || !started || isOffsetGapExceeded || isKeyBacklogFull) continue;
      if (!partition.isDelayBufferFull(half(this.#delayBufferBounds))) this.resume(partition);
    }
  }

  /** Continues a delayed fetch when the membership stops: its records are dropped. */
  release(): void {
    this.#capacity?.resolve();
  }

  pause(partition: OwnedPartition): void {
    if (partition.paused) return;
    partition.paused = true;
    this.#fields.consumer.pause([partition]);
  }

  resume(partition: OwnedPartition): void {
    if (!partition.paused) return;
    partition.paused = false;
    this.#fields.consumer.resume([partition]);
  }

  #pauseForGap(partition: OwnedPartition): void {
    if (partition.paused) return;
    const { logger, name, maxOffsetGap } = this.#fields;
    logger.warn(
      `${name}: ${partitionName(partition)} is paused: the record at offset ${partition.oldestUnsettledOffset} is not settled, ` +
        `and maxOffsetGap allows ${maxOffsetGap} offsets beyond it`,
    );
    this.pause(partition);
  }

  /** Delays the fetch while records are dispatched, up to the limit, and pauses partitions after that. */
  async #waitForCapacity(): Promise<void> {
    const { clock, dispatched, partitions } = this.#fields;
    this.#capacity ??= withResolvers<void>();
    const capacity = this.#capacity;
    for (let delayedMs = 0; delayedMs < maxFetchDelayMs; delayedMs += fetchDelayMs) {
      const before = dispatched();
      if (await settlesWithin(clock, capacity.promise, fetchDelayMs)) return;
      // No record was dispatched: a further delay would only keep other partitions from being fetched.
      if (dispatched() === before) break;
    }
    for (const partition of partitions()) if (partition.bufferedRecords > 0) this.pause(partition);
    capacity.resolve();
    if (this.#capacity === capacity) this.#capacity = undefined;
  }

  /**
   * Excludes partitions that an unsettled record or a full key backlog blocks: their buffered records
   * stay, and other partitions must not wait for them.
   */
  #isBufferFull(divisor = 1): boolean {
    const { partitions, maxBytes } = this.#fields;
    let records = 0;
    let bytes = 0;
    for (const partition of partitions()) {
      const { isOffsetGapExceeded, paused, isKeyBacklogFull } = partition;
      if (isOffsetGapExceeded || (paused && isKeyBacklogFull)) continue;
      records += partition.bufferedRecords;
      bytes += partition.bufferedBytes;
    }
    return records * divisor > maxBufferedRecords || bytes * divisor > maxBytes;
  }
}

/**
 * A partition resumes at half its bounds, so that delayed records are left until its next fetch arrives.
 */
function half({ records, bytes }: DelayBufferBounds): DelayBufferBounds {
  return { records: records / 2, bytes: bytes / 2 };
}
