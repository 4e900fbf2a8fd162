import { type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import type { Counters, StorkLogger } from '../../core/runtime/reporting.js';
import type { Delivery, RepublishedMessage } from '../../core/port/delivery.js';
import type { DeliverySink } from '../../core/port/driver.js';
import { messageOf } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';
import type { ConsumedTopic } from '../../driver-kit/log/topic-names.js';
import {
  partitionName,
  type ConsumerEvents,
  type ConsumerSettings,
  type FetchedRecord,
  type KafkaClient,
  type KafkaClientError,
  type KafkaConsumer,
  type TopicPartition,
} from '../client/client.js';
import type { RemainingDelay } from '../retry/republisher.js';
import { FetchBackpressure } from './fetch-backpressure.js';
import { OffsetCommitter } from './offset-committer.js';
import { OwnedPartition } from './owned-partition.js';
import { PartitionDispatcher } from './partition-dispatcher.js';
import { StartOffsets } from './start-offsets.js';
import type { TopicSelection } from '../../driver-kit/log/topic-selection.js';

export interface MembershipFields {
  readonly client: KafkaClient;
  readonly settings: ConsumerSettings;
  readonly selection: TopicSelection;
  readonly patternHeader: string | undefined;
  readonly maxOffsetGap: number;
  readonly fromBeginning: boolean;
  /** How far the clock of the producer of a retry record may be ahead, in milliseconds. */
  readonly clockSkewMs: number;
  readonly revokeTimeoutMs: number;
  readonly reconnect: BackoffOptions;
  /** Prefix of log lines. */
  readonly name: string;
  readonly sink: DeliverySink;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  /** Retry topics of the consumed sources, by name. */
  readonly consumedTopics: ReadonlyMap<string, ConsumedTopic>;
  /** True for a topic that was created after this consumer started: all of its records are new. */
  readonly createdAfterStart: (topic: string) => boolean;
  /** False while the sink is paused. */
  readonly isFlowing: () => boolean;
  republish(source: string, delivery: Delivery, message: RepublishedMessage): Promise<void>;
  /** See `Republisher.forwardRemainingDelay`. */
  forwardRemainingDelay(remaining: RemainingDelay): Promise<boolean>;
  /** The content type of a body whose record has no `content-type` header. */
  readonly guessContentType: (headers: MessageHeaders, body: Buffer | null) => string | undefined;
  crashed(error: KafkaClientError): void;
}

/** Consecutive failed commits before a warning: a rebalance makes one or two of them fail. */
const failuresBeforeWarning = 5;
/** How long the last commit may take, except at a shutdown, which sets its own limit. */
const rebalanceCommitLimitMs = 2_000;
const commitRetryMs = 100;
/** How long LeaveGroup may take. After that the coordinator removes the member by its session timeout. */
const leaveLimitMs = 5_000;

/** One membership of a consumer group, over any number of rebalances, until it leaves or crashes. */
export class Membership {
  readonly #fields: MembershipFields;
  readonly #consumer: KafkaConsumer;
  readonly #committer: OffsetCommitter;
  readonly #startOffsets: StartOffsets;
  readonly #backpressure: FetchBackpressure;
  readonly #dispatcher: PartitionDispatcher;
  readonly #partitions = new Map<string, OwnedPartition>();
  /** Resolves when the partitions of the first assignment have started. */
  readonly #firstStart = withResolvers<void>();
  #hasJoined = false;
  readonly #abort = new AbortController();
  #stopped = false;
  /** Set when the membership crashes or begins to leave. */
  #hasEnded = false;

  constructor(fields: MembershipFields) {
    this.#fields = fields;
    const events: ConsumerEvents = {
      beforeJoin: (evicted) => this.#beforeJoin(evicted),
      assigned: (partitions) => this.#assigned(partitions),
      fetched: (at, records, nextOffset) => this.#fetched(at, records, nextOffset),
      outOfRange: (at) => this.#outOfRange(at),
      crashed: (error) => this.#crashed(error),
    };
    this.#consumer = fields.client.openConsumer(fields.settings, events);
    this.#committer = new OffsetCommitter({
      consumer: this.#consumer,
      partitions: () => this.#partitions.values(),
      clock: fields.clock,
      failed: (error, failures) => this.#commitFailed(error, failures),
    });
    this.#dispatcher = new PartitionDispatcher({
      isFlowing: fields.isFlowing,
      // Also while the sink is paused: fetched records are then in the buffer when it resumes.
      dispatched: () => {
        if (!this.#hasEnded && !this.#stopped) this.#backpressure.resumeIfCapacity();
      },
    });
    const { maxBytes } = fields.settings;
    this.#backpressure = new FetchBackpressure({
      ...fields,
      consumer: this.#consumer,
      maxBytes,
      partitions: () => this.#dispatcher.partitions,
      dispatched: () => this.#dispatcher.total,
    });
    this.#startOffsets = new StartOffsets({
      ...fields,
      consumer: this.#consumer,
      committer: this.#committer,
      isRetryTopic: (topic) => fields.consumedTopics.has(topic),
      resume: (partition) => this.#backpressure.resume(partition),
      replace: (old) => this.#replace(old),
      signal: this.#abort.signal,
    });
  }

  /** Resolves when the first assignment is being fetched. Rejects if the consumer crashes before. */
  async start(): Promise<void> {
    await this.#consumer.start();
    await this.#firstStart.promise;
  }

  /** Dispatches buffered records until the sink pauses. */
  dispatch(): void {
    this.#dispatcher.dispatch();
  }

  /** Stops fetching and drops the buffer. Dispatched messages can be settled, and heartbeats continue. */
  stop(): void {
    this.#stopped = true;
    for (const partition of this.#partitions.values()) {
      this.#backpressure.pause(partition);
      partition.dropBuffered();
    }
    this.#backpressure.release();
  }

  /** Waits up to `revokeTimeoutMs` for running handlers, commits and leaves the group. */
  async leave(): Promise<void> {
    const { clock, sink, revokeTimeoutMs } = this.#fields;
    await settlesWithin(clock, sink.quiesce(), revokeTimeoutMs);
    await this.close();
    sink.resume();
  }

  /**
   * Commits settled offsets and leaves the group.
   *
   * @param limitMs how long the commit may take
   */
  async close(limitMs = rebalanceCommitLimitMs): Promise<void> {
    await settlesWithin(this.#fields.clock, this.#commitAll(), limitMs);
    this.#hasEnded = true;
    const left = this.#consumer.close();
    this.#end();
    await settlesWithin(this.#fields.clock, left, leaveLimitMs);
  }

  /**
   * Retries: the coordinator rejects a commit during a rebalance, and accepts it in the next generation.
   */
  async #commitAll(): Promise<void> {
    while (!(await this.#committer.flush()) && !this.#hasEnded)
      await sleep(this.#fields.clock, commitRetryMs);
  }

  reads(topic: string): boolean {
    return this.#fields.settings.topics.includes(topic);
  }

  #commitFailed(error: unknown, failures: number): void {
    const { logger, name } = this.#fields;
    const line = `${name}: offsets could not be committed: ${messageOf(error)}`;
    if (failures === failuresBeforeWarning)
      logger.warn(`${line}; settled messages are delivered again after a rebalance`);
    else logger.debug(line);
  }

  #crashed(error: KafkaClientError): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#firstStart.reject(error);
    // Assignments end in this tick: offsets that are settled later belong to the next owner.
    this.#end();
    this.#fields.sink.resume();
    this.#fields.crashed(error);
  }

  #end(): void {
    this.#abort.abort();
    this.#committer.stop();
    this.#firstStart.promise.catch(() => {});
    this.#firstStart.resolve();
    this.#dispatcher.stop();
    this.#endAssignments();
    this.#backpressure.release();
  }

  #endAssignments(): void {
    for (const partition of this.#partitions.values()) partition.end();
    this.#partitions.clear();
    this.#dispatcher.partitions = [];
  }

  /** Waits for running handlers and commits, so that the next owners repeat as few messages as possible. */
  async #beforeJoin(evicted: boolean): Promise<void> {
    if (this.#hasEnded || this.#partitions.size === 0) return;
    if (evicted) return this.#evicted();
    const { clock, sink, revokeTimeoutMs } = this.#fields;
    await settlesWithin(clock, sink.quiesce(), revokeTimeoutMs);
    await settlesWithin(clock, this.#committer.flush(), rebalanceCommitLimitMs);
  }

  /** Does not wait for handlers: other members own the partitions already and process the same messages. */
  #evicted(): void {
    const { logger, name } = this.#fields;
    logger.warn(
      `${name}: evicted from the consumer group because no heartbeat arrived in time; unsettled messages are delivered ` +
        `again. The event loop may have been blocked`,
    );
    this.#endAssignments();
  }

  /** Retained partitions continue at their position; revoked ones end and are not committed any more. */
  #assigned(assigned: readonly TopicPartition[]): void {
    if (this.#hasEnded) return;
    if (this.#hasJoined) this.#fields.counters.add('rebalances');
    this.#hasJoined = true;
    const names = new Set(assigned.map(partitionName));
    for (const [name, partition] of this.#partitions) {
      if (names.has(name)) continue;
      partition.end();
      this.#partitions.delete(name);
    }
    const added = new Map<string, OwnedPartition[]>();
    for (const at of assigned) {
      const retained = this.#partitions.get(partitionName(at));
      // kafkajs resets positions to the committed offsets in each join.
      if (retained?.started === true) this.#consumer.seek(retained, retained.position);
      if (retained !== undefined) continue;
      const partition = this.#add(at);
      added.set(at.topic, [...(added.get(at.topic) ?? []), partition]);
    }
    this.#dispatcher.partitions = [...this.#partitions.values()];
    this.#backpressure.shareDelayBufferBounds();
    this.#fields.sink.resume();
    const started = [...added].map(([topic, partitions]) => this.#startOffsets.initialize(topic, partitions));
    void Promise.all(started).then(() => this.#firstStart.resolve());
    this.dispatch();
  }

  #add({ topic, partition }: TopicPartition): OwnedPartition {
    const { settings, selection, patternHeader, maxOffsetGap, sink, clock, guessContentType } = this.#fields;
    const { source, delayMs } = this.#fields.consumedTopics.get(topic) ?? {
      source: topic,
      delayMs: undefined,
    };
    const { clockSkewMs } = this.#fields;
    const added = new OwnedPartition({
      topic,
      partition,
      source,
      sourceSettings: selection.sourceSettingsOf(source),
      delay: delayMs === undefined ? undefined : { delayMs, clockSkewMs },
      patternHeader,
      maxOffsetGap,
      maxKeyBacklogBytes: settings.maxBytesPerPartition,
      sink,
      clock,
      scheduleCommit: (urgency) => this.#committer.scheduleCommit(urgency),
      readyToDispatch: (ready) => this.#dispatcher.dispatchNow(ready),
      republish: (from, delivery, message) => this.#fields.republish(from, delivery, message),
      forwardRemainingDelay: ({ signal }, record, dueAt) =>
        this.#fields.forwardRemainingDelay({ source, delayMs: delayMs ?? 0, record, dueAt, signal }),
      guessContentType,
    });
    this.#partitions.set(partitionName(added), added);
    // kafkajs keeps pauses over rebalances: this one may date from an earlier assignment, so it is set.
    this.#consumer.pause([added]);
    return added;
  }

  /** Replaces the partition by a new assignment of it. */
  #replace(old: OwnedPartition): OwnedPartition {
    old.end();
    const partition = this.#add(old);
    this.#dispatcher.partitions = [...this.#partitions.values()];
    return partition;
  }

  #fetched(at: TopicPartition, records: readonly FetchedRecord[], nextOffset: number): void | Promise<void> {
    const partition = this.#partitions.get(partitionName(at));
    // After stop, buffered records were dropped: a later batch would move the position beyond them.
    if (this.#stopped || partition?.started !== true) return;
    partition.add(records, nextOffset);
    if (records.length === 0) return this.#committer.scheduleCommit('later');
    this.dispatch();
    return this.#backpressure.onBatch(partition);
  }

  async #outOfRange(at: TopicPartition): Promise<void> {
    const partition = this.#partitions.get(partitionName(at));
    if (partition?.started === true) await this.#startOffsets.recoverOutOfRange(partition);
  }
}
