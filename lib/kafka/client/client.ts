/** What the driver needs of a Kafka client, and all that it knows of one. `kafka-client.ts` is the one that there is. */
export interface KafkaClient {
  readonly admin: KafkaAdmin;
  /** Resolves when it can send. */
  openProducer(settings: ProducerSettings): Promise<KafkaProducer>;
  /** Resolves when whatever was open under the same id is ended: committed if it was about to be, else aborted. */
  openTransactions(settings: TransactionSettings): Promise<KafkaTransactions>;
  openConsumer(settings: ConsumerSettings, events: ConsumerEvents): KafkaConsumer;
  openReader(settings: ReaderSettings): Promise<KafkaReader>;
  /** Ends the admin's connections; producers and consumers end by themselves. Never rejects. */
  close(): Promise<void>;
}

export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

export function nameOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

/**
 * Why the client could not do something. `unknown-topic`: the topic or partition is not there. `too-large`: the batch is. `refused`: the
 * broker said no and will again, e.g. no right to. `unconfirmed`: it may have been done or not. `unavailable`: it was not done, and may
 * be later. `unsupported-codec`: records that nobody here can unpack. `fenced`: somebody else has taken over the transactional id, or the transaction was open for too long.
 */
export type KafkaFailure =
  'unknown-topic' | 'too-large' | 'refused' | 'unconfirmed' | 'unavailable' | 'unsupported-codec' | 'fenced';

export class KafkaClientError extends Error {
  override readonly name = 'KafkaClientError';
  readonly failure: KafkaFailure;

  constructor(failure: KafkaFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.failure = failure;
  }
}

export interface TopicToCreate {
  readonly topic: string;
  readonly partitions: number;
  /** Undefined: the broker's default. */
  readonly replicationFactor?: number | undefined;
  readonly config: Readonly<Record<string, string>>;
}

export interface PartitionEnds {
  readonly partition: number;
  /** Offset of the oldest record that is kept. */
  readonly low: number;
  /** Offset that the next record will get. */
  readonly high: number;
}

/** Every call rejects with `KafkaClientError`. */
export interface KafkaAdmin {
  /** Connects; rejects with `refused` where trying again cannot help, e.g. wrong credentials. */
  connect(): Promise<void>;
  clusterId(): Promise<string>;
  /** Addresses that the brokers advertise, `host:port`. */
  advertised(): Promise<readonly string[]>;
  /** Names of all topics. */
  topicNames(): Promise<readonly string[]>;
  /** Number of partitions of those that exist. */
  partitionCounts(topics: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** Creates those that do not exist; `refused` names the topics that may not be created. */
  createTopics(topics: readonly TopicToCreate[]): Promise<void>;
  ends(topic: string): Promise<readonly PartitionEnds[]>;
  /** Settings of a topic by name, e.g. `max.message.bytes`. */
  topicConfig(topic: string): Promise<Readonly<Record<string, string>>>;
  deleteGroup(group: string): Promise<void>;
  /** How many consumers the group has now. */
  members(group: string): Promise<number>;
}

export interface ProducerSettings {
  /** `all`: every replica in sync has it. `leader`: the leader has. `none`: it was sent. */
  readonly acks: 'all' | 'leader' | 'none';
  readonly idempotent: boolean;
  readonly compression: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd';
}

export interface RecordToSend {
  readonly key: Buffer | string | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, Buffer | string | (Buffer | string)[]>>;
  /** Milliseconds since the epoch. */
  readonly timestamp: number;
}

export interface KafkaProducer {
  /**
   * One record batch to one partition. Resolves when the broker has confirmed it; rejects with `KafkaClientError`. One call at a time for a
   * partition, or order is lost.
   */
  send(topic: string, partition: number, records: readonly RecordToSend[]): Promise<void>;
  /** Never rejects. */
  close(): Promise<void>;
}

export interface TransactionSettings {
  /** The last to open one under this id is the only one that can commit. */
  readonly id: string;
  /** The broker aborts what is open for longer; a coordinator is waited for as long. */
  readonly timeoutMs: number;
  /** Nobody waits for a coordinator any more once it has aborted. */
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
   * All of it or nothing, in one transaction. One call at a time. Rejects with `KafkaClientError`; after that it is of no more use, and
   * with `unconfirmed` only the log tells whether it was written.
   */
  write(batches: readonly PartitionBatch[]): Promise<void>;
  /** Never rejects. */
  close(): Promise<void>;
}

export interface ReaderSettings {
  /** Of one fetch; a record batch that is larger comes alone. */
  readonly maxBytes: number;
}

/** Reads partitions without a group: nobody is disturbed, and nothing is left behind. */
export interface KafkaReader {
  /**
   * What the partition holds from the offset on, as much as fits; at the end nothing, at once. Undefined where the log does not hold the
   * offset. `committed`: records of transactions that are open or aborted are left out, and the log ends before the first that is open.
   * `all`: everything, with what is needed to tell. Rejects with `KafkaClientError`.
   */
  fetch(at: TopicPartition, offset: number, which: 'committed' | 'all'): Promise<LogSlice | undefined>;
  /** Never rejects; a fetch under way may never end. */
  close(): Promise<void>;
}

export interface LogSlice {
  readonly entries: readonly LogEntry[];
  /** Where to go on: beyond what was left out, too. */
  readonly nextOffset: number;
  /** Where the log ends now. */
  readonly end: number;
}

export interface LogEntry extends FetchedRecord {
  /** Of the transaction that it is part of, its producer; undefined outside of any. */
  readonly producer: string | undefined;
  /** It is no record, but ends the producer's transaction. */
  readonly marker: 'commit' | 'abort' | undefined;
}

/** Divides partitions among the members of a group; pure. */
export type AssignPartitions = (
  members: readonly GroupMember[],
  partitionsOf: (topic: string) => readonly number[],
) => ReadonlyMap<string, readonly TopicPartition[]>;

export interface GroupMember {
  readonly id: string;
  readonly topics: readonly string[];
  /** What it held before this join, as it says itself; foreign members say nothing. */
  readonly held: readonly TopicPartition[];
}

export interface ConsumerSettings {
  readonly group: string;
  /** All of them exist. */
  readonly topics: readonly string[];
  readonly sessionTimeoutMs: number;
  readonly heartbeatIntervalMs: number;
  readonly maxBytes: number;
  readonly maxBytesPerPartition: number;
  readonly maxWaitMs: number;
  readonly isolation: 'read-committed' | 'read-uncommitted';
  readonly assign: AssignPartitions;
}

/** A record as it was fetched. */
export interface FetchedRecord {
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers?: Readonly<Record<string, Buffer | string | (Buffer | string)[] | undefined>> | undefined;
}

/** Called by the client; none may throw. */
export interface ConsumerEvents {
  /** Before each join, and before it leaves by itself; both wait for it. `evicted`: the partitions are somebody else's already. */
  beforeJoin(evicted: boolean): Promise<void>;
  /** In the tick in which the assignment is known. Kept partitions must be sought here; the client forgets positions. */
  assigned(partitions: readonly TopicPartition[]): void;
  /** Records of a partition in order. The client goes on fetching at `nextOffset`; a promise holds up every other partition. */
  fetched(at: TopicPartition, records: readonly FetchedRecord[], nextOffset: number): void | Promise<void>;
  /** The log does not hold the offset that was asked for. Fetching goes on where a `seek` says. */
  outOfRange(at: TopicPartition): Promise<void>;
  /** The consumer has ended by itself; nothing comes any more. */
  crashed(error: KafkaClientError): void;
}

/** What a group remembers of a partition; `offset` −1 where it remembers nothing. */
export interface CommittedOffset extends TopicPartition {
  readonly offset: number;
  readonly metadata: string | null;
}

export interface OffsetToCommit extends TopicPartition {
  readonly offset: number;
  readonly metadata: string;
}

/** One membership of a group, from start to close; a crashed one is replaced, not started again. */
export interface KafkaConsumer {
  /** Resolves when it has joined the group for the first time. */
  start(): Promise<void>;
  pause(at: readonly TopicPartition[]): void;
  resume(at: readonly TopicPartition[]): void;
  seek(at: TopicPartition, offset: number): void;
  /** What the group has committed for all partitions of the topic. */
  committed(topic: string, partitions: readonly number[]): Promise<readonly CommittedOffset[]>;
  /** Commits in the generation of this tick, once; rejects with `KafkaClientError`. */
  commit(offsets: readonly OffsetToCommit[]): Promise<void>;
  /** Leaves the group. Never rejects. */
  close(): Promise<void>;
}
