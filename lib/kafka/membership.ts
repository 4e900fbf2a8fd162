import { backoffMs, type BackoffOptions } from '../core/backoff.js';
import { endsWithin, sleep, type Clock } from '../core/clock.js';
import type { Counters } from '../core/counters.js';
import type { Delivery } from '../core/delivery.js';
import type { Copy, DeliverySink } from '../core/driver.js';
import { messageOf } from '../core/errors.js';
import type { Headers } from '../core/headers.js';
import type { Home } from '../core/log-records.js';
import type { StorkLogger } from '../core/logger.js';
import { withResolvers } from '../core/promises.js';
import type {
  ConsumerEvents,
  ConsumerSettings,
  FetchedRecord,
  KafkaClient,
  KafkaClientError,
  KafkaConsumer,
  TopicPartition,
} from './client.js';
import { encodeCommit } from './commit-metadata.js';
import type { WaitingOn } from './copies.js';
import type { DueBounds } from './due-records.js';
import { OffsetCommitter } from './offset-committer.js';
import { OwnedPartition } from './owned-partition.js';
import { chooseStart, type StartOffset } from './start-offset.js';
import type { TopicSelection } from './topic-selection.js';

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
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  /** Of the topics that are retry topics of our sources. */
  readonly homes: ReadonlyMap<string, Home>;
  /** True for a topic that was made after we began: nothing in it is old. */
  readonly isNewTopic: (topic: string) => boolean;
  /** Whether the sink takes more. */
  readonly isFlowing: () => boolean;
  copy(source: string, delivery: Delivery, copy: Copy): Promise<void>;
  /** Has a record of a retry topic wait on, where its topic's delay was too short. False where it can run now. */
  waitOn(waiting: WaitingOn): Promise<boolean>;
  /** What a body is where its record does not say. */
  readonly guessContentType: (headers: Headers, body: Buffer | null) => string | undefined;
  crashed(error: KafkaClientError): void;
}

/** Records handed over from one partition before the next has its turn. */
const fairShare = 16;
/** Records handed over in one turn of the event loop: sockets and timers must have theirs. */
const turnBudget = 512;
/** Fetched records at which the next fetch waits. Half of them last longer than a fetch of paused partitions sleeps. */
const enoughRecords = 20_000;
/** Records of retry topics that wait in memory until they are due, over all partitions; of bytes as many as a fetch may bring. */
const mostWaiting = 20_000;
/** How long a fetch is held up before its partitions are paused: going on is immediate then, and after a pause it is not. */
const holdMs = 200;
/** And while records are being handed over: heartbeats wait for it. */
const longestHoldMs = 1_000;
/** Commits that fail in a row before somebody is told. */
const commitsToWarn = 5;
/** How long a rebalance waits for the last commit. */
const commitLimitMs = 2_000;
const commitRetryMs = 100;
/** How long leaving the group may take. Whoever has not left by then is thrown out by the session's time-out. */
const leaveLimitMs = 5_000;

/** One membership of a consumer group: its partitions come and go, each time with a new epoch, until it crashes or leaves. */
export class Membership {
  readonly #fields: MembershipFields;
  readonly #consumer: KafkaConsumer;
  readonly #committer: OffsetCommitter;
  readonly #partitions = new Map<string, OwnedPartition>();
  /** The same, for taking turns. */
  #line: readonly OwnedPartition[] = [];
  #turn = 0;
  #budget = turnBudget;
  /** What may wait in each partition of a retry topic. */
  #dueBounds: DueBounds = { records: 0, bytes: 0 };
  /** Records looked at, ever. */
  #handed = 0;
  #turnEnd: NodeJS.Immediate | undefined;
  #isHandingOver = false;
  #room: { readonly promise: Promise<void>; resolve(): void } | undefined;
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
    this.#makeRoom();
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
      this.#pause(partition);
      partition.dropFetched();
    }
    this.#room?.resolve();
  }

  /** Waits for handlers at work, within the limit of a rebalance, commits and leaves the group. */
  async leave(): Promise<void> {
    const { clock, sink, revokeTimeoutMs } = this.#fields;
    await endsWithin(clock, sink.halt(), revokeTimeoutMs);
    await this.close();
    sink.proceed();
  }

  /** Commits what is settled and leaves the group. */
  async close(): Promise<void> {
    await endsWithin(this.#fields.clock, this.#commitAll(), commitLimitMs);
    this.#over = true;
    const left = this.#consumer.close();
    this.#end();
    await endsWithin(this.#fields.clock, left, leaveLimitMs);
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
    this.#fields.sink.proceed();
    this.#fields.crashed(error);
  }

  #end(): void {
    this.#ended.abort();
    this.#committer.stop();
    this.#begun.promise.catch(() => {});
    this.#begun.resolve();
    clearImmediate(this.#turnEnd);
    this.#loseAll();
    this.#room?.resolve();
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
    await endsWithin(clock, sink.halt(), revokeTimeoutMs);
    await endsWithin(clock, this.#committer.flush(), commitLimitMs);
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
    this.#shareDueBounds();
    this.#fields.sink.proceed();
    const begun = [...fresh].map(([topic, partitions]) => this.#begin(topic, partitions));
    void Promise.all(begun).then(() => this.#begun.resolve());
    this.handOver();
  }

  /** A long delay must not take the places of a short one. */
  #shareDueBounds(): void {
    const sharing = Math.max(1, this.#line.filter(({ delayMs }) => delayMs !== undefined).length);
    const records = Math.ceil(mostWaiting / sharing);
    this.#dueBounds = { records, bytes: Math.ceil(this.#fields.settings.maxBytes / sharing) };
  }

  #take({ topic, partition }: TopicPartition): OwnedPartition {
    const { settings, selection, patternHeader, maxOffsetGap, sink, clock, guessContentType } = this.#fields;
    const { source, delayMs } = this.#fields.homes.get(topic) ?? { source: topic, delayMs: undefined };
    const { clockSkewMs } = this.#fields;
    const owned = new OwnedPartition({
      topic,
      partition,
      source,
      consumption: selection.consumptionOf(source),
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

  /** Finds out where each begins, commits what was chosen, and reads. Tries until they begin or are lost. */
  async #begin(topic: string, partitions: readonly OwnedPartition[]): Promise<void> {
    const { clock, reconnect, random, logger, name } = this.#fields;
    for (let attempt = 1; partitions.some(({ epoch }) => epoch.live); attempt++) {
      try {
        const starts = await this.#chooseStarts(topic, partitions);
        for (const [partition, start] of starts) {
          if (!partition.epoch.live) continue;
          this.#noteLost(partition, start.lost, start.offset);
          partition.start(start);
          this.#consumer.seek(partition, start.offset);
          if (this.#fields.isFlowing()) this.#resume(partition);
        }
        return;
      } catch (error) {
        if (this.#over) return;
        if (attempt === 1)
          logger.warn(`${name}: where to read ${topic} is not known yet: ${messageOf(error)}`);
        await sleep(clock, backoffMs(attempt, reconnect, random), this.#ended.signal);
      }
    }
  }

  async #chooseStarts(
    topic: string,
    partitions: readonly OwnedPartition[],
  ): Promise<ReadonlyMap<OwnedPartition, StartOffset>> {
    const { client, fromBeginning, isNewTopic, homes } = this.#fields;
    const ends = await client.admin.ends(topic);
    const committed = await this.#consumer.committed(
      topic,
      ends.map(({ partition }) => partition),
    );
    const starts = new Map<OwnedPartition, StartOffset>();
    for (const partition of partitions) {
      const mine = ends.find((one) => one.partition === partition.partition);
      if (mine === undefined) throw new Error(`the broker does not know partition ${partition.partition}`);
      const start = chooseStart({
        partition: partition.partition,
        ends: mine,
        committed,
        partitions: ends.length,
        // What waits for another run was handled here before.
        fromBeginning: fromBeginning || homes.has(topic),
        isNewTopic: isNewTopic(topic),
      });
      starts.set(partition, start);
    }
    const chosen = [...starts].filter(([{ epoch }, { metadata }]) => epoch.live && metadata === null);
    if (chosen.length > 0) {
      // At once: what comes before the first settlement must not be skipped by whoever starts after us.
      const commits = chosen.map(([{ partition }, { offset, knownPartitions }]) => {
        const { metadata } = encodeCommit({ offset, settled: [], partitions: knownPartitions });
        return { topic, partition, offset, metadata };
      });
      await this.#consumer.commit(commits);
    }
    return starts;
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
    if (partition.isHeldUp) this.#holdUp(partition);
    if (partition.waitsFor(this.#dueBounds)) this.#pause(partition);
    if (!this.#hasEnough()) return;
    return this.#waitForRoom();
  }

  #holdUp(partition: OwnedPartition): void {
    if (partition.paused) return;
    const { logger, name, maxOffsetGap } = this.#fields;
    logger.warn(
      `${name}: ${nameOf(partition)} waits for its record ${partition.oldestUnsettled}, which is not settled; ` +
        `maxOffsetGap allows ${maxOffsetGap} beyond it`,
    );
    this.#pause(partition);
  }

  /** Holding the fetch up lets it go on at once; a fetch of paused partitions alone sleeps. */
  async #waitForRoom(): Promise<void> {
    this.#room ??= withResolvers<void>();
    const room = this.#room;
    for (let heldMs = 0; heldMs < longestHoldMs; heldMs += holdMs) {
      const handed = this.#handed;
      if (await endsWithin(this.#fields.clock, room.promise, holdMs)) return;
      // Whatever is stuck must not hold the others up.
      if (this.#handed === handed) break;
    }
    for (const partition of this.#line) if (partition.waiting > 0) this.#pause(partition);
    room.resolve();
    if (this.#room === room) this.#room = undefined;
  }

  #makeRoom(): void {
    // A sink that is full for now is no reason: what is fetched meanwhile is there when it takes more.
    if (this.#over || this.#stopped) return;
    const isWaiting = this.#room !== undefined || this.#line.some(({ paused }) => paused);
    if (!isWaiting || this.#hasEnough(2)) return;
    this.#room?.resolve();
    this.#room = undefined;
    for (const partition of this.#line) {
      const { paused, started, isHeldUp, isClogged } = partition;
      if (!paused || !started || isHeldUp || isClogged) continue;
      if (!partition.waitsFor(half(this.#dueBounds))) this.#resume(partition);
    }
  }

  /** What is held up by one record does not count: others must not wait for it. */
  #hasEnough(divisor = 1): boolean {
    let records = 0;
    let bytes = 0;
    for (const partition of this.#line) {
      if (partition.isHeldUp || (partition.paused && partition.isClogged)) continue;
      records += partition.waiting;
      bytes += partition.waitingBytes;
    }
    const { maxBytes } = this.#fields.settings;
    return records * divisor > enoughRecords || bytes * divisor > maxBytes;
  }

  /** Retention was faster than we, or another log has the name now. What is left is read from its beginning. */
  async #outOfRange(at: TopicPartition): Promise<void> {
    const partition = this.#partitions.get(nameOf(at));
    if (partition?.started !== true) return;
    const ends = await this.#fields.client.admin.ends(at.topic);
    const mine = ends.find((one) => one.partition === at.partition);
    if (mine === undefined || !partition.epoch.live) return;
    const { position } = partition;
    if (position > mine.high) return this.#beginAnew(partition, mine.low, ends.length);
    if (position >= mine.low) return this.#consumer.seek(partition, position);
    this.#noteLost(partition, mine.low - position, mine.low);
    partition.jump(mine.low);
    this.#consumer.seek(partition, mine.low);
  }

  #beginAnew(old: OwnedPartition, offset: number, knownPartitions: number): void {
    const { logger, name } = this.#fields;
    logger.warn(
      `${name}: ${nameOf(old)} is another log now and is read from its beginning, offset ${offset}`,
    );
    old.end();
    const partition = this.#take(old);
    this.#line = [...this.#partitions.values()];
    partition.start({ offset, metadata: null, knownPartitions, lost: 0 });
    this.#consumer.seek(partition, offset);
    this.#resume(partition);
    this.#committer.note('now');
  }

  #noteLost(at: TopicPartition, lost: number, offset: number): void {
    if (lost === 0) return;
    const { logger, counters, name } = this.#fields;
    counters.add('lost-to-retention', lost);
    logger.error(
      `${name}: ${lost} records of ${nameOf(at)} were deleted by retention before they were read; it goes on at ${offset}`,
    );
  }

  #pause(partition: OwnedPartition): void {
    if (partition.paused) return;
    partition.paused = true;
    this.#consumer.pause([partition]);
  }

  #resume(partition: OwnedPartition): void {
    if (!partition.paused) return;
    partition.paused = false;
    this.#consumer.resume([partition]);
  }
}

/** Going on takes until the next fetch: by then there must still be something to take up. */
function half({ records, bytes }: DueBounds): DueBounds {
  return { records: records / 2, bytes: bytes / 2 };
}

function nameOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}
