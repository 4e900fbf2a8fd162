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
import { markerKeyOf } from '../../driver-kit/log/dead-letter-markers.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import type {
  ConsumerSettings,
  KafkaClient,
  KafkaReader,
  LogEntry,
  PartitionOffsets,
  ProducerSettings,
} from '../client/client.js';
import { DeadLetterReplayer } from './dead-letter-replayer.js';
import { deadLetterError } from './dead-letter-errors.js';
import type { KafkaDeadLetterLocation } from './dead-letter-location.js';
import { DeadLetterTopics, type DeadLetterTopicsFields } from './dead-letter-topics.js';
import { TransactionalWriter } from './transactional-writer.js';
import { readPartition } from './read-partition.js';
import { ReplayLedger } from './replay-ledger.js';
import type { Partitioner } from '../produce/partitioner.js';
import { inboundMessage } from '../records.js';

/** Dead letters per transaction. */
const maxWindow = 100;
const closeTimeoutMs = 5_000;

export interface KafkaDeadLetterStoreFields extends KafkaDeadLetterLocation {
  readonly client: KafkaClient;
  readonly topology: DeadLetterTopicsFields['topology'];
  readonly maxFetchBytes: number;
  readonly maxBatchBytes: number;
  readonly compression: ProducerSettings['compression'];
  readonly partitioner: Partitioner | undefined;
  readonly patternHeader: string | undefined;
  /** Isolation level of the transport's consumers. */
  readonly isolation: ConsumerSettings['isolation'];
  readonly guessContentType: (headers: MessageHeaders, body: Buffer | null) => string | undefined;
  /** Name of the transport. */
  readonly name: string;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  /** Called once, after the store is closed. */
  closed(): void;
}

/**
 * The dead letters of one topic and group. They are read without a consumer group, so that browsing commits
 * nothing and causes no rebalance. Records of a log cannot be deleted: the markers topic records which ones
 * were replayed or discarded.
 */
export class KafkaDeadLetterStore implements DeadLetterStore {
  readonly name: string;
  readonly source: string;
  readonly group: string;
  readonly defaultWindow = maxWindow;
  readonly #fields: KafkaDeadLetterStoreFields;
  /** Aborts running scans when the store is closed. */
  readonly #closeSignal = new AbortController();
  readonly #scans = new Set<Promise<void>>();
  #openingReader: Promise<KafkaReader> | undefined;
  #closing: Promise<void> | undefined;

  constructor(fields: KafkaDeadLetterStoreFields) {
    this.#fields = fields;
    this.name = fields.from;
    this.source = fields.source;
    this.group = fields.group;
  }

  async count(): Promise<number> {
    const { signal } = this.#closeSignal;
    return this.#mapErrors(async () => {
      const topics = this.#newTopics();
      const ends = await topics.deadLetterOffsets();
      const ledger = await this.#readLedger(topics, signal);
      const total = ends.reduce((sum, { low, high }) => sum + high - low, 0);
      return Math.max(0, total - ledger.countWithin(ends));
    });
  }

  async warnings(): Promise<readonly string[]> {
    const { client, isolation, name } = this.#fields;
    const group = JSON.stringify(this.group);
    const warnings: string[] = [];
    const members = await client.admin.memberCount(this.group).catch((error: unknown) => messageOf(error));
    if (members === 0)
      warnings.push(
        `the group ${group} has no members: replayed dead letters are handled when a consumer joins it`,
      );
    else if (typeof members === 'string')
      warnings.push(`the members of the group ${group} cannot be counted: ${members}`);
    const sources = await this.#mapErrors(() => client.admin.partitionCounts([this.source]));
    if (!sources.has(this.source))
      warnings.push(`the topic ${JSON.stringify(this.source)} is gone: its dead letters cannot be replayed`);
    if (isolation === 'read-uncommitted')
      warnings.push(
        `${name} reads with isolation 'read-uncommitted': if a replay is aborted, its handlers may receive messages that also remain dead letters`,
      );
    return warnings;
  }

  async scan(visitor: DeadLetterVisitor, { window, signal }: ScanOptions): Promise<void> {
    const scanSignal = AbortSignal.any([signal, this.#closeSignal.signal]);
    const scanning = this.#mapErrors(() => this.#scan(visitor, Math.min(window, maxWindow), scanSignal));
    const ended = scanning.catch(() => {});
    this.#scans.add(ended);
    void ended.then(() => this.#scans.delete(ended));
    return scanning;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closeSignal.abort(
      new ClientClosedError(`the dead letters of ${JSON.stringify(this.name)} are closed`),
    );
    await settlesWithin(this.#fields.clock, Promise.all(this.#scans), closeTimeoutMs);
    const readerClosed = this.#openingReader?.then(
      (reader) => reader.close(),
      () => {},
    );
    await settlesWithin(this.#fields.clock, readerClosed ?? Promise.resolve(), closeTimeoutMs);
    this.#fields.closed();
  }

  async #scan(visitor: DeadLetterVisitor, window: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { client, compression, maxBatchBytes, partitioner, name, clock, random, logger } = this.#fields;
    const topics = this.#newTopics();
    // Read before the markers, so that the ledger has every marker of a dead letter below these offsets.
    const ends = await withTimeout(topics.deadLetterOffsets(), { signal });
    const ledger = await this.#readLedger(topics, signal);
    const location = this.#fields;
    const writer = new TransactionalWriter({ location, client, compression, name, clock, logger, signal });
    const settled: DeadLetterVisitor['settled'] = (deadLetter, outcome) =>
      visitor.settled(deadLetter, outcome);
    const scanFields = { location, topics, ledger, writer, settled, window, maxBatchBytes, partitioner };
    const replayer = new DeadLetterReplayer({ ...scanFields, clock, random, signal });
    try {
      await this.#visitAll(ends, visitor, ledger, replayer, signal);
      await replayer.flush();
    } finally {
      await writer.close();
    }
  }

  /** Visits the dead letters without a marker, until the visitor returns `stop`. */
  async #visitAll(
    ends: readonly PartitionOffsets[],
    visitor: DeadLetterVisitor,
    ledger: ReplayLedger,
    replayer: DeadLetterReplayer,
    signal: AbortSignal,
  ): Promise<void> {
    for await (const { partition, record } of this.#readRecords(ends, signal)) {
      const deadLetter = this.#storedDeadLetter(partition, record);
      const { headers } = deadLetter.message;
      const markerKey = markerKeyOf({ partition, offset: Number(record.offset), headers });
      if (ledger.has(markerKey)) continue;
      const action = await this.#decide(visitor, deadLetter, replayer, signal);
      if (action === 'stop') return;
      if (action !== 'keep') await replayer.add({ deadLetter, record, markerKey, action });
    }
  }

  async *#readRecords(
    ends: readonly PartitionOffsets[],
    signal: AbortSignal,
  ): AsyncGenerator<{ readonly partition: number; readonly record: LogEntry }> {
    const fields = { reader: await this.#reader(signal), admin: this.#fields.client.admin, signal };
    for (const { partition, low, high } of ends) {
      const at = { topic: this.name, partition };
      for await (const { entries } of readPartition(fields, at, 'committed', low, high)) {
        for (const record of entries) if (Number(record.offset) < high) yield { partition, record };
      }
    }
  }

  /** Flushes pending actions when they are due, even if the visitor needs longer for its next decision. */
  async #decide(
    visitor: DeadLetterVisitor,
    deadLetter: StoredDeadLetter,
    replayer: DeadLetterReplayer,
    signal: AbortSignal,
  ): Promise<DeadLetterAction> {
    const decision = visitor.decide(deadLetter);
    if (!(decision instanceof Promise)) return decision;
    const { flushInMs } = replayer;
    if (flushInMs !== undefined && !(await settlesWithin(this.#fields.clock, decision, flushInMs)))
      await replayer.flush();
    const action = await withTimeout(decision, { signal });
    signal.throwIfAborted();
    return action;
  }

  #storedDeadLetter(partition: number, record: LogEntry): StoredDeadLetter {
    const { patternHeader, guessContentType } = this.#fields;
    const recordSource = { topic: this.name, partition, source: this.name, patternHeader, guessContentType };
    const offset = Number(record.offset);
    return { id: `${partition}/${offset}`, message: inboundMessage(recordSource, record, offset) };
  }

  /** One instance per scan, because it caches topic metadata. */
  #newTopics(): DeadLetterTopics {
    const { client, topology } = this.#fields;
    return new DeadLetterTopics({ location: this.#fields, admin: client.admin, topology });
  }

  async #readLedger(topics: DeadLetterTopics, signal: AbortSignal): Promise<ReplayLedger> {
    const { admin } = this.#fields.client;
    const fields = { reader: await this.#reader(signal), admin, signal };
    const ledger = new ReplayLedger(fields, topics.markersTopic);
    await ledger.read(await withTimeout(topics.markerOffsets(), { signal }));
    return ledger;
  }

  async #reader(signal: AbortSignal): Promise<KafkaReader> {
    signal.throwIfAborted();
    const { client, maxFetchBytes } = this.#fields;
    this.#openingReader ??= client.openReader({ maxBytes: maxFetchBytes }).catch((error: unknown) => {
      this.#openingReader = undefined;
      throw error;
    });
    return withTimeout(this.#openingReader, { signal });
  }

  async #mapErrors<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw deadLetterError(error, this.#fields);
    }
  }
}
