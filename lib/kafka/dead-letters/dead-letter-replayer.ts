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
  markerRecord,
  replayedRecord,
  routeMarker,
  routeReplayed,
  type RoutedRecord,
  type TargetTopic,
} from './dead-letter-records.js';
import type { DeadLetterTopics } from './dead-letter-topics.js';
import type { TransactionalWriter } from './transactional-writer.js';
import type { ReplayLedger } from './replay-ledger.js';
import type { Partitioner } from '../produce/partitioner.js';

/** A pending action waits this long for further ones to share its transaction. */
const maxCollectMs = 1_000;
/**
 * How long to wait until readers see a confirmed commit. The commit is durable even if they see it later.
 */
const commitVisibleTimeoutMs = 5_000;
const commitPollMs = 10;

/** A dead letter that is to be discarded or replayed. */
export interface PendingAction {
  readonly deadLetter: StoredDeadLetter;
  readonly record: FetchedRecord;
  readonly markerKey: string;
  readonly action: 'discard' | { readonly replay: MessageHeaders };
}

/** A replayed record and its marker, which are written together. */
interface Replay {
  readonly pending: PendingAction;
  readonly replayed: RoutedRecord;
  readonly marker: RoutedRecord;
}

export interface DeadLetterReplayerFields {
  readonly location: KafkaDeadLetterLocation;
  readonly topics: DeadLetterTopics;
  readonly ledger: ReplayLedger;
  readonly writer: TransactionalWriter;
  readonly settled: DeadLetterVisitor['settled'];
  /** Limit of dead letters per transaction. */
  readonly window: number;
  readonly maxBatchBytes: number;
  readonly partitioner: Partitioner | undefined;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly signal: AbortSignal;
}

/**
 * Replays and discards dead letters. A replayed record and its marker are written in one transaction: after
 * a crash both or neither of them exist. A process that opens the transactional id fences the earlier one
 * and reads the markers afterwards, so that two processes never replay the same dead letter. Actions are
 * collected first: no transaction is open while the visitor decides.
 */
export class DeadLetterReplayer {
  readonly #fields: DeadLetterReplayerFields;
  #pending: PendingAction[] = [];
  #flushAtMs = 0;

  constructor(fields: DeadLetterReplayerFields) {
    this.#fields = fields;
  }

  /** Milliseconds until the next flush is due; undefined if no action is pending. */
  get flushInMs(): number | undefined {
    return this.#pending.length === 0 ? undefined : Math.max(0, this.#flushAtMs - this.#fields.clock.now());
  }

  /** Resolves when the next action can be added. */
  async add(pending: PendingAction): Promise<void> {
    if (this.#pending.length === 0) this.#flushAtMs = this.#fields.clock.now() + maxCollectMs;
    this.#pending.push(pending);
    if (this.#pending.length >= this.#fields.window || this.flushInMs === 0) await this.flush();
  }

  /** Executes all pending actions; none if the signal has aborted. */
  async flush(): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    this.#fields.signal.throwIfAborted();
    const discards = pending.filter(({ action }) => action === 'discard');
    if (discards.length > 0) await this.#discard(discards);
    const replays = pending.filter(({ action }) => action !== 'discard');
    if (replays.length > 0) await this.#replay(replays);
  }

  async #discard(discards: readonly PendingAction[]): Promise<void> {
    const { topics, writer, maxBatchBytes, clock } = this.#fields;
    const markersTopic = await topics.declareMarkersTopic();
    const markers = discards.map(({ markerKey }) =>
      routeMarker(markersTopic, markerRecord(markerKey, 'discarded', clock.now())),
    );
    await writer.write(batchesOf(markers, maxBatchBytes));
    this.#complete(discards, 'discarded');
  }

  async #replay(pending: readonly PendingAction[]): Promise<void> {
    const { topics, location } = this.#fields;
    const replayTopic = await topics.declareReplayTopic();
    if (replayTopic === undefined) {
      const why = `the topic ${JSON.stringify(location.source)} is gone: no consumer would get a replayed message`;
      const gone = new NoRouteError(why);
      for (const { deadLetter } of pending) this.#fields.settled(deadLetter, { skipped: gone });
      return;
    }
    const replays = this.#prepare(pending, replayTopic, await topics.declareMarkersTopic());
    if (replays.length > 0) await this.#write(replays);
  }

  #prepare(
    pending: readonly PendingAction[],
    replayTopic: TargetTopic,
    markersTopic: TargetTopic,
  ): readonly Replay[] {
    const { location, partitioner, clock, random } = this.#fields;
    // One partition for all records without a key: each partition adds requests to the transaction.
    const keylessPartition = Math.floor(random() * replayTopic.partitions);
    const nowMs = clock.now();
    return pending.flatMap((one): readonly Replay[] => {
      const { deadLetter, record, markerKey, action } = one;
      if (action === 'discard') return [];
      try {
        const replayed = replayedRecord(record, action.replay, location.group, nowMs);
        const marker = markerRecord(markerKey, 'replayed', nowMs);
        return [
          {
            pending: one,
            replayed: routeReplayed(replayTopic, replayed, keylessPartition, partitioner),
            marker: routeMarker(markersTopic, marker),
          },
        ];
      } catch (error) {
        this.#fields.settled(deadLetter, { skipped: error });
        return [];
      }
    });
  }

  async #write(replays: readonly Replay[]): Promise<void> {
    const { writer, topics, ledger } = this.#fields;
    const transactions = await writer.openTransactions();
    // Earlier processes are fenced and their transactions have ended: their markers are complete.
    if (transactions === 'opened') await ledger.read(await topics.markerOffsets());
    const unmarked = this.#skipMarked(replays);
    if (unmarked.length === 0) return;
    if (transactions === 'refused') await this.#writeOneByOne(unmarked);
    else await this.#writeInTransaction(unmarked);
  }

  async #writeInTransaction(replays: readonly Replay[]): Promise<void> {
    const { writer, maxBatchBytes } = this.#fields;
    const records = replays.flatMap(({ replayed, marker }) => [replayed, marker]);
    try {
      await writer.writeInTransaction(batchesOf(records, maxBatchBytes));
    } catch (error) {
      if (!isTooLarge(error)) throw error;
      return this.#writeHalves(replays, error);
    }
    this.#complete(
      replays.map(({ pending }) => pending),
      'replayed',
    );
    await this.#awaitCommitVisible();
  }

  /**
   * The broker confirms a commit shortly before readers see it. Without this wait, a scan that starts right
   * after this one would still find the replayed dead letters.
   */
  async #awaitCommitVisible(): Promise<void> {
    const { ledger, clock, signal } = this.#fields;
    const deadlineMs = clock.now() + commitVisibleTimeoutMs;
    await ledger.readNew();
    while (ledger.isAheadOfLog && clock.now() < deadlineMs) {
      await sleep(clock, commitPollMs, signal);
      await ledger.readNew();
    }
  }

  /** Splits a too large transaction. Skips a dead letter only if it exceeds the limit by itself. */
  async #writeHalves(replays: readonly Replay[], error: Error): Promise<void> {
    if (replays.length === 1) return this.#skipTooLarge(replays[0]!, error);
    const middle = Math.ceil(replays.length / 2);
    await this.#write(replays.slice(0, middle));
    await this.#write(replays.slice(middle));
  }

  /** Without transactions a crash between the two writes leaves one dead letter that is replayed again. */
  async #writeOneByOne(replays: readonly Replay[]): Promise<void> {
    const { writer, signal, maxBatchBytes } = this.#fields;
    for (const replay of replays) {
      signal.throwIfAborted();
      try {
        await writer.write(batchesOf([replay.replayed], maxBatchBytes));
      } catch (error) {
        if (!isTooLarge(error)) throw error;
        this.#skipTooLarge(replay, error);
        continue;
      }
      await writer.write(batchesOf([replay.marker], maxBatchBytes));
      this.#complete([replay.pending], 'replayed');
    }
  }

  /** Skips the dead letters that have a marker, and returns the others. */
  #skipMarked(replays: readonly Replay[]): readonly Replay[] {
    const skipped = new PublishRejectedError('another process has replayed or discarded it in the meantime');
    return replays.filter(({ pending }) => {
      const isMarked = this.#fields.ledger.has(pending.markerKey);
      if (isMarked) this.#fields.settled(pending.deadLetter, { skipped });
      return !isMarked;
    });
  }

  #complete(actions: readonly PendingAction[], outcome: DeadLetterOutcome): void {
    for (const { deadLetter, markerKey } of actions) {
      this.#fields.ledger.add(markerKey);
      this.#fields.settled(deadLetter, outcome);
    }
  }

  #skipTooLarge({ pending, replayed }: Replay, cause: Error): void {
    const why = `it exceeds the size limit of ${replayed.topic}: ${cause.message}`;
    this.#fields.settled(pending.deadLetter, { skipped: new MessageTooLargeError(why, { cause }) });
  }
}

function isTooLarge(error: unknown): error is KafkaClientError {
  return error instanceof KafkaClientError && error.failure === 'too-large';
}
