import { sleep, type Clock } from '../core/clock.js';
import type { LetterOutcome, LetterVisitor, StoredLetter } from '../core/dead-letters.js';
import { MessageTooLargeError, NoRouteError, PublishRejectedError } from '../core/errors.js';
import type { Headers } from '../core/headers.js';
import { KafkaClientError, type FetchedRecord } from './client.js';
import type { LetterPlace } from './letter-place.js';
import {
  batchesOf,
  markRecord,
  placeMark,
  placeReplay,
  replayedRecord,
  type PlacedRecord,
  type WritableTopic,
} from './letter-records.js';
import type { LetterTopics } from './letter-topics.js';
import type { LetterWriter } from './letter-writer.js';
import type { MarksReader } from './marks-reader.js';
import type { Partitioner } from './partitioner.js';

/** A letter that is decided on waits for others so long. */
const longestWaitMs = 1_000;
/** A commit that is not seen by then will be all the same. */
const seenLimitMs = 5_000;
const seenPollMs = 10;

/** A letter, its record, its mark, and what is to become of it. */
export interface DecidedLetter {
  readonly letter: StoredLetter;
  readonly record: FetchedRecord;
  readonly markKey: string;
  readonly verdict: 'discard' | { readonly replay: Headers };
}

/** A letter on its way back. */
interface Replay {
  readonly decided: DecidedLetter;
  readonly copy: PlacedRecord;
  readonly mark: PlacedRecord;
}

export interface LetterCarrierFields {
  readonly place: LetterPlace;
  readonly topics: LetterTopics;
  readonly marks: MarksReader;
  readonly writer: LetterWriter;
  readonly settled: LetterVisitor['settled'];
  /** Letters that are carried out together. */
  readonly window: number;
  readonly maxBatchBytes: number;
  readonly partitioner: Partitioner | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly signal: AbortSignal;
}

/**
 * Carries out what a pass decides. A replayed record and its mark are written in one transaction, so that a crash leaves both or neither;
 * whoever begins later takes the transactions over, and reads the marks after that, so that two never replay the same letter. Letters are
 * collected first: no transaction is open while anybody thinks.
 */
export class LetterCarrier {
  readonly #fields: LetterCarrierFields;
  #decided: DecidedLetter[] = [];
  #dueMs = 0;

  constructor(fields: LetterCarrierFields) {
    this.#fields = fields;
  }

  /** In how many milliseconds the first of what was decided is to be carried out; undefined where there is nothing. */
  get dueInMs(): number | undefined {
    return this.#decided.length === 0 ? undefined : Math.max(0, this.#dueMs - this.#fields.clock.now());
  }

  /** Resolves when there is room for the next. */
  async add(decided: DecidedLetter): Promise<void> {
    if (this.#decided.length === 0) this.#dueMs = this.#fields.clock.now() + longestWaitMs;
    this.#decided.push(decided);
    if (this.#decided.length >= this.#fields.window || this.dueInMs === 0) await this.flush();
  }

  /** Carries out all that was decided; nothing where the signal has aborted. */
  async flush(): Promise<void> {
    const decided = this.#decided;
    this.#decided = [];
    this.#fields.signal.throwIfAborted();
    const discards = decided.filter(({ verdict }) => verdict === 'discard');
    if (discards.length > 0) await this.#discard(discards);
    const replays = decided.filter(({ verdict }) => verdict !== 'discard');
    if (replays.length > 0) await this.#replay(replays);
  }

  async #discard(letters: readonly DecidedLetter[]): Promise<void> {
    const { topics, writer, maxBatchBytes, clock } = this.#fields;
    const marksTopic = await topics.marks();
    const marks = letters.map(({ markKey }) =>
      placeMark(marksTopic, markRecord(markKey, 'discarded', clock.now())),
    );
    await writer.write(batchesOf(marks, maxBatchBytes));
    this.#done(letters, 'discarded');
  }

  async #replay(letters: readonly DecidedLetter[]): Promise<void> {
    const { topics, place } = this.#fields;
    const target = await topics.replays();
    if (target === undefined) {
      const gone = new NoRouteError(`the topic ${JSON.stringify(place.source)} is gone: nobody reads it`);
      for (const { letter } of letters) this.#fields.settled(letter, { kept: gone });
      return;
    }
    const replays = this.#prepare(letters, target, await topics.marks());
    if (replays.length > 0) await this.#write(replays);
  }

  #prepare(
    letters: readonly DecidedLetter[],
    target: WritableTopic,
    marksTopic: WritableTopic,
  ): readonly Replay[] {
    const { place, partitioner, clock, random } = this.#fields;
    // One partition for all without a key: each costs a transaction requests of its own.
    const spare = Math.floor(random() * target.partitions);
    const now = clock.now();
    return letters.flatMap((decided): readonly Replay[] => {
      const { letter, record, markKey, verdict } = decided;
      if (verdict === 'discard') return [];
      try {
        const copied = replayedRecord(record, verdict.replay, place.group, now);
        const copy = placeReplay(target, copied, spare, partitioner);
        return [{ decided, copy, mark: placeMark(marksTopic, markRecord(markKey, 'replayed', now)) }];
      } catch (error) {
        this.#fields.settled(letter, { kept: error });
        return [];
      }
    });
  }

  async #write(replays: readonly Replay[]): Promise<void> {
    const { writer, topics, marks } = this.#fields;
    const how = await writer.openTransactions();
    // Those who wrote before us can no more, and what they had begun is ended: now the marks are complete.
    if (how === 'opened') await marks.read(await topics.markEnds());
    const rest = this.#unmarked(replays);
    if (rest.length === 0) return;
    if (how === 'refused') await this.#writeOneByOne(rest);
    else await this.#writeTogether(rest);
  }

  async #writeTogether(replays: readonly Replay[]): Promise<void> {
    const { writer, maxBatchBytes } = this.#fields;
    const records = replays.flatMap(({ copy, mark }) => [copy, mark]);
    try {
      await writer.writeTogether(batchesOf(records, maxBatchBytes));
    } catch (error) {
      if (!isTooLarge(error)) throw error;
      return this.#writeHalves(replays, error);
    }
    this.#done(
      replays.map(({ decided }) => decided),
      'replayed',
    );
    await this.#untilSeen();
  }

  /** The broker confirms a commit a moment before readers see it: whoever looks after us would still find the letters. */
  async #untilSeen(): Promise<void> {
    const { marks, clock, signal } = this.#fields;
    const untilMs = clock.now() + seenLimitMs;
    await marks.readOn();
    while (marks.isBehind && clock.now() < untilMs) {
      await sleep(clock, seenPollMs, signal);
      await marks.readOn();
    }
  }

  /** In the end only what does not fit by itself is kept. */
  async #writeHalves(replays: readonly Replay[], error: Error): Promise<void> {
    if (replays.length === 1) return this.#keepTooLarge(replays[0]!, error);
    const middle = Math.ceil(replays.length / 2);
    await this.#write(replays.slice(0, middle));
    await this.#write(replays.slice(middle));
  }

  /** Without transactions: a crash leaves one letter that is replayed again. */
  async #writeOneByOne(replays: readonly Replay[]): Promise<void> {
    const { writer, signal, maxBatchBytes } = this.#fields;
    for (const replay of replays) {
      signal.throwIfAborted();
      try {
        await writer.write(batchesOf([replay.copy], maxBatchBytes));
      } catch (error) {
        if (!isTooLarge(error)) throw error;
        this.#keepTooLarge(replay, error);
        continue;
      }
      await writer.write(batchesOf([replay.mark], maxBatchBytes));
      this.#done([replay.decided], 'replayed');
    }
  }

  #unmarked(replays: readonly Replay[]): readonly Replay[] {
    const taken = new PublishRejectedError('somebody else has replayed or discarded it meanwhile');
    return replays.filter(({ decided }) => {
      const isMarked = this.#fields.marks.has(decided.markKey);
      if (isMarked) this.#fields.settled(decided.letter, { kept: taken });
      return !isMarked;
    });
  }

  #done(letters: readonly DecidedLetter[], outcome: LetterOutcome): void {
    for (const { letter, markKey } of letters) {
      this.#fields.marks.add(markKey);
      this.#fields.settled(letter, outcome);
    }
  }

  #keepTooLarge({ decided, copy }: Replay, cause: Error): void {
    const why = `it does not fit into ${copy.topic}: ${cause.message}`;
    this.#fields.settled(decided.letter, { kept: new MessageTooLargeError(why, { cause }) });
  }
}

function isTooLarge(error: unknown): error is KafkaClientError {
  return error instanceof KafkaClientError && error.failure === 'too-large';
}
