import type { ConnectionOptions } from 'node:tls';
import { Allow } from 'class-validator';
import type { BackoffOptions } from '../../core/runtime/clock.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { validTopicName } from '../../driver-kit/log/topic-names.js';
import type { MessageDestination } from '../../core/port/message.js';
import { printable } from '../../core/message/text.js';
import type { CommonTransportOptions } from '../../nest/transport-options.js';
import {
  CommonTransportSchema,
  Integer,
  OneOf,
  OptionalMatching,
  Text,
  checkOptions,
} from '../../nest/validation/validate-options.js';

/** How the brokers know who we are. `aws` is passed to the client as it is and not tested here. @publicApi */
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

/** Packs and unpacks record batches. One for the process: the client keeps a single registry. @publicApi */
export interface CompressionCodec {
  compress(bytes: Buffer): Buffer | Promise<Buffer>;
  decompress(bytes: Buffer): Buffer | Promise<Buffer>;
}

/** What a partitioner decides by; it returns a number from 0 to `partitions` − 1. @publicApi */
export interface PartitionChoice {
  readonly topic: string;
  /** As it was given; null where there is none. */
  readonly key: Buffer | string | null;
  readonly partitions: number;
}

/** Options of `kafka()`. @publicApi */
export interface KafkaOptions extends CommonTransportOptions {
  /** `host:port` of some brokers; the others are learned from them. */
  readonly brokers: readonly string[] | undefined;
  /** Shows in the brokers' logs and quotas. @defaultValue `groupId`, else the transport's name */
  readonly clientId?: string | undefined;
  /** Members of one group share the partitions. Needed where there are handlers. */
  readonly groupId?: string | undefined;
  /** The start fails if the brokers belong to another cluster: a wrong address must not be written to. @defaultValue any */
  readonly clusterId?: string | undefined;

  /** The one topic of many patterns; without `topic` and `topics` each handler's pattern is a topic. */
  readonly topic?: string | undefined;
  /** Topics to read; a RegExp also takes those made later. */
  readonly topics?: readonly (string | RegExp)[];
  /** Header that holds the pattern, e.g. `Event-Type` or `ce_type`. @defaultValue none: the topic is the pattern */
  readonly patternHeader?: string;
  /** Where messages go that name no destination. @defaultValue `topic`, else the pattern */
  readonly publishTo?: MessageDestination;
  /** Where a group begins that has committed nothing. @defaultValue false: at the end */
  readonly fromBeginning?: boolean;

  /** Partitions of topics made at start. @defaultValue the broker's `num.partitions` */
  readonly partitions?: number;
  /** Replicas of topics made at start. @defaultValue the broker's `default.replication.factor` */
  readonly replicationFactor?: number;
  /** How often to look for new topics of a RegExp, and for missing ones. @defaultValue 60 000 */
  readonly topicRefreshMs?: number;

  /** TLS: true, or what `tls.connect` takes, e.g. `ca`, `cert`, `key`. @defaultValue false */
  readonly ssl?: boolean | ConnectionOptions;
  readonly sasl?: KafkaSasl | undefined;
  /** Reaching a broker, its authentication included. @defaultValue 10 000 */
  readonly connectTimeoutMs?: number;
  /** An answer of a broker. @defaultValue 30 000 */
  readonly requestTimeoutMs?: number;
  /** Back-off after a lost connection or a crashed consumer, with full jitter. @defaultValue { delayMs: 500, maxDelayMs: 30 000 } */
  readonly reconnect?: BackoffOptions;

  /** After so long without a heartbeat a consumer's partitions go to others. @defaultValue 30 000 */
  readonly sessionTimeoutMs?: number;
  /** @defaultValue the smaller of 3 000 and a third of `sessionTimeoutMs` */
  readonly heartbeatIntervalMs?: number;
  /**
   * How long a rebalance waits for handlers at work. No heartbeat runs meanwhile, so it is at most `sessionTimeoutMs` −
   * `heartbeatIntervalMs`. @defaultValue 5 000, or that
   */
  readonly revokeTimeoutMs?: number;
  /** @defaultValue { maxBytes: 10 MiB, maxBytesPerPartition: 1 MiB, maxWaitMs: 250 } */
  readonly fetch?: {
    readonly maxBytes?: number;
    readonly maxBytesPerPartition?: number;
    readonly maxWaitMs?: number;
  };
  /** Whether records of transactions that are open or aborted are read. @defaultValue 'read-committed' */
  readonly isolation?: 'read-committed' | 'read-uncommitted';
  /** Offsets of a partition that one unsettled record may hold up being committed; then the partition pauses. @defaultValue 10 000 */
  readonly maxOffsetGap?: number;

  /** Who must have a message before it counts as sent. @defaultValue 'all' */
  readonly acks?: 'all' | 'leader' | 'none';
  /**
   * The broker drops what we have sent twice because a partition's leader moved while it wrote; needs `acks: 'all'`. Without it such a message may
   * lie there twice. @defaultValue false
   */
  readonly idempotent?: boolean;
  /** `gzip` is built in; others need `compressionCodecs`. @defaultValue 'none' */
  readonly compression?: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd';
  /** For writing and reading what Node cannot by itself. @defaultValue {} */
  readonly compressionCodecs?: Readonly<Partial<Record<'snappy' | 'lz4' | 'zstd', CompressionCodec>>>;
  /** @defaultValue murmur2 of the key, as Kafka's own clients place it; without a key each batch takes another partition */
  readonly partitioner?: (choice: PartitionChoice) => number;
  /** Bytes of one record batch, before compression; at most the broker's `message.max.bytes`. @defaultValue 900 000 */
  readonly maxBatchBytes?: number;
  /** Messages that wait for a confirmation or for the broker to come back. @defaultValue 10 000 */
  readonly maxBufferedMessages?: number;
  /** Their bytes, keys and headers included. @defaultValue 64 MiB */
  readonly maxBufferedBytes?: number;

  /** Where replies to our requests arrive; made at start where that is allowed. @defaultValue `<groupId, else clientId>.reply` */
  readonly replyTopic?: string;
  /** Topics that may be named as reply address, besides those that end in `.reply`. @defaultValue [] */
  readonly replyTopics?: readonly string[];
  /**
   * How far the clocks of senders and of this process may be apart, in milliseconds: so long after its deadline a request still runs, and
   * what waits for its next run may claim to have been written so far in the future. @defaultValue 5 000
   */
  readonly clockSkewMs?: number;
  /**
   * How bodies are written and read. `plain`: by content type. `nest`: as Nest's own Kafka transport does, text without quotes, and every
   * value of a streamed reply counts. `auto`: plain, but a request of a Nest client is read and answered in kind; of a Nest server's
   * stream the first value is the reply, and an event of Nest's `emit` must be an object or a list: bare text is undecodable. A Nest
   * client sees the end of a stream, and an answer without a value, as one null more. @defaultValue 'auto'
   */
  readonly wire?: 'auto' | 'plain' | 'nest';
}

export const kafkaDefaults = {
  topicRefreshMs: 60_000,
  connectTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  reconnect: { delayMs: 500, maxDelayMs: 30_000 },
  sessionTimeoutMs: 30_000,
  heartbeatIntervalMs: 3_000,
  revokeTimeoutMs: 5_000,
  fetch: { maxBytes: 10 * 1024 * 1024, maxBytesPerPartition: 1024 * 1024, maxWaitMs: 250 },
  maxOffsetGap: 10_000,
  clockSkewMs: 5_000,
  maxBatchBytes: 900_000,
  maxBufferedMessages: 10_000,
  maxBufferedBytes: 64 * 1024 * 1024,
};

/** Time-outs of a consumer that depend on one another. */
export function consumerTimes(options: KafkaOptions): {
  sessionTimeoutMs: number;
  heartbeatIntervalMs: number;
  longestRevokeMs: number;
  revokeTimeoutMs: number;
} {
  const sessionTimeoutMs = options.sessionTimeoutMs ?? kafkaDefaults.sessionTimeoutMs;
  const third = Math.floor(sessionTimeoutMs / 3);
  const heartbeatIntervalMs =
    options.heartbeatIntervalMs ?? Math.min(kafkaDefaults.heartbeatIntervalMs, third);
  const longestRevokeMs = sessionTimeoutMs - heartbeatIntervalMs;
  const revokeTimeoutMs = options.revokeTimeoutMs ?? Math.min(kafkaDefaults.revokeTimeoutMs, longestRevokeMs);
  return { sessionTimeoutMs, heartbeatIntervalMs, longestRevokeMs, revokeTimeoutMs };
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;
const isPositive = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) > 0;
const isTopic = (value: unknown): boolean => typeof value === 'string' && validTopicName.test(value);
const isBoolean = (value: unknown): boolean => typeof value === 'boolean';
const topicText = 'a topic name: letters, digits, _, . and -, at most 249';

class KafkaSchema extends CommonTransportSchema {
  @Allow()
  brokers?: unknown;
  @Text()
  clientId?: unknown;
  @Text()
  groupId?: unknown;
  @Text()
  clusterId?: unknown;
  @OptionalMatching(topicText, isTopic)
  topic?: unknown;
  @OptionalMatching(
    'a list of topic names and RegExps',
    (value) =>
      Array.isArray(value) &&
      value.length > 0 &&
      value.every((topic) => isTopic(topic) || topic instanceof RegExp),
  )
  topics?: unknown;
  @Text()
  patternHeader?: unknown;
  @OptionalMatching('{ topic }', (value) => isRecord(value) && isTopic(value['topic']))
  publishTo?: unknown;
  @OptionalMatching('true or false', isBoolean)
  fromBeginning?: unknown;
  @Integer(1, 10_000)
  partitions?: unknown;
  @Integer(1, 100)
  replicationFactor?: unknown;
  @Integer(10)
  topicRefreshMs?: unknown;
  @OptionalMatching('true, false or TLS options', (value) => isBoolean(value) || isRecord(value))
  ssl?: unknown;
  @Allow()
  sasl?: unknown;
  @Integer(1)
  connectTimeoutMs?: unknown;
  @Integer(1)
  requestTimeoutMs?: unknown;
  @OptionalMatching(
    '{ delayMs, maxDelayMs } in positive integers',
    (value) => isRecord(value) && isPositive(value['delayMs']) && isPositive(value['maxDelayMs']),
  )
  reconnect?: unknown;
  @Integer(1)
  sessionTimeoutMs?: unknown;
  @Integer(1)
  heartbeatIntervalMs?: unknown;
  @Integer(0)
  revokeTimeoutMs?: unknown;
  @OptionalMatching('{ maxBytes, maxBytesPerPartition, maxWaitMs } in positive integers', isFetch)
  fetch?: unknown;
  @OneOf('read-committed', 'read-uncommitted')
  isolation?: unknown;
  @Integer(1)
  maxOffsetGap?: unknown;
  @OneOf('all', 'leader', 'none')
  acks?: unknown;
  @OptionalMatching('true or false', isBoolean)
  idempotent?: unknown;
  @OneOf('none', 'gzip', 'snappy', 'lz4', 'zstd')
  compression?: unknown;
  @OptionalMatching('{ snappy, lz4, zstd } with compress and decompress each', isCodecs)
  compressionCodecs?: unknown;
  @OptionalMatching('a function', (value) => typeof value === 'function')
  partitioner?: unknown;
  @Integer(1)
  maxBatchBytes?: unknown;
  @Integer(1)
  maxBufferedMessages?: unknown;
  @Integer(1)
  maxBufferedBytes?: unknown;
  @OptionalMatching(`${topicText}, that ends in .reply`, (value) => isTopic(value) && isReplyName(value))
  replyTopic?: unknown;
  @OptionalMatching('a list of topic names', (value) => Array.isArray(value) && value.every(isTopic))
  replyTopics?: unknown;
  @Integer(0)
  clockSkewMs?: unknown;
  @OneOf('auto', 'plain', 'nest')
  wire?: unknown;
}

export function checkKafkaOptions(options: unknown, path: string): readonly ConfigProblem[] {
  const problems = checkOptions(KafkaSchema, options, path);
  if (!isRecord(options)) return problems;
  const given = options as Partial<KafkaOptions>;
  const expect = (holds: boolean, name: string, expected: string, value: unknown): void => {
    if (!holds) problems.push({ name: `${path}.${name}`, expected, given: printable(value) });
  };
  const { brokers, topic, topics, compression, compressionCodecs, sasl, acks, idempotent } = given;
  const isBrokers = Array.isArray(brokers) && brokers.length > 0 && brokers.every(isAddress);
  expect(isBrokers, 'brokers', "a list of 'host:port'", brokers);
  expect(topic === undefined || topics === undefined, 'topics', 'nothing beside topic', topics);
  expect(idempotent !== true || (acks ?? 'all') === 'all', 'acks', "'all', for idempotent", acks);
  const needsCodec = compression !== undefined && compression !== 'none' && compression !== 'gzip';
  const hasCodec = needsCodec && isRecord(compressionCodecs) && compressionCodecs[compression] !== undefined;
  expect(!needsCodec || hasCodec, 'compressionCodecs', `a codec for ${compression}`, compressionCodecs);
  // Never its value: it holds the password.
  if (sasl !== undefined && !isSasl(sasl)) {
    problems.push({ name: `${path}.sasl`, expected: saslExpected, given: describeSasl(sasl) });
  }
  if (problems.length > 0) return problems;
  const { sessionTimeoutMs, heartbeatIntervalMs, longestRevokeMs, revokeTimeoutMs } = consumerTimes(
    given as KafkaOptions,
  );
  expect(
    heartbeatIntervalMs < sessionTimeoutMs,
    'heartbeatIntervalMs',
    `less than sessionTimeoutMs, ${sessionTimeoutMs}`,
    heartbeatIntervalMs,
  );
  expect(
    revokeTimeoutMs <= longestRevokeMs,
    'revokeTimeoutMs',
    `at most ${longestRevokeMs}, which is sessionTimeoutMs − heartbeatIntervalMs: no heartbeat runs meanwhile`,
    revokeTimeoutMs,
  );
  return problems;
}

const saslExpected =
  "{ mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512', username, password }, { mechanism: 'oauthbearer', oauthBearerProvider } or { mechanism: 'aws', … }";

function isSasl(value: unknown): boolean {
  if (!isRecord(value)) return false;
  switch (value['mechanism']) {
    case 'plain':
    case 'scram-sha-256':
    case 'scram-sha-512':
      return isText(value['username']) && isText(value['password']);
    case 'oauthbearer':
      return typeof value['oauthBearerProvider'] === 'function';
    case 'aws':
      return isText(value['accessKeyId']) && isText(value['secretAccessKey']);
    default:
      return false;
  }
}

function describeSasl(value: unknown): string {
  if (!isRecord(value)) return typeof value;
  const given = Object.keys(value).filter((name) => value[name] !== undefined);
  return `mechanism ${printable(value['mechanism'])} with ${given.join(', ')}`;
}

function isAddress(value: unknown): boolean {
  return typeof value === 'string' && /^[^\s/:]+:\d{1,5}$/.test(value);
}

function isReplyName(value: unknown): boolean {
  return String(value).endsWith('.reply');
}

function isFetch(value: unknown): boolean {
  const names = ['maxBytes', 'maxBytesPerPartition', 'maxWaitMs'];
  return (
    isRecord(value) && Object.entries(value).every(([name, size]) => names.includes(name) && isPositive(size))
  );
}

function isCodecs(value: unknown): boolean {
  return (
    isRecord(value) &&
    Object.entries(value).every(
      ([name, codec]) =>
        ['snappy', 'lz4', 'zstd'].includes(name) &&
        isRecord(codec) &&
        typeof codec['compress'] === 'function' &&
        typeof codec['decompress'] === 'function',
    )
  );
}
