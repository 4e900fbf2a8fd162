import { type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import type { Counters } from '../../core/runtime/counters.js';
import type { Delivery, RepublishedMessage } from '../../core/port/delivery.js';
import type { DeliverySink } from '../../core/port/driver.js';
import { messageOf } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';
import type { ConsumedTopic } from '../../driver-kit/log/topic-names.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import {
  nameOf,
  type ConsumerEvents,
  type ConsumerSettings,
  type FetchedRecord,
  type KafkaClient,
  type KafkaClientError,
  type KafkaConsumer,
  type TopicPartition,
} from '../client/client.js';
import type { WaitingOn } from '../retry/republisher.js';
import { FetchBackpressure } from './fetch-backpressure.js';
import { OffsetCommitter } from './offset-committer.js';
import { OwnedPartition } from './owned-partition.js';
import { StartOffsets } from './start-offsets.js';
import type { TopicSelection } from '../topics/topic-selection.js';

export interface MembershipFields {
  readonly client: KafkaClient;
  readonly settings: ConsumerSettings;
  readonly selection: TopicSelection;
  readonly patternHeader: string | undefined;
  readonly maxOffsetGap: number;
  readonly fromBeginning: boolean;
  /** How far the clock of whoever wrote a due time may be ahead of ours. */
  readonly clockSkewMs: number;
  readonly revokeTimeoutMs: number;
  readonly reconnect: BackoffOptions;
  /** Shown before log lines. */
  readonly name: string;
  readonly sink: DeliverySink;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  /** Of the topics that are retry topics of our sources. */
  readonly consumedTopics: ReadonlyMap<string, ConsumedTopic>;
  /** True for a topic that was made after we began: nothing in it is old. */
  readonly isNewTopic: (topic: string) => boolean;
  /** Whether the sink takes more. */
  readonly isFlowing: () => boolean;
  copy(source: string, delivery: Delivery, copy: RepublishedMessage): Promise<void>;
  /** Has a record of a retry topic wait on, where its topic's delay was too short. False where it can run now. */
  waitOn(waiting: WaitingOn): Promise<boolean>;
  /** What a body is where its record does not say. */
  readonly guessContentType: (headers: MessageHeaders, body: Buffer | null) => string | undefined;
  crashed(error: KafkaClientError): void;
}

/** Records handed over from one partition before the next has its turn. */
const fairShare = 16;
/** Records handed over in one turn of the event loop: sockets and timers must have theirs. */
const turnBudget = 512;
/** Commits that fail in a row before somebody is told. */
const commitsToWarn = 5;
/** How long a rebalance waits for the last commit. */
const commitLimitMs = 2_000;
/** How long a shutdown does: it waits 5 s for all of the leaving. */
const lastCommitLimitMs = 3_500;
const commitRetryMs = 100;
/** How long leaving the group may take. Whoever has not left by then is thrown out by the session's time-out. */
const leaveLimitMs = 5_000;

/** One membership of a consumer group: its partitions come and go, each time with a new epoch, until it crashes or leaves. */
export class Membership {
  readonly #fields: MembershipFields;
  readonly #consumer: KafkaConsumer;
  readonly #committer: OffsetCommitter;
  readonly #starts: StartOffsets;
  readonly #flow: FetchBackpressure;
  readonly #partitions = new Map<string, OwnedPartition>();
  /** The same, for taking turns. */
  #line: readonly OwnedPartition[] = [];
  #turn = 0;
  #budget = turnBudget;
  /** Records looked at, ever. */
  #handed = 0;
  #turnEnd: NodeJS.Immediate | undefined;
  #isHandingOver = false;
  /** Ends when the partitions of the first assignment are being read. */
  readonly #begun = withResolvers<void>();
  #hasJoined = false;
  readonly #ended = new AbortController();
  #stopped = false;
  #over = false;

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
      failed: (error, times) => {
        const line = `${fields.name}: offsets not committed: ${messageOf(error)}`;
        // A rebalance refuses one or two; what goes on comes again after the next.
        if (times === commitsToWarn)
          fields.logger.warn(`${line}; what is settled comes again after a rebalance`);
        else fields.logger.debug(line);
      },
    });
    const { maxBytes } = fields.settings;
    this.#flow = new FetchBackpressure({
      ...fields,
      consumer: this.#consumer,
      maxBytes,
      line: () => this.#line,
      handed: () => this.#handed,
    });
    this.#starts = new StartOffsets({
      ...fields,
      consumer: this.#consumer,
      committer: this.#committer,
      isRetryTopic: (topic) => fields.consumedTopics.has(topic),
      resume: (partition) => this.#flow.resume(partition),
      replace: (old) => this.#replace(old),
      signal: this.#ended.signal,
    });
  }

  /** Resolves when the partitions of the first assignment are being read. Rejects where it crashes before. */
  async start(): Promise<void> {
    await this.#consumer.start();
    await this.#begun.promise;
  }

  /** Hands over what was fetched, until the sink pauses it. */
  handOver(): void {
    if (this.#isHandingOver) return;
    this.#isHandingOver = true;
    let withoutAny = 0;
    while (withoutAny < this.#line.length && this.#budget > 0 && this.#fields.isFlowing()) {
      const handed = this.#handOverFrom(this.#line[this.#turn++ % this.#line.length]!);
      withoutAny = handed === 0 ? withoutAny + 1 : 0;
    }
    this.#isHandingOver = false;
    if (this.#budget < turnBudget) this.#turnSoon();
    // A sink that is full for now is no reason not to: what is fetched meanwhile is there when it takes more.
    if (!this.#over && !this.#stopped) this.#flow.makeRoom();
  }

  #handOverFrom(partition: OwnedPartition): number {
    const handed = partition.handOver(fairShare, this.#fields.isFlowing);
    this.#budget -= handed;
    this.#handed += handed;
    return handed;
  }

  /** Takes nothing more; what was handed over can still be settled, and heartbeats go on. */
  stop(): void {
    this.#stopped = true;
    for (const partition of this.#partitions.values()) {
      this.#flow.pause(partition);
      partition.dropFetched();
    }
    this.#flow.letGo();
  }

  /** Waits for handlers at work, within the limit of a rebalance, commits and leaves the group. */
  async leave(): Promise<void> {
    const { clock, sink, revokeTimeoutMs } = this.#fields;
    await settlesWithin(clock, sink.quiesce(), revokeTimeoutMs);
    await this.close(commitLimitMs);
    sink.resume();
  }

  /** Commits what is settled and leaves the group. @param limitMs how long the commit may take */
  async close(limitMs = lastCommitLimitMs): Promise<void> {
    await settlesWithin(this.#fields.clock, this.#commitAll(), limitMs);
    this.#over = true;
    const left = this.#consumer.close();
    this.#end();
    await settlesWithin(this.#fields.clock, left, leaveLimitMs);
  }

  /** A commit in the middle of a rebalance is refused; the next generation takes it. */
  async #commitAll(): Promise<void> {
    while (!(await this.#committer.flush()) && !this.#over) await sleep(this.#fields.clock, commitRetryMs);
  }

  reads(topic: string): boolean {
    return this.#fields.settings.topics.includes(topic);
  }

  #crashed(error: KafkaClientError): void {
    if (this.#over) return;
    this.#over = true;
    this.#begun.reject(error);
    // In this tick: what is settled from here on belongs to nobody.
    this.#end();
    this.#fields.sink.resume();
    this.#fields.crashed(error);
  }

  #end(): void {
    this.#ended.abort();
    this.#committer.stop();
    this.#begun.promise.catch(() => {});
    this.#begun.resolve();
    clearImmediate(this.#turnEnd);
    this.#loseAll();
    this.#flow.letGo();
  }

  #loseAll(): void {
    for (const partition of this.#partitions.values()) partition.end();
    this.#partitions.clear();
    this.#line = [];
  }

  /** Gives handlers at work their time and commits, so that the next owner repeats as little as possible. */
  async #beforeJoin(evicted: boolean): Promise<void> {
    if (this.#over || this.#partitions.size === 0) return;
    if (evicted) return this.#evicted();
    const { clock, sink, revokeTimeoutMs } = this.#fields;
    await settlesWithin(clock, sink.quiesce(), revokeTimeoutMs);
    await settlesWithin(clock, this.#committer.flush(), commitLimitMs);
  }

  /** Others have the partitions already; waiting could only make more run twice. */
  #evicted(): void {
    const { logger, name } = this.#fields;
    logger.warn(
      `${name}: thrown out of its group, what was in flight comes again: no heartbeat in time. Was the event loop blocked?`,
    );
    this.#loseAll();
  }

  /** Kept partitions go on where they are; those that are gone end, and nothing of theirs can be settled or committed. */
  #assigned(assignment: readonly TopicPartition[]): void {
    if (this.#over) return;
    if (this.#hasJoined) this.#fields.counters.add('rebalances');
    this.#hasJoined = true;
    const names = new Set(assignment.map(nameOf));
    for (const [name, partition] of this.#partitions) {
      if (names.has(name)) continue;
      partition.end();
      this.#partitions.delete(name);
    }
    const fresh = new Map<string, OwnedPartition[]>();
    for (const at of assignment) {
      const known = this.#partitions.get(nameOf(at));
      // The client has forgotten where it was.
      if (known?.started === true) this.#consumer.seek(known, known.position);
      if (known !== undefined) continue;
      const partition = this.#take(at);
      fresh.set(at.topic, [...(fresh.get(at.topic) ?? []), partition]);
    }
    this.#line = [...this.#partitions.values()];
    this.#flow.shareDueBounds();
    this.#fields.sink.resume();
    const begun = [...fresh].map(([topic, partitions]) => this.#starts.begin(topic, partitions));
    void Promise.all(begun).then(() => this.#begun.resolve());
    this.handOver();
  }

  #take({ topic, partition }: TopicPartition): OwnedPartition {
    const { settings, selection, patternHeader, maxOffsetGap, sink, clock, guessContentType } = this.#fields;
    const { source, delayMs } = this.#fields.consumedTopics.get(topic) ?? {
      source: topic,
      delayMs: undefined,
    };
    const { clockSkewMs } = this.#fields;
    const owned = new OwnedPartition({
      topic,
      partition,
      source,
      consume: selection.sourceSettingsOf(source),
      times: delayMs === undefined ? undefined : { delayMs, clockSkewMs },
      patternHeader,
      maxOffsetGap,
      maxBytesBehind: settings.maxBytesPerPartition,
      sink,
      clock,
      settled: (urgency) => this.#committer.note(urgency),
      freed: (freed) => this.#freed(freed),
      copy: (from, delivery, copy) => this.#fields.copy(from, delivery, copy),
      waitOn: ({ signal }, record, dueAt) =>
        this.#fields.waitOn({ source, delayMs: delayMs ?? 0, record, dueAt, signal }),
      guessContentType,
    });
    this.#partitions.set(nameOf(owned), owned);
    // Pauses outlive an assignment: this one may be of a time when it was ours before.
    this.#consumer.pause([owned]);
    return owned;
  }

  /** Under the same name, but with an epoch of its own. */
  #replace(old: OwnedPartition): OwnedPartition {
    old.end();
    const partition = this.#take(old);
    this.#line = [...this.#partitions.values()];
    return partition;
  }

  /** At once where it can be: what follows in a lane must not wait for the next turn. */
  #freed(partition: OwnedPartition): void {
    if (!this.#isHandingOver && this.#budget > 0) this.#handOverFrom(partition);
    this.#turnSoon();
  }

  #turnSoon(): void {
    this.#turnEnd ??= setImmediate(() => this.#nextTurn());
  }

  #nextTurn(): void {
    this.#turnEnd = undefined;
    this.#budget = turnBudget;
    this.handOver();
  }

  #fetched(at: TopicPartition, records: readonly FetchedRecord[], nextOffset: number): void | Promise<void> {
    const partition = this.#partitions.get(nameOf(at));
    // What came after the stop would pass what the stop has dropped.
    if (this.#stopped || partition?.started !== true) return;
    partition.add(records, nextOffset);
    if (records.length === 0) return this.#committer.note('later');
    this.handOver();
    return this.#flow.taken(partition);
  }

  async #outOfRange(at: TopicPartition): Promise<void> {
    const partition = this.#partitions.get(nameOf(at));
    if (partition?.started === true) await this.#starts.beginWithin(partition);
  }
}
