import type { ConnectionOptions } from 'node:tls';
import type { BackoffOptions } from '../../core/runtime/clock.js';
import type { MessageDestination } from '../../core/port/message.js';
import type { CommonTransportOptions } from '../../nest/transport-options.js';

/** SASL credentials. `aws` is passed to kafkajs unchanged and is not covered by tests. @publicApi */
export type KafkaSasl =
  | {
      readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
      readonly username: string;
      readonly password: string;
    }
  | { readonly mechanism: 'oauthbearer'; readonly oauthBearerProvider: () => Promise<{ value: string }> }
  | {
      readonly mechanism: 'aws';
      readonly authorizationIdentity: string;
      readonly accessKeyId: string;
      readonly secretAccessKey: string;
      readonly sessionToken?: string;
    };

/**
 * Compresses and decompresses record batches. kafkajs has one registry of codecs for the whole process.
 *
 * @publicApi
 */
export interface CompressionCodec {
  compress(bytes: Buffer): Buffer | Promise<Buffer>;
  decompress(bytes: Buffer): Buffer | Promise<Buffer>;
}

/** Input of a partitioner, which returns an integer from 0 to `partitions` − 1. @publicApi */
export interface PartitionChoice {
  readonly topic: string;
  /** As it was published; null for a message without a key. */
  readonly key: Buffer | string | null;
  /** Partition count of the topic. */
  readonly partitions: number;
}

/** Options of `kafka()`. @publicApi */
export interface KafkaOptions extends CommonTransportOptions {
  /** Bootstrap brokers, `host:port`; the other brokers are discovered through them. */
  readonly brokers: readonly string[] | undefined;
  /** Client id in the brokers' logs and quotas. @defaultValue `groupId`, else the transport's name */
  readonly clientId?: string | undefined;
  /** Consumer group; its members share the partitions. Required if the transport has handlers. */
  readonly groupId?: string | undefined;
  /**
   * Expected cluster id: the start fails on another one, so that a wrong address is never written to.
   * @defaultValue any
   */
  readonly clusterId?: string | undefined;

  /** One topic for all patterns. Without `topic` and `topics` the pattern of each handler is a topic. */
  readonly topic?: string | undefined;
  /** Topics to consume; a RegExp also matches topics created later. */
  readonly topics?: readonly (string | RegExp)[];
  /**
   * Header that holds the pattern, e.g. `Event-Type` or `ce_type`.
   * @defaultValue none: the topic is the pattern
   */
  readonly patternHeader?: string;
  /** Destination of messages that name none. @defaultValue `topic`, else the pattern */
  readonly publishTo?: MessageDestination;
  /**
   * Whether a group without committed offsets starts at the earliest record.
   * @defaultValue false: at the end
   */
  readonly fromBeginning?: boolean;

  /** Partitions of topics created at start. @defaultValue the broker's `num.partitions` */
  readonly partitions?: number;
  /** Replicas of topics created at start. @defaultValue the broker's `default.replication.factor` */
  readonly replicationFactor?: number;
  /**
   * Interval of the search for missing topics and for new topics of a RegExp, in milliseconds.
   * @defaultValue 60 000
   */
  readonly topicRefreshMs?: number;

  /** TLS: true, or options of `tls.connect`, e.g. `ca`, `cert`, `key`. @defaultValue false */
  readonly ssl?: boolean | ConnectionOptions;
  /** @defaultValue no authentication */
  readonly sasl?: KafkaSasl | undefined;
  /** Timeout of connecting to a broker, authentication included, in milliseconds. @defaultValue 10 000 */
  readonly connectTimeoutMs?: number;
  /** Timeout of a request to a broker, in milliseconds. @defaultValue 30 000 */
  readonly requestTimeoutMs?: number;
  /**
   * Back-off after a lost connection or a crashed consumer, with full jitter, in milliseconds.
   * @defaultValue { delayMs: 500, maxDelayMs: 30 000 }
   */
  readonly reconnect?: BackoffOptions;

  /**
   * Time without a heartbeat after which the broker evicts a consumer from its group, in milliseconds.
   * @defaultValue 30 000
   */
  readonly sessionTimeoutMs?: number;
  /** In milliseconds. @defaultValue the smaller of 3 000 and a third of `sessionTimeoutMs` */
  readonly heartbeatIntervalMs?: number;
  /**
   * How long a rebalance waits for running handlers, in milliseconds. No heartbeat is sent meanwhile, so
   * the limit is `sessionTimeoutMs` − `heartbeatIntervalMs`.
   * @defaultValue the smaller of 5 000 and that limit
   */
  readonly revokeTimeoutMs?: number;
  /**
   * Limits of a fetch request.
   * @defaultValue { maxBytes: 10 MiB, maxBytesPerPartition: 1 MiB, maxWaitMs: 250 }
   */
  readonly fetch?: {
    readonly maxBytes?: number;
    readonly maxBytesPerPartition?: number;
    readonly maxWaitMs?: number;
  };
  /** Whether records of open and aborted transactions are read. @defaultValue 'read-committed' */
  readonly isolation?: 'read-committed' | 'read-uncommitted';
  /**
   * Offsets of a partition between the oldest unsettled record and the newest fetched one. Beyond it the
   * partition pauses until the oldest record is settled.
   * @defaultValue 10 000
   */
  readonly maxOffsetGap?: number;
  /**
   * How often a message may be requeued by `ctx.nack()` before it is dead-lettered with the reason
   * `delivery-limit`. The count starts anew after a restart, and when the partition is assigned to another
   * consumer. An integer from 1 up. @defaultValue 100
   */
  readonly deliveryLimit?: number;

  /** Which replicas must have written a message before it counts as sent. @defaultValue 'all' */
  readonly acks?: 'all' | 'leader' | 'none';
  /**
   * The broker drops duplicates of a batch that was sent twice because the partition leader moved during
   * the write; requires `acks: 'all'`. Without it such a message may be written twice.
   * @defaultValue false
   */
  readonly idempotent?: boolean;
  /** `gzip` is built in; the others require `compressionCodecs`. @defaultValue 'none' */
  readonly compression?: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd';
  /** Codecs for producing and consuming. @defaultValue {} */
  readonly compressionCodecs?: Readonly<Partial<Record<'snappy' | 'lz4' | 'zstd', CompressionCodec>>>;
  /**
   * Chooses the partition of a message that names none.
   * @defaultValue murmur2 of the key, as in the Java client; without a key another partition every 16 KiB
   */
  readonly partitioner?: (choice: PartitionChoice) => number;
  /**
   * Bytes of a record batch before compression; at most the broker's `message.max.bytes`.
   * @defaultValue 900 000
   */
  readonly maxBatchBytes?: number;
  /** Limit of messages that are not confirmed yet; a publish beyond it fails. @defaultValue 10 000 */
  readonly maxBufferedMessages?: number;
  /** Limit of their bytes, keys and headers included. @defaultValue 64 MiB */
  readonly maxBufferedBytes?: number;

  /**
   * Topic of the replies to our requests; created at start if permitted.
   * @defaultValue `<groupId, else clientId>.reply`
   */
  readonly replyTopic?: string;
  /** Topics that requests may name as reply topic, besides those that end in `.reply`. @defaultValue [] */
  readonly replyTopics?: readonly string[];
  /**
   * Largest difference between the clocks of two processes, in milliseconds. A request is handled until
   * this long after its deadline; a record of a retry topic may have a timestamp this far in the future.
   * @defaultValue 5 000
   */
  readonly clockSkewMs?: number;
  /**
   * Format of message bodies.
   *
   * - `plain`: by content type.
   * - `nest`: as Nest's Kafka transport writes them, i.e. strings without quotes and no content type. Every
   *   value of a streamed reply counts.
   * - `auto`: `plain`, but a request of a Nest client is read and answered in Nest's format. Of a stream
   *   that a Nest server sends the first value is the reply. An event of Nest's `emit` must be an object or
   *   an array: a bare string is undecodable.
   *
   * A Nest client receives an additional null at the end of a stream, and for a reply without a value.
   * @defaultValue 'auto'
   */
  readonly wire?: 'auto' | 'plain' | 'nest';
}
