import type { CancelTimer } from '../../core/runtime/clock.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import {
  Delivery,
  SourceSession,
  type DeliverySource,
  type RepublishedMessage,
} from '../../core/port/delivery.js';
import type { DeliverySink } from '../../core/port/driver.js';
import { RecordMessage, republishedHeaders } from '../../driver-kit/log/log-record.js';
import { OffsetTracker, type OffsetRange } from '../../driver-kit/log/offset-tracker.js';
import { orderingKeyOf } from '../../driver-kit/log/ordering-key.js';
import { eligibleAt, remainingDueAt } from '../../driver-kit/log/retry-topic-delays.js';
import { deadLetterTopic, type ConsumedTopic } from '../../driver-kit/log/topic-names.js';
import type { SourceSettings } from '../../driver-kit/source-settings.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import type { MemoryRecord } from '../broker/topics/memory-topic.js';

/** Records delivered in one turn of the event loop. */
const fetchSize = 100;

/** What the partitions of a subscription have in common. */
export interface PartitionContext {
  readonly broker: MemoryBroker;
  readonly group: string;
  readonly patternHeader: string | undefined;
  readonly sink: DeliverySink;
  sourceSettingsOf(topic: string): SourceSettings;
  /** The source and the delay of a retry topic; any other topic is its own source. */
  readonly consumedTopicOf: (topic: string) => ConsumedTopic;
  readonly declareManagedTopics: (topic: string) => void;
  /** The retry topic of a source for a delay. */
  readonly retryTopicFor: (source: string, delayMs: number) => string;
}

export interface OwnedPartitionFields extends PartitionContext {
  readonly topic: string;
  readonly partition: number;
  readonly startOffset: number;
  /** Offsets above `startOffset` that an earlier assignment completed. */
  readonly completedBefore: readonly OffsetRange[];
  /** False if the partition is not assigned to this member any more. */
  commit(offset: number, completedAbove: readonly OffsetRange[]): boolean;
  isConsuming(): boolean;
}

/** An assigned partition: reads its records, tracks the settled ones and commits offsets. */
export class OwnedPartition implements DeliverySource {
  readonly #fields: OwnedPartitionFields;
  readonly #session = new SourceSession();
  readonly #offsets: OffsetTracker;
  readonly #sourceSettings: SourceSettings;
  readonly #stopListening: () => void;
  readonly #consumed: ConsumedTopic;
  #position: number;
  #cancelTimer: CancelTimer = () => {};
  /** The first record of a retry topic that is not due: all records behind it wait for it. */
  #head: { readonly record: MemoryRecord; readonly eligibleAt: number } | undefined;

  constructor(fields: OwnedPartitionFields) {
    this.#fields = fields;
    this.#position = fields.startOffset;
    this.#offsets = new OffsetTracker(fields.startOffset, fields.completedBefore);
    this.#consumed = fields.consumedTopicOf(fields.topic);
    this.#sourceSettings = fields.sourceSettingsOf(this.#consumed.source);
    // Committed at once: the next owner must not skip records that arrive before the first commit of a
    // handled one.
    fields.commit(fields.startOffset, fields.completedBefore);
    this.#stopListening = fields.broker
      .topic(fields.topic)!
      .onAppend(() => queueMicrotask(() => this.dispatch()));
  }

  end(): void {
    this.#session.end();
    this.#stopListening();
    this.#cancelTimer();
  }

  /** Delivers the available records until the sink pauses the subscription. */
  dispatch(): void {
    const topic = this.#fields.broker.topic(this.#fields.topic);
    while (this.#session.isActive && this.#fields.isConsuming()) {
      const records = topic?.read(this.#fields.partition, this.#position, fetchSize) ?? [];
      if (records.length === 0) return;
      for (const record of records) {
        if (!this.#fields.isConsuming() || this.#isDelayed(record)) return;
        this.#position = record.offset + 1;
        if (this.#offsets.track(record.offset)) this.#deliverOrForward(record);
      }
      // A synchronous handler would otherwise starve the event loop.
      if (records.length === fetchSize) return void setImmediate(() => this.dispatch());
    }
  }

  ack(delivery: Delivery): void {
    this.#complete(delivery.tag);
  }

  async ackEarly(delivery: Delivery): Promise<void> {
    if (this.#complete(delivery.tag)) return;
    throw new ConnectionLostError(`${this.#name} is assigned to another member`);
  }

  /** Commits the ranges completed out of order as well, so that the next owner does not repeat them. */
  #complete(offset: number): boolean {
    this.#offsets.complete(offset);
    return this.#fields.commit(this.#offsets.committable, this.#offsets.completedRanges());
  }

  get #name(): string {
    return `${this.#fields.topic}/${this.#fields.partition}`;
  }

  /** The offset stays uncommitted: the next owner of the partition reads the record again. */
  requeue(): void {}

  async republish(delivery: Delivery, republished: RepublishedMessage): Promise<void> {
    const { broker, group, declareManagedTopics, retryTopicFor } = this.#fields;
    const { source } = this.#consumed;
    const name =
      republished.to === 'redelivery'
        ? retryTopicFor(source, republished.delayMs)
        : (republished.target ?? deadLetterTopic(source));
    if (broker.topic(name) === undefined) declareManagedTopics(source);
    const topic = broker.topic(name)!;
    const { key, value } = delivery.message.raw as MemoryRecord;
    const headers = republishedHeaders(republished, group);
    const isForOther = republished.to === 'redelivery' && republished.isForOtherConsumer === true;
    // By its key the message would reach the same consumer each time.
    const partition = isForOther ? (this.#fields.partition + 1) % topic.partitionCount : undefined;
    topic.append({ key, value, headers, timestamp: broker.clock.now(), partition });
  }

  /** Due times rise within a partition of a retry topic, so no record behind a waiting one is due. */
  #isDelayed(record: MemoryRecord): boolean {
    const { delayMs } = this.#consumed;
    if (delayMs === undefined) return false;
    const { clock } = this.#fields.broker;
    const now = clock.now();
    // Computed once per record: a record with a future timestamp would be delayed again on every read.
    if (this.#head?.record !== record)
      this.#head = { record, eligibleAt: eligibleAt(record, { delayMs, now, clockSkewMs: 0 }) };
    const waitMs = this.#head.eligibleAt - now;
    if (waitMs <= 0) return false;
    this.#cancelTimer();
    this.#cancelTimer = clock.setTimer(waitMs, () => this.dispatch());
    return true;
  }

  /** A record whose delay exceeds that of its retry topic is appended again until it is due. */
  #deliverOrForward(record: MemoryRecord): void {
    const { broker, retryTopicFor } = this.#fields;
    const { source, delayMs } = this.#consumed;
    const now = broker.clock.now();
    const dueAt = delayMs === undefined ? undefined : remainingDueAt(record, { delayMs, now });
    if (dueAt === undefined) return this.#deliver(record);
    const { key, value, headers } = record;
    const next = broker.topic(retryTopicFor(source, dueAt - now)) ?? broker.topic(record.topic)!;
    next.append({ key, value, headers, timestamp: now });
    this.#complete(record.offset);
  }

  #deliver(record: MemoryRecord): void {
    const { patternHeader, sink } = this.#fields;
    const { order, delivery } = this.#sourceSettings;
    const message = new RecordMessage(record, patternHeader, record, undefined, this.#consumed.source);
    const fields = {
      message,
      session: this.#session,
      orderingKey: orderingKeyOf(order, this.#name, record),
      redelivered: false,
      tag: record.offset,
      source: this,
      mode: delivery,
    };
    sink.deliver(new Delivery(fields));
  }
}
