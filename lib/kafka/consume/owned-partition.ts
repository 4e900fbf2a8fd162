import { setMaxListeners } from 'node:events';
import type { StorkClock } from '../../core/runtime/clock.js';
import type { SourceSettings } from '../../driver-kit/source-settings.js';
import { orderingKeyOf } from '../../driver-kit/log/ordering-key.js';
import {
  Delivery,
  SourceSession,
  type RepublishedMessage,
  type DeliverySource,
} from '../../core/port/delivery.js';
import type { DeliverySink } from '../../core/port/driver.js';
import { remainingDueAt } from '../../driver-kit/log/retry-topic-delays.js';
import { OffsetTracker } from '../../driver-kit/log/offset-tracker.js';
import {
  partitionName,
  type FetchedRecord,
  type OffsetToCommit,
  type TopicPartition,
} from '../client/client.js';
import { decodeCommit, encodeCommit } from './commit-metadata.js';
import type { DelayBufferBounds, RetryTopicDelay } from '../retry/delay-buffer.js';
import { PartitionKeyQueues } from './partition-key-queues.js';
import { RecordBuffer } from './record-buffer.js';
import { headersAsSent, inboundMessage, type RecordSource } from '../records.js';
import type { StartOffset } from './choose-start-offset.js';

/**
 * How soon a settled offset is to be committed. `now`: a handler waits for the commit. `soon`: the record
 * was republished; after a crash before the commit it would be read and republished again. `later`: after
 * such a crash only its attempt is repeated.
 */
export type CommitUrgency = 'now' | 'soon' | 'later';

export interface OwnedPartitionFields extends RecordSource {
  readonly sourceSettings: SourceSettings;
  /** Of a retry topic; undefined on a source topic. */
  readonly delay: RetryTopicDelay | undefined;
  /** Maximum distance between the oldest unsettled offset and the last dispatched one. */
  readonly maxOffsetGap: number;
  /** Bytes that may wait behind other messages of their key. */
  readonly maxKeyBacklogBytes: number;
  readonly sink: DeliverySink;
  readonly clock: StorkClock;
  scheduleCommit(urgency: CommitUrgency): void;
  /** The partition has records to dispatch, or may dispatch records again. */
  readyToDispatch(partition: OwnedPartition): void;
  /** @param source the topic whose retry and dead letter topics are written to */
  republish(source: string, delivery: Delivery, message: RepublishedMessage): Promise<void>;
  /** See `Republisher.forwardRemainingDelay`. */
  forwardRemainingDelay(partition: OwnedPartition, record: FetchedRecord, dueAt: number): Promise<boolean>;
}

/** An early acknowledgement that waits for its offset to be committed. */
interface CommitWaiter {
  readonly offset: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** A partition from its assignment to its revocation: its buffer, its dispatched messages, its offsets. */
export class OwnedPartition implements DeliverySource, TopicPartition {
  readonly topic: string;
  readonly partition: number;
  readonly source: string;
  readonly assignment = new SourceSession();
  readonly #revoked = new AbortController();
  /** True while the client does not fetch it. */
  paused = true;
  readonly #fields: OwnedPartitionFields;
  readonly #name: string;
  /** Undefined until the start offset is known. */
  #tracker: OffsetTracker | undefined;
  #partitionsAtFirstCommit = 0;
  #position = 0;
  readonly #buffer: RecordBuffer;
  readonly #keyQueues = new PartitionKeyQueues();
  #committed = -1;
  #isDirty = false;
  #commitWaiters: CommitWaiter[] = [];
  /** Deliveries of which a republished message was written, or may have been. */
  readonly #republished = new WeakSet<Delivery>();

  constructor(fields: OwnedPartitionFields) {
    this.topic = fields.topic;
    this.partition = fields.partition;
    this.source = fields.source;
    this.#fields = fields;
    this.#name = partitionName(fields);
    this.#buffer = new RecordBuffer({
      clock: fields.clock,
      delay: fields.delay,
      delayElapsed: () => fields.readyToDispatch(this),
    });
    // Up to maxOffsetGap records listen for the revocation at once, and each removes its listener. Without
    // this, Node warns of a leak from the eleventh on.
    setMaxListeners(0, this.signal);
  }

  /** Aborts when the partition is revoked. */
  get signal(): AbortSignal {
    return this.#revoked.signal;
  }

  get started(): boolean {
    return this.#tracker !== undefined;
  }

  /** Offset of the next fetch. */
  get position(): number {
    return this.#position;
  }

  isDelayBufferFull(bounds: DelayBufferBounds): boolean {
    return this.#buffer.isDelayBufferFull(bounds);
  }

  /** Delay of a retry topic; undefined on a source topic. */
  get delayMs(): number | undefined {
    return this.#fields.delay?.delayMs;
  }

  /** Buffered records that could be dispatched. */
  get bufferedRecords(): number {
    return this.#buffer.eligible;
  }

  /** Bytes of their values. */
  get bufferedBytes(): number {
    return this.#buffer.eligibleBytes;
  }

  /** True if so much waits behind other messages of its key that no further record is dispatched. */
  get isKeyBacklogFull(): boolean {
    return this.#keyQueues.bytes >= this.#fields.maxKeyBacklogBytes;
  }

  /** True if an unsettled record blocks the partition: `maxOffsetGap` allows no record beyond. */
  get isOffsetGapExceeded(): boolean {
    return this.#tracker !== undefined && this.#tracker.gap >= this.#fields.maxOffsetGap;
  }

  get oldestUnsettledOffset(): number {
    return this.#tracker?.committable ?? this.#position;
  }

  start({ offset, metadata, partitionsAtFirstCommit }: StartOffset): void {
    const { settled } = decodeCommit(metadata, offset);
    this.#tracker = new OffsetTracker(offset, settled);
    this.#position = offset;
    this.#partitionsAtFirstCommit = partitionsAtFirstCommit;
    this.#isDirty = true;
  }

  /** Ends the assignment. Nothing of it can be settled or committed afterwards. */
  end(): void {
    // First: the end of the assignment makes place in the dispatcher, which must not be filled from here.
    this.dropBuffered();
    this.#keyQueues.clear();
    this.assignment.end();
    this.#revoked.abort();
    const waiters = this.#commitWaiters;
    this.#commitWaiters = [];
    for (const { reject } of waiters) reject(new Error(`the partition ${this.#name} was revoked`));
  }

  /** Drops records that were not dispatched, and moves `position` back to the first of them. */
  dropBuffered(): void {
    const { firstOffset } = this.#buffer;
    if (firstOffset !== undefined) this.#position = Number(firstOffset);
    this.#buffer.clear();
  }

  /**
   * Buffers fetched records. Those below `position` come from a fetch before the last seek and are dropped.
   */
  add(records: readonly FetchedRecord[], nextOffset: number): void {
    if (nextOffset <= this.#position) return;
    const now = this.#fields.clock.now();
    for (const record of records) {
      if (Number(record.offset) >= this.#position) this.#buffer.push(record, now);
    }
    this.#position = nextOffset;
    this.#buffer.releaseElapsed();
    this.#skipTail();
  }

  /** Continues beyond records that retention deleted. Records in the buffer are still handled. */
  skipTo(offset: number): void {
    this.#position = offset;
    this.#skipTail();
  }

  /**
   * Dispatches up to `max` records, while `isFlowing`. @returns how many, records settled earlier included
   */
  dispatch(max: number, isFlowing: () => boolean): number {
    let count = 0;
    for (; count < max && isFlowing(); count++) {
      const delivery = this.#keyQueues.next();
      if (delivery !== undefined) this.#fields.sink.deliver(delivery);
      else if (!this.#dispatchBuffered()) break;
    }
    this.#skipTail();
    return count;
  }

  /** False if no record is buffered, or none may be dispatched. */
  #dispatchBuffered(): boolean {
    if (this.bufferedRecords === 0 || this.isOffsetGapExceeded || this.isKeyBacklogFull) return false;
    const record = this.#buffer.shift();
    const offset = Number(record.offset);
    if (!this.#tracker!.track(offset)) return true;
    const dueAt = this.#remainingDueAt(record);
    if (dueAt === undefined) this.#deliver(record, offset);
    else void this.#forwardRemainingDelay(record, offset, dueAt);
    return true;
  }

  #deliver(record: FetchedRecord, offset: number): void {
    const delivery = this.#deliveryOf(record, offset);
    if (this.#keyQueues.admit(delivery)) this.#fields.sink.deliver(delivery);
  }

  #remainingDueAt({ headers = {} }: FetchedRecord): number | undefined {
    const { delayMs } = this;
    if (delayMs === undefined) return undefined;
    return remainingDueAt({ headers: headersAsSent(headers) }, { delayMs, now: this.#fields.clock.now() });
  }

  /**
   * A record that is due later than its topic's delay is forwarded to another retry topic; its offset is then
   * settled.
   */
  async #forwardRemainingDelay(record: FetchedRecord, offset: number, dueAt: number): Promise<void> {
    const isForwarded = await this.#fields.forwardRemainingDelay(this, record, dueAt);
    if (!this.assignment.isActive) return;
    if (!isForwarded) return this.#deliver(record, offset);
    const wasExceeded = this.isOffsetGapExceeded;
    this.#settleOffset(offset, 'soon');
    if (wasExceeded && !this.isOffsetGapExceeded) this.#fields.readyToDispatch(this);
  }

  ack(delivery: Delivery): void {
    this.#settle(delivery, this.#republished.has(delivery) ? 'soon' : 'later');
  }

  /** Does nothing: the offset stays uncommitted, so the partition's next owner reads the record again. */
  requeue(): void {}

  ackEarly(delivery: Delivery): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#commitWaiters.push({ offset: delivery.tag, resolve, reject });
      this.#settle(delivery, 'now');
    });
  }

  republish(delivery: Delivery, message: RepublishedMessage): Promise<void> {
    this.#republished.add(delivery);
    return this.#fields.republish(this.source, delivery, message);
  }

  /**
   * The offset to commit, and what to call once it is committed. Undefined if nothing has changed since.
   */
  prepareCommit(): { readonly offset: OffsetToCommit; readonly committed: () => void } | undefined {
    const tracker = this.#tracker;
    if (tracker === undefined || !this.assignment.isActive) return undefined;
    if (!this.#isDirty && this.#committed === tracker.committable) return undefined;
    this.#isDirty = false;
    const offset = tracker.committable;
    const settled = tracker.completedRanges();
    const partitions = this.#partitionsAtFirstCommit;
    const { metadata, covered } = encodeCommit({ offset, settled, partitions });
    const { topic, partition } = this;
    return {
      offset: { topic, partition, offset, metadata },
      committed: () => {
        this.#committed = offset;
        this.#resolveCommitWaiters(offset, covered, settled);
      },
    };
  }

  /** After a failed commit, everything in it is still to be committed. */
  commitFailed(): void {
    this.#isDirty = true;
  }

  #settle(delivery: Delivery, urgency: CommitUrgency): void {
    const wasExceeded = this.isOffsetGapExceeded;
    this.#settleOffset(delivery.tag, urgency);
    const hasNext = this.#keyQueues.settle(delivery);
    if (hasNext || (wasExceeded && !this.isOffsetGapExceeded)) this.#fields.readyToDispatch(this);
  }

  #settleOffset(offset: number, urgency: CommitUrgency): void {
    this.#tracker!.complete(offset);
    this.#isDirty = true;
    this.#fields.scheduleCommit(urgency);
  }

  /**
   * With an empty buffer, everything below `position` can be committed: untracked offsets there are
   * transaction markers, or were removed by compaction. Otherwise the group's lag would never reach 0.
   */
  #skipTail(): void {
    if (this.#buffer.isEmpty) this.#tracker?.skipTo(this.#position);
  }

  #deliveryOf(record: FetchedRecord, offset: number): Delivery {
    const { sourceSettings } = this.#fields;
    const message = inboundMessage(this.#fields, record, offset);
    return new Delivery({
      message,
      session: this.assignment,
      orderingKey: orderingKeyOf(sourceSettings.order, this.#name, message),
      redelivered: false,
      tag: offset,
      source: this,
      mode: sourceSettings.delivery,
    });
  }

  #resolveCommitWaiters(
    offset: number,
    covered: number,
    settled: readonly { from: number; to: number }[],
  ): void {
    const isCommitted = (waiter: CommitWaiter): boolean =>
      waiter.offset < offset ||
      (waiter.offset <= covered &&
        settled.some(({ from, to }) => from <= waiter.offset && waiter.offset <= to));
    const waiters = this.#commitWaiters;
    this.#commitWaiters = waiters.filter((waiter) => !isCommitted(waiter));
    for (const waiter of waiters) if (isCommitted(waiter)) waiter.resolve();
  }
}
