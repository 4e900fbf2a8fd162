import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withTimeout } from '../../core/runtime/with-timeout.js';
import type {
  DeadLetterStore,
  DeadLetterVisitor,
  ScanOptions,
  StoredDeadLetter,
  DeadLetterAction,
} from '../../core/port/dead-letter-store.js';
import { ClientClosedError, messageOf } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';
import { markerKey } from '../../driver-kit/log/dead-letter-markers.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import type {
  ConsumerSettings,
  KafkaClient,
  KafkaReader,
  LogEntry,
  PartitionEnds,
  ProducerSettings,
} from '../client/client.js';
import { DeadLetterReplayer } from './dead-letter-replayer.js';
import { deadLetterError } from './dead-letter-errors.js';
import type { KafkaDeadLetterLocation } from './dead-letter-location.js';
import { DeadLetterTopics, type DeadLetterTopicsFields } from './dead-letter-topics.js';
import { TransactionalWriter } from './transactional-writer.js';
import { logSlices } from './log-slices.js';
import { ReplayLedger } from './replay-ledger.js';
import type { Partitioner } from '../produce/partitioner.js';
import { inboundMessage } from '../records.js';

/** Letters that one transaction replays. */
const longestTransaction = 100;
const closeLimitMs = 5_000;

export interface KafkaDeadLetterStoreFields extends KafkaDeadLetterLocation {
  readonly client: KafkaClient;
  readonly topology: DeadLetterTopicsFields['topology'];
  readonly maxFetchBytes: number;
  readonly maxBatchBytes: number;
  readonly compression: ProducerSettings['compression'];
  readonly partitioner: Partitioner | undefined;
  readonly patternHeader: string | undefined;
  /** How the group's consumers of this transport read. */
  readonly isolation: ConsumerSettings['isolation'];
  readonly guessContentType: (headers: MessageHeaders, body: Buffer | null) => string | undefined;
  /** The transport's. */
  readonly name: string;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  /** Called once, when it is closed. */
  closed(): void;
}

/** Letters are read without a group: nothing is committed and nobody is disturbed. What was done to them stands in a topic beside them. */
export class KafkaDeadLetterStore implements DeadLetterStore {
  readonly name: string;
  readonly source: string;
  readonly group: string;
  readonly defaultWindow = longestTransaction;
  readonly #fields: KafkaDeadLetterStoreFields;
  /** Aborts what goes on when it is closed. */
  readonly #end = new AbortController();
  readonly #passes = new Set<Promise<void>>();
  #opening: Promise<KafkaReader> | undefined;
  #closing: Promise<void> | undefined;

  constructor(fields: KafkaDeadLetterStoreFields) {
    this.#fields = fields;
    this.name = fields.from;
    this.source = fields.source;
    this.group = fields.group;
  }

  async count(): Promise<number> {
    const { signal } = this.#end;
    return this.#told(async () => {
      const topics = this.#topics();
      const ends = await topics.deadLetterEndOffsets();
      const marks = await this.#readMarks(topics, signal);
      const all = ends.reduce((sum, { low, high }) => sum + high - low, 0);
      return Math.max(0, all - marks.countWithin(ends));
    });
  }

  async warnings(): Promise<readonly string[]> {
    const { client, isolation, name } = this.#fields;
    const group = JSON.stringify(this.group);
    const warnings: string[] = [];
    const members = await client.admin.members(this.group).catch((error: unknown) => messageOf(error));
    if (members === 0)
      warnings.push(`the group ${group} has no members: replayed letters wait until somebody consumes`);
    else if (typeof members === 'string')
      warnings.push(`whether the group ${group} has members cannot be told: ${members}`);
    const sources = await this.#told(() => client.admin.partitionCounts([this.source]));
    if (!sources.has(this.source))
      warnings.push(`the topic ${JSON.stringify(this.source)} is gone: its letters cannot be replayed`);
    if (isolation === 'read-uncommitted')
      warnings.push(
        `${name} reads with isolation 'read-uncommitted': of a replay that breaks off, its handlers may see letters that stay here too`,
      );
    return warnings;
  }

  async scan(visitor: DeadLetterVisitor, { window, signal }: ScanOptions): Promise<void> {
    const either = AbortSignal.any([signal, this.#end.signal]);
    const passing = this.#told(() => this.#pass(visitor, Math.min(window, longestTransaction), either));
    const ended = passing.catch(() => {});
    this.#passes.add(ended);
    void ended.then(() => this.#passes.delete(ended));
    return passing;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#end.abort(new ClientClosedError(`the dead letters of ${JSON.stringify(this.name)} are closed`));
    await settlesWithin(this.#fields.clock, Promise.all(this.#passes), closeLimitMs);
    const reader = this.#opening?.then(
      (open) => open.close(),
      () => {},
    );
    await settlesWithin(this.#fields.clock, reader ?? Promise.resolve(), closeLimitMs);
    this.#fields.closed();
  }

  async #pass(visitor: DeadLetterVisitor, window: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { client, compression, maxBatchBytes, partitioner, name, clock, random, logger } = this.#fields;
    const topics = this.#topics();
    // Before the marks: what is marked meanwhile is then known to be.
    const ends = await withTimeout(topics.deadLetterEndOffsets(), { signal });
    const marks = await this.#readMarks(topics, signal);
    const place = this.#fields;
    const writer = new TransactionalWriter({ place, client, compression, name, clock, logger, signal });
    const settled: DeadLetterVisitor['settled'] = (deadLetter, outcome) =>
      visitor.settled(deadLetter, outcome);
    const given = { place, topics, marks, writer, settled, window, maxBatchBytes, partitioner };
    const work = new DeadLetterReplayer({ ...given, clock, random, signal });
    try {
      await this.#visitAll(ends, visitor, marks, work, signal);
      await work.flush();
    } finally {
      await writer.close();
    }
  }

  /** Ends where the visitor says so. */
  async #visitAll(
    ends: readonly PartitionEnds[],
    visitor: DeadLetterVisitor,
    marks: ReplayLedger,
    work: DeadLetterReplayer,
    signal: AbortSignal,
  ): Promise<void> {
    for await (const { partition, record } of this.#deadLetters(ends, signal)) {
      const deadLetter = this.#letter(partition, record);
      const key = markerKey({
        partition,
        offset: Number(record.offset),
        headers: deadLetter.message.headers,
      });
      if (marks.has(key)) continue;
      const verdict = await this.#verdict(visitor, deadLetter, work, signal);
      if (verdict === 'stop') return;
      if (verdict !== 'keep') await work.add({ deadLetter, record, markKey: key, verdict });
    }
  }

  async *#deadLetters(
    ends: readonly PartitionEnds[],
    signal: AbortSignal,
  ): AsyncGenerator<{ readonly partition: number; readonly record: LogEntry }> {
    const fields = { reader: await this.#reader(signal), admin: this.#fields.client.admin, signal };
    for (const { partition, low, high } of ends) {
      const at = { topic: this.name, partition };
      for await (const { entries } of logSlices(fields, at, 'committed', low, high)) {
        for (const record of entries) if (Number(record.offset) < high) yield { partition, record };
      }
    }
  }

  /** What is decided is carried out in good time, however long the next letter is thought about. */
  async #verdict(
    visitor: DeadLetterVisitor,
    deadLetter: StoredDeadLetter,
    work: DeadLetterReplayer,
    signal: AbortSignal,
  ): Promise<DeadLetterAction> {
    const decision = visitor.decide(deadLetter);
    if (!(decision instanceof Promise)) return decision;
    const { dueInMs } = work;
    if (dueInMs !== undefined && !(await settlesWithin(this.#fields.clock, decision, dueInMs)))
      await work.flush();
    const verdict = await withTimeout(decision, { signal });
    signal.throwIfAborted();
    return verdict;
  }

  #letter(partition: number, record: LogEntry): StoredDeadLetter {
    const { patternHeader, guessContentType } = this.#fields;
    const reading = { topic: this.name, partition, source: this.name, patternHeader, guessContentType };
    const offset = Number(record.offset);
    return { id: `${partition}/${offset}`, message: inboundMessage(reading, record, offset) };
  }

  /** What they remember of topics holds for one pass. */
  #topics(): DeadLetterTopics {
    const { client, topology } = this.#fields;
    return new DeadLetterTopics({ place: this.#fields, admin: client.admin, topology });
  }

  async #readMarks(topics: DeadLetterTopics, signal: AbortSignal): Promise<ReplayLedger> {
    const { admin } = this.#fields.client;
    const fields = { reader: await this.#reader(signal), admin, signal };
    const marks = new ReplayLedger(fields, topics.marksName);
    await marks.read(await withTimeout(topics.markEnds(), { signal }));
    return marks;
  }

  async #reader(signal: AbortSignal): Promise<KafkaReader> {
    signal.throwIfAborted();
    const { client, maxFetchBytes } = this.#fields;
    this.#opening ??= client.openReader({ maxBytes: maxFetchBytes }).catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return withTimeout(this.#opening, { signal });
  }

  async #told<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw deadLetterError(error, this.#fields);
    }
  }
}
