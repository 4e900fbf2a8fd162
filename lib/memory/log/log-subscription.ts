import type { SourceSettings } from '../../driver-kit/source-settings.js';
import { orderingKeyOf } from '../../driver-kit/log/ordering-key.js';
import {
  Delivery,
  SourceSession,
  type RepublishedMessage,
  type DeliverySource,
} from '../../core/port/delivery.js';
import type { DeliverySink, Subscription } from '../../core/port/driver.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import type { CancelTimer } from '../../core/runtime/clock.js';
import { OffsetTracker, type OffsetRange } from '../../driver-kit/log/offset-tracker.js';
import type {
  ConsumerGroup,
  GroupMember,
  Membership,
  TopicPartition,
} from '../broker/topics/consumer-group.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import type { MemoryRecord } from '../broker/topics/memory-topic.js';
import { republishedHeaders, RecordMessage } from '../../driver-kit/log/log-record.js';
import { deadLetterTopic, type ConsumedTopic } from '../../driver-kit/log/topic-names.js';
import { remainingDueAt, eligibleAt } from '../../driver-kit/log/retry-topic-delays.js';

/** Records handed over in one go; between two goes the sink can pause us. */
const fetchSize = 100;
/** How long a rebalance waits for handlers at work. */
const revokeTimeoutMs = 5_000;

export interface LogSubscriptionFields {
  readonly broker: MemoryBroker;
  readonly group: string;
  readonly patternHeader: string | undefined;
  readonly fromBeginning: boolean;
  readonly sink: DeliverySink;
  /** Names of the topics that it reads now. */
  topics(): readonly string[];
  sourceSettingsOf(topic: string): SourceSettings;
  /** The source of a retry topic, with its delay; any other topic is its own. */
  readonly homeOf: (topic: string) => ConsumedTopic;
  readonly declareManagedTopics: (topic: string) => void;
  /** Where messages of a source wait for so long. */
  readonly retryTopicFor: (source: string, delayMs: number) => string;
}

/** One member of a consumer group: its partitions come and go, each time with a new epoch. */
export class LogSubscription implements Subscription {
  readonly #fields: LogSubscriptionFields;
  readonly #group: ConsumerGroup;
  readonly #partitions = new Map<string, OwnedPartition>();
  readonly #member: GroupMember;
  #membership: Membership | undefined;
  #stopListening: (() => void) | undefined;
  /** Topics made after we joined: nothing in them is old. */
  readonly #late = new Set<string>();
  #turn: Promise<unknown> = Promise.resolve();
  #paused = false;
  #stopped = false;

  constructor(fields: LogSubscriptionFields) {
    this.#fields = fields;
    this.#group = fields.broker.group(fields.group);
    this.#member = {
      topics: () => fields.topics(),
      quiesce: () => fields.sink.quiesce(),
      assigned: (partitions) => this.#assigned(partitions),
      revokeTimeoutMs,
    };
  }

  get flowing(): boolean {
    return !this.#paused && !this.#stopped;
  }

  reads(topic: string): boolean {
    return this.#fields.topics().includes(topic);
  }

  open(): Promise<void> {
    return this.#inTurn(() => this.#join());
  }

  async #join(): Promise<void> {
    this.#stopListening = this.#fields.broker.onTopic((topic) => this.#noticeTopic(topic));
    this.#membership = await this.#group.join(this.#member);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    for (const partition of this.#partitions.values()) partition.pump();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopListening?.();
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#inTurn(() => this.#leave());
  }

  /** After the loss of the connection: what is not committed comes again, here or at another member. */
  async reopen(): Promise<void> {
    // In this tick: what is settled from here on must not be committed.
    this.#endPartitions();
    await this.#inTurn(async () => {
      this.#stopListening?.();
      await this.#leave();
      if (!this.#stopped) await this.#join();
    });
  }

  /** Joining and leaving wait for one another: a member that joins while it leaves would be two. */
  #inTurn(step: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(step);
    this.#turn = done.catch(() => {});
    return done;
  }

  #endPartitions(): void {
    for (const partition of this.#partitions.values()) partition.end();
    this.#partitions.clear();
  }

  async #leave(): Promise<void> {
    this.#endPartitions();
    await this.#membership?.leave();
    this.#membership = undefined;
  }

  #noticeTopic(topic: string): void {
    if (!this.reads(topic)) return;
    this.#late.add(topic);
    if (this.#fields.homeOf(topic).delayMs === undefined) this.#fields.declareManagedTopics(topic);
    void this.#membership?.refresh();
  }

  /** Partitions that stay go on as they are; those that are gone end, and nothing of theirs can be settled or committed. */
  #assigned(assignment: readonly TopicPartition[]): void {
    const kept = new Set(assignment.map(nameOf));
    for (const [name, partition] of this.#partitions) {
      if (kept.has(name)) continue;
      partition.end();
      this.#partitions.delete(name);
    }
    for (const { topic, partition } of assignment) {
      const name = nameOf({ topic, partition });
      if (this.#partitions.has(name)) continue;
      this.#partitions.set(name, this.#take(topic, partition));
    }
    this.#fields.sink.resume();
    this.resume();
  }

  #take(topic: string, partition: number): OwnedPartition {
    const { broker, fromBeginning, homeOf } = this.#fields;
    const committed = this.#group.committed(topic, partition);
    // What waits for another run was handled here before.
    const isWhole = fromBeginning || this.#late.has(topic) || homeOf(topic).delayMs !== undefined;
    const first = committed ?? (isWhole ? 0 : broker.topic(topic)!.endOffset(partition));
    return new OwnedPartition({
      ...this.#fields,
      topic,
      partition,
      first,
      settledBefore: this.#group.settledAbove(topic, partition),
      commit: (offset, settledAbove) =>
        this.#group.commit(topic, partition, offset, this.#member, settledAbove),
      isFlowing: () => this.flowing,
    });
  }
}

function nameOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

interface OwnedPartitionFields extends LogSubscriptionFields {
  readonly topic: string;
  readonly partition: number;
  readonly first: number;
  /** Records above `first` that are settled already. */
  readonly settledBefore: readonly OffsetRange[];
  /** False where the partition is not ours any more. */
  commit(offset: number, settledAbove: readonly OffsetRange[]): boolean;
  isFlowing(): boolean;
}

/** A partition while it is ours: what was handed over, what is settled, what may be committed. */
class OwnedPartition implements DeliverySource {
  readonly #fields: OwnedPartitionFields;
  readonly #session = new SourceSession();
  readonly #watermark: OffsetTracker;
  readonly #consumption: SourceSettings;
  readonly #stopListening: () => void;
  readonly #home: ConsumedTopic;
  #position: number;
  #cancelAlarm: CancelTimer = () => {};
  /** Of a retry topic, the one that all others wait for. */
  #first: { readonly record: MemoryRecord; readonly eligibleAt: number } | undefined;

  constructor(fields: OwnedPartitionFields) {
    this.#fields = fields;
    this.#position = fields.first;
    this.#watermark = new OffsetTracker(fields.first, fields.settledBefore);
    this.#home = fields.homeOf(fields.topic);
    this.#consumption = fields.sourceSettingsOf(this.#home.source);
    // At once: what arrives before the first settlement must not be skipped by a member that starts after us.
    fields.commit(fields.first, fields.settledBefore);
    this.#stopListening = fields.broker
      .topic(fields.topic)!
      .onAppend(() => queueMicrotask(() => this.pump()));
  }

  end(): void {
    this.#session.end();
    this.#stopListening();
    this.#cancelAlarm();
  }

  /** Hands over what is there, until the sink pauses us. */
  pump(): void {
    const topic = this.#fields.broker.topic(this.#fields.topic);
    while (this.#session.isActive && this.#fields.isFlowing()) {
      const records = topic?.read(this.#fields.partition, this.#position, fetchSize) ?? [];
      if (records.length === 0) return;
      for (const record of records) {
        if (!this.#fields.isFlowing() || this.#isEarly(record)) return;
        this.#position = record.offset + 1;
        if (this.#watermark.track(record.offset)) this.#passOn(record);
      }
      // A handler that never waits would keep everything else of the process waiting.
      if (records.length === fetchSize) return void setImmediate(() => this.pump());
    }
  }

  ack(delivery: Delivery): void {
    this.#commit(delivery);
  }

  async ackEarly(delivery: Delivery): Promise<void> {
    if (this.#commit(delivery)) return;
    throw new ConnectionLostError(`${this.#name} belongs to another member`);
  }

  /** With what was settled out of order, so that nobody repeats that either. */
  #commit(delivery: Delivery): boolean {
    const watermark = this.#watermark;
    watermark.complete(delivery.tag);
    return this.#fields.commit(watermark.committable, watermark.completedRanges());
  }

  get #name(): string {
    return `${this.#fields.topic}/${this.#fields.partition}`;
  }

  /** Its offset stays uncommitted: the next owner of the partition reads it again. */
  requeue(): void {}

  async republish(delivery: Delivery, copy: RepublishedMessage): Promise<void> {
    const { broker, group, declareManagedTopics, retryTopicFor } = this.#fields;
    const { source } = this.#home;
    const name =
      copy.to === 'redelivery'
        ? retryTopicFor(source, copy.delayMs)
        : (copy.target ?? deadLetterTopic(source));
    if (broker.topic(name) === undefined) declareManagedTopics(source);
    const { key, value } = delivery.message.raw as MemoryRecord;
    broker
      .topic(name)!
      .append({ key, value, headers: republishedHeaders(copy, group), timestamp: broker.clock.now() });
  }

  /** Due times rise within a partition of one delay: whoever stands behind waits no less. */
  #isEarly(record: MemoryRecord): boolean {
    const { delayMs } = this.#home;
    if (delayMs === undefined) return false;
    const { clock } = this.#fields.broker;
    const now = clock.now();
    // Once: a record that claims to be of the future would be put off again each time.
    if (this.#first?.record !== record)
      this.#first = { record, eligibleAt: eligibleAt(record, { delayMs, now, clockSkewMs: 0 }) };
    const waitMs = this.#first.eligibleAt - now;
    if (waitMs <= 0) return false;
    this.#cancelAlarm();
    this.#cancelAlarm = clock.setTimer(waitMs, () => this.pump());
    return true;
  }

  /** What is to wait for longer than any topic does goes round until it is due. */
  #passOn(record: MemoryRecord): void {
    const { broker, retryTopicFor } = this.#fields;
    const { source, delayMs } = this.#home;
    const now = broker.clock.now();
    const dueAt = delayMs === undefined ? undefined : remainingDueAt(record, { delayMs, now });
    if (dueAt === undefined) return this.#handOver(record);
    const { key, value, headers } = record;
    const next = broker.topic(retryTopicFor(source, dueAt - now)) ?? broker.topic(record.topic)!;
    next.append({ key, value, headers, timestamp: now });
    this.#watermark.complete(record.offset);
    this.#fields.commit(this.#watermark.committable, this.#watermark.completedRanges());
  }

  #handOver(record: MemoryRecord): void {
    const { patternHeader, sink } = this.#fields;
    const { order, delivery } = this.#consumption;
    const message = new RecordMessage(record, patternHeader, record, undefined, this.#home.source);
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
