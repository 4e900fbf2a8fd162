import { setMaxListeners } from 'node:events';
import type { CancelTimer, StorkClock } from '../../core/runtime/clock.js';
import type { SourceSettings } from '../../driver-kit/source-settings.js';
import { orderingKeyOf } from '../../driver-kit/log/ordering-key.js';
import {
  Delivery,
  SourceSession,
  type RepublishedMessage,
  type DeliverySource,
} from '../../core/port/delivery.js';
import type { DeliverySink } from '../../core/port/driver.js';
import { Fifo } from '../../core/runtime/fifo.js';
import { remainingDueAt } from '../../driver-kit/log/retry-topic-delays.js';
import { OffsetTracker } from '../../driver-kit/log/offset-tracker.js';
import type { FetchedRecord, OffsetToCommit, TopicPartition } from '../client/client.js';
import { decodeCommit, encodeCommit } from './commit-metadata.js';
import { DelayBuffer, type DelayBufferBounds, type DueTimes } from '../retry/delay-buffer.js';
import { PartitionKeyQueues } from './partition-key-queues.js';
import { carriedHeaders, inboundMessage, type Reading } from '../records.js';
import type { StartOffset } from './choose-start-offset.js';

/**
 * When a settlement is to be committed. `now`: somebody waits for it. `soon`: a copy of its record was written, and one more would be
 * written by whoever reads it again after a crash. `later`: only its run would be repeated then.
 */
export type Urgency = 'now' | 'soon' | 'later';

export interface OwnedPartitionFields extends Reading {
  readonly consume: SourceSettings;
  /** Of a retry topic; undefined: nothing waits here. */
  readonly times: DueTimes | undefined;
  /** Records that one unsettled record may hold up being committed. */
  readonly maxOffsetGap: number;
  /** Bytes that may wait behind records of their own lane. */
  readonly maxBytesBehind: number;
  readonly sink: DeliverySink;
  readonly clock: StorkClock;
  /** Something was settled here. */
  settled(urgency: Urgency): void;
  /** There is more to hand over, or room for it. */
  freed(partition: OwnedPartition): void;
  /** @param source the topic that it is read for */
  copy(source: string, delivery: Delivery, copy: RepublishedMessage): Promise<void>;
  /** Has a record wait on, until it is due. False where it has run out of time for that, or the epoch has ended. */
  waitOn(partition: OwnedPartition, record: FetchedRecord, dueAt: number): Promise<boolean>;
}

/** Whoever waits until an offset is committed. */
interface CommitWaiter {
  readonly offset: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** A partition from its assignment to its loss: what was fetched, handed over and settled, and what may be committed. */
export class OwnedPartition implements DeliverySource, TopicPartition {
  readonly topic: string;
  readonly partition: number;
  readonly source: string;
  readonly session = new SourceSession();
  readonly #lost = new AbortController();
  /** True while the client fetches nothing of it. */
  paused = true;
  readonly #fields: OwnedPartitionFields;
  readonly #orderingKey: string;
  /** Undefined until it is known where to start. */
  #watermark: OffsetTracker | undefined;
  #knownPartitions = 0;
  /** Where to fetch next. */
  #position = 0;
  #fetched = new Fifo<FetchedRecord>();
  #bytes = 0;
  /** Of a retry topic: what waits before it is handed over. */
  readonly #due: DelayBuffer | undefined;
  #cancelAlarm: CancelTimer = () => {};
  readonly #lanes = new PartitionKeyQueues();
  #committed = -1;
  #isDirty = false;
  #waiters: CommitWaiter[] = [];
  /** Of which a copy was written, or may have been. */
  readonly #copied = new WeakSet<Delivery>();

  constructor(fields: OwnedPartitionFields) {
    this.topic = fields.topic;
    this.partition = fields.partition;
    this.source = fields.source;
    this.#fields = fields;
    this.#orderingKey = `${fields.topic}/${fields.partition}`;
    this.#due = fields.times === undefined ? undefined : new DelayBuffer(fields.times);
    // As many records as the gap allows may wait on it, and each lets go of it.
    setMaxListeners(0, this.signal);
  }

  /** Aborts when it is not ours any more. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  get started(): boolean {
    return this.#watermark !== undefined;
  }

  /** Offset that is to be fetched next. */
  get position(): number {
    return this.#position;
  }

  /** Whether so much of it waits until it is due that no more should be fetched. */
  waitsFor(bounds: DelayBufferBounds): boolean {
    return this.#due?.reaches(bounds) ?? false;
  }

  /** How long messages wait in its topic; undefined on a source. */
  get delayMs(): number | undefined {
    return this.#fields.times?.delayMs;
  }

  /** Records fetched, due and not handed over. */
  get waiting(): number {
    return this.#fetched.size;
  }

  /** Bytes of their bodies. */
  get waitingBytes(): number {
    return this.#bytes;
  }

  /** True where so much waits behind records of its own lane that no more is looked through for what could run. */
  get isClogged(): boolean {
    return this.#lanes.bytes >= this.#fields.maxBytesBehind;
  }

  /** True where one unsettled record has held up too many: what follows must wait for it. */
  get isHeldUp(): boolean {
    return this.#watermark !== undefined && this.#watermark.gap >= this.#fields.maxOffsetGap;
  }

  /** Offset that holds up what follows. */
  get oldestUnsettled(): number {
    return this.#watermark?.committable ?? this.#position;
  }

  start({ offset, metadata, knownPartitions }: StartOffset): void {
    const { settled } = decodeCommit(metadata, offset);
    this.#watermark = new OffsetTracker(offset, settled);
    this.#position = offset;
    this.#knownPartitions = knownPartitions;
    this.#isDirty = true;
  }

  /** Nothing of it can be settled or committed any more. */
  end(): void {
    this.session.end();
    this.#lost.abort();
    this.dropFetched();
    this.#lanes.clear();
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { reject } of waiters)
      reject(new Error(`the partition ${this.#orderingKey} is not ours any more`));
  }

  /** Forgets what was not handed over; it is to be fetched again from `position`. */
  dropFetched(): void {
    const first = this.#fetched.first?.offset ?? this.#due?.firstOffset;
    if (first !== undefined) this.#position = Number(first);
    this.#fetched = new Fifo();
    this.#bytes = 0;
    this.#due?.clear();
    this.#cancelAlarm();
  }

  /** Takes records of the client in; those before `position` are of a fetch that was overtaken. */
  add(records: readonly FetchedRecord[], nextOffset: number): void {
    if (nextOffset <= this.#position) return;
    const now = this.#fields.clock.now();
    for (const record of records) {
      if (Number(record.offset) < this.#position) continue;
      if (this.#due === undefined) this.#queue(record);
      else this.#due.push(record, now);
    }
    this.#position = nextOffset;
    this.#takeUp();
    this.#passTail();
  }

  #queue(record: FetchedRecord): void {
    this.#fetched.push(record);
    this.#bytes += record.value?.length ?? 0;
  }

  /** Has those handed over that are due, and comes back for the next when that is. */
  #takeUp(): void {
    if (this.#due === undefined) return;
    const { clock } = this.#fields;
    const now = clock.now();
    for (let record = this.#due.take(now); record !== undefined; record = this.#due.take(now))
      this.#queue(record);
    this.#cancelAlarm();
    const waitMs = this.#due.waitMs(now);
    if (waitMs === undefined) return;
    this.#cancelAlarm = clock.setTimer(waitMs, () => {
      this.#takeUp();
      this.#fields.freed(this);
    });
  }

  /** Goes on at an offset beyond what the log has lost. What was fetched of that is still handled. */
  jump(offset: number): void {
    this.#position = offset;
    this.#passTail();
  }

  /** Hands over up to `max` records, while `isFlowing`. Tells how many it has looked at. */
  handOver(max: number, isFlowing: () => boolean): number {
    let count = 0;
    for (; count < max && isFlowing(); count++) {
      const delivery = this.#lanes.next();
      if (delivery !== undefined) this.#fields.sink.deliver(delivery);
      else if (!this.#handOverFetched()) break;
    }
    this.#passTail();
    return count;
  }

  /** False where there is nothing, or it has to wait. */
  #handOverFetched(): boolean {
    if (this.waiting === 0 || this.isHeldUp || this.isClogged) return false;
    const record = this.#fetched.shift()!;
    this.#bytes -= record.value?.length ?? 0;
    const offset = Number(record.offset);
    if (!this.#watermark!.track(offset)) return true;
    const dueAt = this.#remainingDueAt(record);
    if (dueAt === undefined) this.#deliver(record, offset);
    else void this.#waitOn(record, offset, dueAt);
    return true;
  }

  #deliver(record: FetchedRecord, offset: number): void {
    const delivery = this.#deliveryOf(record, offset);
    if (this.#lanes.admit(delivery)) this.#fields.sink.deliver(delivery);
  }

  #remainingDueAt({ headers = {} }: FetchedRecord): number | undefined {
    const { delayMs } = this;
    if (delayMs === undefined) return undefined;
    return remainingDueAt({ headers: carriedHeaders(headers) }, { delayMs, now: this.#fields.clock.now() });
  }

  /** What is to wait for longer than its topic lets it goes round: written anew, it is settled here. */
  async #waitOn(record: FetchedRecord, offset: number, dueAt: number): Promise<void> {
    const isWritten = await this.#fields.waitOn(this, record, dueAt);
    if (!this.session.isActive) return;
    if (!isWritten) return this.#deliver(record, offset);
    const wasHeldUp = this.isHeldUp;
    this.#settleOffset(offset, 'soon');
    if (wasHeldUp && !this.isHeldUp) this.#fields.freed(this);
  }

  ack(delivery: Delivery): void {
    this.#settle(delivery, this.#copied.has(delivery) ? 'soon' : 'later');
  }

  /** Its offset stays uncommitted: whoever owns the partition next reads it again. */
  requeue(): void {}

  ackEarly(delivery: Delivery): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ offset: delivery.tag, resolve, reject });
      this.#settle(delivery, 'now');
    });
  }

  republish(delivery: Delivery, copy: RepublishedMessage): Promise<void> {
    this.#copied.add(delivery);
    return this.#fields.copy(this.source, delivery, copy);
  }

  /** What is to be committed now, and what to call when it has been; undefined: nothing new. */
  commit(): { readonly offset: OffsetToCommit; readonly confirmed: () => void } | undefined {
    const watermark = this.#watermark;
    if (watermark === undefined || !this.session.isActive) return undefined;
    if (!this.#isDirty && this.#committed === watermark.committable) return undefined;
    this.#isDirty = false;
    const offset = watermark.committable;
    const settled = watermark.completedRanges();
    const { metadata, covered } = encodeCommit({ offset, settled, partitions: this.#knownPartitions });
    const { topic, partition } = this;
    return {
      offset: { topic, partition, offset, metadata },
      confirmed: () => {
        this.#committed = offset;
        this.#releaseWaiters(offset, covered, settled);
      },
    };
  }

  /** A commit failed: what was in it is still to be committed. */
  commitFailed(): void {
    this.#isDirty = true;
  }

  #settle(delivery: Delivery, urgency: Urgency): void {
    const wasHeldUp = this.isHeldUp;
    this.#settleOffset(delivery.tag, urgency);
    const hasNext = this.#lanes.leave(delivery);
    if (hasNext || (wasHeldUp && !this.isHeldUp)) this.#fields.freed(this);
  }

  #settleOffset(offset: number, urgency: Urgency): void {
    this.#watermark!.complete(offset);
    this.#isDirty = true;
    this.#fields.settled(urgency);
  }

  /** Where nothing waits, the log holds nothing for us before the next fetch: markers of transactions, compacted records. */
  #passTail(): void {
    const isEmpty = this.waiting === 0 && (this.#due?.size ?? 0) === 0;
    if (isEmpty) this.#watermark?.skipTo(this.#position);
  }

  #deliveryOf(record: FetchedRecord, offset: number): Delivery {
    const { consume } = this.#fields;
    const message = inboundMessage(this.#fields, record, offset);
    return new Delivery({
      message,
      session: this.session,
      orderingKey: orderingKeyOf(consume.order, this.#orderingKey, message),
      redelivered: false,
      tag: offset,
      source: this,
      mode: consume.delivery,
    });
  }

  #releaseWaiters(offset: number, covered: number, settled: readonly { from: number; to: number }[]): void {
    const isCommitted = (waiter: CommitWaiter): boolean =>
      waiter.offset < offset ||
      (waiter.offset <= covered &&
        settled.some(({ from, to }) => from <= waiter.offset && waiter.offset <= to));
    const waiters = this.#waiters;
    this.#waiters = waiters.filter((waiter) => !isCommitted(waiter));
    for (const waiter of waiters) if (isCommitted(waiter)) waiter.resolve();
  }
}
