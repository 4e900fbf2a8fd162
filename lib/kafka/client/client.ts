/** The only Kafka client API that the driver uses. `kafkajs/` implements it. */
export interface KafkaClient {
  readonly admin: KafkaAdmin;
  /** Resolves when it can send. */
  openProducer(settings: ProducerSettings): Promise<KafkaProducer>;
  /**
   * Opens a transactional producer. Resolves when the previous transaction of its transactional id has
   * ended: committed if its commit had begun, else aborted.
   */
  openTransactions(settings: TransactionSettings): Promise<KafkaTransactions>;
  openConsumer(settings: ConsumerSettings, events: ConsumerEvents): KafkaConsumer;
  openReader(settings: ReaderSettings): Promise<KafkaReader>;
  /**
   * Closes the admin's connections only: producers, consumers and readers have their own. Never rejects.
   */
  close(): Promise<void>;
  /** The client of the library that implements this interface. */
  unwrap(): unknown;
  /** Ends every connection that is still open or being opened, and opens no further one. */
  abort(): void;
}

export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

export function partitionName({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

/**
 * Why a request failed.
 *
 * - `unknown-topic`: the topic or partition does not exist.
 * - `too-large`: the record batch exceeds the topic's `max.message.bytes`.
 * - `refused`: the broker rejected it and would reject a retry too, e.g. for a missing ACL.
 * - `unconfirmed`: it may have taken effect or not.
 * - `unavailable`: it has not taken effect; a retry may succeed.
 * - `unsupported-codec`: records are compressed with a codec that is not registered.
 * - `fenced`: another producer has opened the transactional id, or the transaction timed out.
 */
export type KafkaFailure =
  'unknown-topic' | 'too-large' | 'refused' | 'unconfirmed' | 'unavailable' | 'unsupported-codec' | 'fenced';

export class KafkaClientError extends Error {
  override readonly name = 'KafkaClientError';
  readonly failure: KafkaFailure;

  constructor(failure: KafkaFailure, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.failure = failure;
  }
}

export interface TopicToCreate {
  readonly topic: string;
  readonly partitions: number;
  /** Undefined: the broker's `default.replication.factor`. */
  readonly replicationFactor?: number | undefined;
  readonly config: Readonly<Record<string, string>>;
}

/** Beginning and end offset of a partition. */
export interface PartitionOffsets {
  readonly partition: number;
  /** Beginning offset: that of the oldest record that retention has kept. */
  readonly low: number;
  /** End offset: the one that the next record will get. */
  readonly high: number;
}

/** Every call rejects with `KafkaClientError`. */
export interface KafkaAdmin {
  /** Rejects with `refused` if a retry cannot help, e.g. for wrong credentials. */
  connect(): Promise<void>;
  clusterId(): Promise<string>;
  /** The brokers' `advertised.listeners`, as `host:port`. */
  advertisedAddresses(): Promise<readonly string[]>;
  /** Names of all topics of the cluster. */
  topicNames(): Promise<readonly string[]>;
  /** Number of partitions by topic. A topic that does not exist is omitted. */
  partitionCounts(topics: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** Creates topics that do not exist. `refused` names the topics for which permission is missing. */
  createTopics(topics: readonly TopicToCreate[]): Promise<void>;
  fetchOffsets(topic: string): Promise<readonly PartitionOffsets[]>;
  /** Settings of a topic by name, e.g. `max.message.bytes`. */
  topicConfig(topic: string): Promise<Readonly<Record<string, string>>>;
  deleteGroup(group: string): Promise<void>;
  /** Number of current members of the group. */
  memberCount(group: string): Promise<number>;
}

export interface ProducerSettings {
  /** `all`: each in-sync replica wrote the batch. `leader`: the leader did. `none`: it was sent. */
  readonly acks: 'all' | 'leader' | 'none';
  readonly idempotent: boolean;
  readonly compression: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd';
}

export interface RecordToSend {
  readonly key: Buffer | string | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, Buffer | string | (Buffer | string)[]>>;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp: number;
}

export interface KafkaProducer {
  /**
   * Sends one record batch to one partition. Resolves when the broker has confirmed it; rejects with
   * `KafkaClientError`. One call at a time per partition: parallel calls could be written in any order.
   */
  send(topic: string, partition: number, records: readonly RecordToSend[]): Promise<void>;
  /** Never rejects. */
  close(): Promise<void>;
}

export interface TransactionSettings {
  /** The transactional id. The last producer that opened it is the only one that can commit. */
  readonly id: string;
  /** The broker aborts a transaction that is open for longer. Also limits the wait for a coordinator. */
  readonly timeoutMs: number;
  /** Ends the wait for a transaction coordinator. */
  readonly signal: AbortSignal;
  readonly compression: ProducerSettings['compression'];
}

/** One record batch. */
export interface PartitionBatch {
  readonly topic: string;
  readonly partition: number;
  readonly records: readonly RecordToSend[];
}

export interface KafkaTransactions {
  /**
   * Writes all batches in one transaction. One call at a time. Rejects with `KafkaClientError`; the
   * producer must not be used afterwards, and after `unconfirmed` only the log shows whether the
   * transaction was committed.
   */
  write(batches: readonly PartitionBatch[]): Promise<void>;
  /** Never rejects. */
  close(): Promise<void>;
}

export interface ReaderSettings {
  /** Limit of one fetch; a larger record batch is fetched alone. */
  readonly maxBytes: number;
}

/** Reads partitions without a consumer group: no rebalance, no committed offset and no group to delete. */
export interface KafkaReader {
  /**
   * Records from the offset on, up to `maxBytes`; at the end offset an empty slice, without waiting.
   * Undefined if the offset is out of range. `committed`: without records of open and aborted
   * transactions, up to the last stable offset. `all`: every record and transaction marker, up to the high
   * watermark. Rejects with `KafkaClientError`.
   */
  fetch(at: TopicPartition, offset: number, which: 'committed' | 'all'): Promise<LogSlice | undefined>;
  /** Never rejects. A fetch in flight may stay pending. */
  close(): Promise<void>;
}

export interface LogSlice {
  readonly entries: readonly LogEntry[];
  /** Offset of the next fetch: after the entries and after records behind them that were filtered out. */
  readonly nextOffset: number;
  /** The partition's end at the time of the fetch. */
  readonly end: number;
}

export interface LogEntry extends FetchedRecord {
  /** Producer id of the record's transaction; undefined outside of a transaction. */
  readonly producer: string | undefined;
  /** Set on a control record, which ends the producer's transaction. */
  readonly transactionEnd: 'commit' | 'abort' | undefined;
}

/** A partition assignor: a pure function from members and partition numbers to partitions by member id. */
export type AssignPartitions = (
  members: readonly GroupMember[],
  partitionsOf: (topic: string) => readonly number[],
) => ReadonlyMap<string, readonly TopicPartition[]>;

export interface GroupMember {
  readonly id: string;
  /** The topics of its subscription. */
  readonly topics: readonly string[];
  /** Partitions that it reports to have owned before this join. Members of another library report none. */
  readonly ownedPartitions: readonly TopicPartition[];
}

export interface ConsumerSettings {
  readonly group: string;
  /** Every topic exists. */
  readonly topics: readonly string[];
  readonly sessionTimeoutMs: number;
  readonly heartbeatIntervalMs: number;
  readonly maxBytes: number;
  readonly maxBytesPerPartition: number;
  readonly maxWaitMs: number;
  readonly isolation: 'read-committed' | 'read-uncommitted';
  readonly assign: AssignPartitions;
}

/** A record as the broker returned it. */
export interface FetchedRecord {
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers?: Readonly<Record<string, Buffer | string | (Buffer | string)[] | undefined>> | undefined;
}

/** Called by the client; none may throw. */
export interface ConsumerEvents {
  /**
   * Before each JoinGroup, and before the client leaves the group by itself; both wait for the promise.
   *
   * @param evicted true if the coordinator removed the member: its partitions have other owners already
   */
  beforeJoin(evicted: boolean): Promise<void>;
  /** In the tick of the assignment. Retained partitions must be sought here: a join resets positions. */
  assigned(partitions: readonly TopicPartition[]): void;
  /**
   * Records of a partition in offset order; the client fetches on at `nextOffset`. While a returned promise
   * is pending, the client fetches no other partition of the same broker.
   */
  fetched(at: TopicPartition, records: readonly FetchedRecord[], nextOffset: number): void | Promise<void>;
  /** The position is out of range. The client fetches on at the offset of the next `seek`. */
  outOfRange(at: TopicPartition): Promise<void>;
  /** The consumer has failed; no event follows. */
  crashed(error: KafkaClientError): void;
}

/** A committed offset of the group; `offset` is −1 if the group has none for the partition. */
export interface CommittedOffset extends TopicPartition {
  readonly offset: number;
  readonly metadata: string | null;
}

export interface OffsetToCommit extends TopicPartition {
  readonly offset: number;
  readonly metadata: string;
}

/** One membership of a consumer group. A crashed consumer is replaced, never started again. */
export interface KafkaConsumer {
  /** Resolves when it has joined the group for the first time. */
  start(): Promise<void>;
  pause(at: readonly TopicPartition[]): void;
  resume(at: readonly TopicPartition[]): void;
  seek(at: TopicPartition, offset: number): void;
  /** Committed offsets of the group for these partitions of the topic. */
  committed(topic: string, partitions: readonly number[]): Promise<readonly CommittedOffset[]>;
  /** Commits in the generation of the calling tick, without a retry; rejects with `KafkaClientError`. */
  commit(offsets: readonly OffsetToCommit[]): Promise<void>;
  /** Leaves the group. Never rejects. */
  close(): Promise<void>;
}
