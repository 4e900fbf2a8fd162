import { sleep, type StorkClock } from '../../core/runtime/clock.js';
import type {
  DeadLetterOutcome,
  DeadLetterVisitor,
  StoredDeadLetter,
} from '../../core/port/dead-letter-store.js';
import { MessageTooLargeError, NoRouteError, PublishRejectedError } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';
import { KafkaClientError, type FetchedRecord } from '../client/client.js';
import type { KafkaDeadLetterLocation } from './dead-letter-location.js';
import {
  batchesOf,
  markRecord,
  placeMark,
  placeReplay,
  replayedRecord,
  type PlacedRecord,
  type WritableTopic,
} from './dead-letter-records.js';
import type { DeadLetterTopics } from './dead-letter-topics.js';
import type { TransactionalWriter } from './transactional-writer.js';
import type { ReplayLedger } from './replay-ledger.js';
import type { Partitioner } from '../produce/partitioner.js';

/** A letter that is decided on waits for others so long. */
const longestWaitMs = 1_000;
/** A commit that is not seen by then will be all the same. */
const seenLimitMs = 5_000;
const seenPollMs = 10;

/** A letter, its record, its mark, and what is to become of it. */
export interface DecidedDeadLetter {
  readonly deadLetter: StoredDeadLetter;
  readonly record: FetchedRecord;
  readonly markKey: string;
  readonly verdict: 'discard' | { readonly replay: MessageHeaders };
}

/** A letter on its way back. */
interface Replay {
  readonly decided: DecidedDeadLetter;
  readonly copy: PlacedRecord;
  readonly mark: PlacedRecord;
}

export interface DeadLetterReplayerFields {
  readonly place: KafkaDeadLetterLocation;
  readonly topics: DeadLetterTopics;
  readonly marks: ReplayLedger;
  readonly writer: TransactionalWriter;
  readonly settled: DeadLetterVisitor['settled'];
  /** Letters that are carried out together. */
  readonly window: number;
  readonly maxBatchBytes: number;
  readonly partitioner: Partitioner | undefined;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly signal: AbortSignal;
}

/**
 * Carries out what a pass decides. A replayed record and its mark are written in one transaction, so that a crash leaves both or neither;
 * whoever begins later takes the transactions over, and reads the marks after that, so that two never replay the same letter. Letters are
 * collected first: no transaction is open while anybody thinks.
 */
export class DeadLetterReplayer {
  readonly #fields: DeadLetterReplayerFields;
  #decided: DecidedDeadLetter[] = [];
  #dueMs = 0;

  constructor(fields: DeadLetterReplayerFields) {
    this.#fields = fields;
  }

  /** In how many milliseconds the first of what was decided is to be carried out; undefined where there is nothing. */
  get dueInMs(): number | undefined {
    return this.#decided.length === 0 ? undefined : Math.max(0, this.#dueMs - this.#fields.clock.now());
  }

  /** Resolves when there is room for the next. */
  async add(decided: DecidedDeadLetter): Promise<void> {
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

  async #discard(deadLetters: readonly DecidedDeadLetter[]): Promise<void> {
    const { topics, writer, maxBatchBytes, clock } = this.#fields;
    const markersTopic = await topics.marks();
    const marks = deadLetters.map(({ markKey }) =>
      placeMark(markersTopic, markRecord(markKey, 'discarded', clock.now())),
    );
    await writer.write(batchesOf(marks, maxBatchBytes));
    this.#done(deadLetters, 'discarded');
  }

  async #replay(deadLetters: readonly DecidedDeadLetter[]): Promise<void> {
    const { topics, place } = this.#fields;
    const target = await topics.replays();
    if (target === undefined) {
      const gone = new NoRouteError(`the topic ${JSON.stringify(place.source)} is gone: nobody reads it`);
      for (const { deadLetter } of deadLetters) this.#fields.settled(deadLetter, { skipped: gone });
      return;
    }
    const replays = this.#prepare(deadLetters, target, await topics.marks());
    if (replays.length > 0) await this.#write(replays);
  }

  #prepare(
    deadLetters: readonly DecidedDeadLetter[],
    target: WritableTopic,
    markersTopic: WritableTopic,
  ): readonly Replay[] {
    const { place, partitioner, clock, random } = this.#fields;
    // One partition for all without a key: each costs a transaction requests of its own.
    const spare = Math.floor(random() * target.partitions);
    const now = clock.now();
    return deadLetters.flatMap((decided): readonly Replay[] => {
      const { deadLetter, record, markKey, verdict } = decided;
      if (verdict === 'discard') return [];
      try {
        const copied = replayedRecord(record, verdict.replay, place.group, now);
        const copy = placeReplay(target, copied, spare, partitioner);
        return [{ decided, copy, mark: placeMark(markersTopic, markRecord(markKey, 'replayed', now)) }];
      } catch (error) {
        this.#fields.settled(deadLetter, { skipped: error });
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
      if (isMarked) this.#fields.settled(decided.deadLetter, { skipped: taken });
      return !isMarked;
    });
  }

  #done(deadLetters: readonly DecidedDeadLetter[], outcome: DeadLetterOutcome): void {
    for (const { deadLetter, markKey } of deadLetters) {
      this.#fields.marks.add(markKey);
      this.#fields.settled(deadLetter, outcome);
    }
  }

  #keepTooLarge({ decided, copy }: Replay, cause: Error): void {
    const why = `it does not fit into ${copy.topic}: ${cause.message}`;
    this.#fields.settled(decided.deadLetter, { skipped: new MessageTooLargeError(why, { cause }) });
  }
}

function isTooLarge(error: unknown): error is KafkaClientError {
  return error instanceof KafkaClientError && error.failure === 'too-large';
}
