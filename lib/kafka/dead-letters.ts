import { endsWithin, type Clock } from '../core/clock.js';
import type {
  DeadLetterBox,
  LetterVisitor,
  PassOptions,
  StoredLetter,
  Verdict,
} from '../core/dead-letters.js';
import { ClientClosedError, messageOf } from '../core/errors.js';
import type { Headers } from '../core/headers.js';
import { markKey } from '../core/letter-marks.js';
import type { StorkLogger } from '../core/logger.js';
import { unlessAborted } from '../core/promises.js';
import type {
  ConsumerSettings,
  KafkaClient,
  KafkaReader,
  LogEntry,
  PartitionEnds,
  ProducerSettings,
} from './client.js';
import { LetterCarrier } from './letter-carrier.js';
import { letterError } from './letter-errors.js';
import type { LetterPlace } from './letter-place.js';
import { LetterTopics, type LetterTopicsFields } from './letter-topics.js';
import { LetterWriter } from './letter-writer.js';
import { logSlices } from './log-slices.js';
import { MarksReader } from './marks-reader.js';
import type { Partitioner } from './partitioner.js';
import { inboundMessage } from './records.js';

/** Letters that one transaction replays. */
const longestTransaction = 100;
const closeLimitMs = 5_000;

export interface KafkaDeadLettersFields extends LetterPlace {
  readonly client: KafkaClient;
  readonly topology: LetterTopicsFields['topology'];
  readonly maxFetchBytes: number;
  readonly maxBatchBytes: number;
  readonly compression: ProducerSettings['compression'];
  readonly partitioner: Partitioner | undefined;
  readonly patternHeader: string | undefined;
  /** How the group's consumers of this transport read. */
  readonly isolation: ConsumerSettings['isolation'];
  readonly guessContentType: (headers: Headers, body: Buffer | null) => string | undefined;
  /** The transport's. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  /** Called once, when it is closed. */
  closed(): void;
}

/** Letters are read without a group: nothing is committed and nobody is disturbed. What was done to them stands in a topic beside them. */
export class KafkaDeadLetters implements DeadLetterBox {
  readonly name: string;
  readonly source: string;
  readonly group: string;
  readonly defaultWindow = longestTransaction;
  readonly #fields: KafkaDeadLettersFields;
  /** Aborts what goes on when it is closed. */
  readonly #end = new AbortController();
  readonly #passes = new Set<Promise<void>>();
  #opening: Promise<KafkaReader> | undefined;
  #closing: Promise<void> | undefined;

  constructor(fields: KafkaDeadLettersFields) {
    this.#fields = fields;
    this.name = fields.from;
    this.source = fields.source;
    this.group = fields.group;
  }

  async count(): Promise<number> {
    const { signal } = this.#end;
    return this.#told(async () => {
      const topics = this.#topics();
      const ends = await topics.letterEnds();
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

  async pass(visitor: LetterVisitor, { window, signal }: PassOptions): Promise<void> {
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
    await endsWithin(this.#fields.clock, Promise.all(this.#passes), closeLimitMs);
    const reader = this.#opening?.then(
      (open) => open.close(),
      () => {},
    );
    await endsWithin(this.#fields.clock, reader ?? Promise.resolve(), closeLimitMs);
    this.#fields.closed();
  }

  async #pass(visitor: LetterVisitor, window: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { client, compression, maxBatchBytes, partitioner, name, clock, random, logger } = this.#fields;
    const topics = this.#topics();
    // Before the marks: what is marked meanwhile is then known to be.
    const ends = await unlessAborted(topics.letterEnds(), signal);
    const marks = await this.#readMarks(topics, signal);
    const place = this.#fields;
    const writer = new LetterWriter({ place, client, compression, name, clock, logger, signal });
    const settled: LetterVisitor['settled'] = (letter, outcome) => visitor.settled(letter, outcome);
    const given = { place, topics, marks, writer, settled, window, maxBatchBytes, partitioner };
    const work = new LetterCarrier({ ...given, clock, random, signal });
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
    visitor: LetterVisitor,
    marks: MarksReader,
    work: LetterCarrier,
    signal: AbortSignal,
  ): Promise<void> {
    for await (const { partition, record } of this.#letters(ends, signal)) {
      const letter = this.#letter(partition, record);
      const key = markKey({ partition, offset: Number(record.offset), headers: letter.message.headers });
      if (marks.has(key)) continue;
      const verdict = await this.#verdict(visitor, letter, work, signal);
      if (verdict === 'stop') return;
      if (verdict !== 'keep') await work.add({ letter, record, markKey: key, verdict });
    }
  }

  async *#letters(
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
    visitor: LetterVisitor,
    letter: StoredLetter,
    work: LetterCarrier,
    signal: AbortSignal,
  ): Promise<Verdict> {
    const answer = visitor.visit(letter);
    if (!(answer instanceof Promise)) return answer;
    const { dueInMs } = work;
    if (dueInMs !== undefined && !(await endsWithin(this.#fields.clock, answer, dueInMs))) await work.flush();
    const verdict = await unlessAborted(answer, signal);
    signal.throwIfAborted();
    return verdict;
  }

  #letter(partition: number, record: LogEntry): StoredLetter {
    const { patternHeader, guessContentType } = this.#fields;
    const reading = { topic: this.name, partition, source: this.name, patternHeader, guessContentType };
    const offset = Number(record.offset);
    return { id: `${partition}/${offset}`, message: inboundMessage(reading, record, offset) };
  }

  /** What they remember of topics holds for one pass. */
  #topics(): LetterTopics {
    const { client, topology } = this.#fields;
    return new LetterTopics({ place: this.#fields, admin: client.admin, topology });
  }

  async #readMarks(topics: LetterTopics, signal: AbortSignal): Promise<MarksReader> {
    const { admin } = this.#fields.client;
    const fields = { reader: await this.#reader(signal), admin, signal };
    const marks = new MarksReader(fields, topics.marksName);
    await marks.read(await unlessAborted(topics.markEnds(), signal));
    return marks;
  }

  async #reader(signal: AbortSignal): Promise<KafkaReader> {
    signal.throwIfAborted();
    const { client, maxFetchBytes } = this.#fields;
    this.#opening ??= client.openReader({ maxBytes: maxFetchBytes }).catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return unlessAborted(this.#opening, signal);
  }

  async #told<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw letterError(error, this.#fields);
    }
  }
}
