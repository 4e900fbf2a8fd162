import { Allow } from 'class-validator';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { validTopicName } from '../../driver-kit/log/topic-names.js';
import { printable } from '../../core/message/text.js';
import {
  CommonTransportSchema,
  Integer,
  OneOf,
  OptionalMatching,
  Text,
  validateOptions,
  isFunction,
} from '../../nest/validation/validate-options.js';
import { consumerTimeouts } from './defaults.js';
import type { KafkaOptions } from './options.js';

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';
const isObject = (value: unknown): value is Record<string, unknown> =>
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
  @OptionalMatching('{ topic }', (value) => isObject(value) && isTopic(value['topic']))
  publishTo?: unknown;
  @OptionalMatching('true or false', isBoolean)
  fromBeginning?: unknown;
  @Integer(1, 10_000)
  partitions?: unknown;
  @Integer(1, 100)
  replicationFactor?: unknown;
  @Integer(10)
  topicRefreshMs?: unknown;
  @OptionalMatching('true, false or TLS options', (value) => isBoolean(value) || isObject(value))
  ssl?: unknown;
  @Allow()
  sasl?: unknown;
  @Integer(1)
  connectTimeoutMs?: unknown;
  @Integer(1)
  requestTimeoutMs?: unknown;
  @OptionalMatching(
    '{ delayMs, maxDelayMs } in positive integers',
    (value) => isObject(value) && isPositive(value['delayMs']) && isPositive(value['maxDelayMs']),
  )
  reconnect?: unknown;
  @Integer(1)
  sessionTimeoutMs?: unknown;
  @Integer(1)
  heartbeatIntervalMs?: unknown;
  @Integer(0)
  revokeTimeoutMs?: unknown;
  @OptionalMatching('{ maxBytes, maxBytesPerPartition, maxWaitMs } in positive integers', isFetchLimits)
  fetch?: unknown;
  @OneOf('read-committed', 'read-uncommitted')
  isolation?: unknown;
  @Integer(1)
  maxOffsetGap?: unknown;
  @Integer(1)
  deliveryLimit?: unknown;
  @OneOf('all', 'leader', 'none')
  acks?: unknown;
  @OptionalMatching('true or false', isBoolean)
  idempotent?: unknown;
  @OneOf('none', 'gzip', 'snappy', 'lz4', 'zstd')
  compression?: unknown;
  @OptionalMatching('{ snappy, lz4, zstd } with compress and decompress each', isCodecs)
  compressionCodecs?: unknown;
  @OptionalMatching('a function', isFunction)
  partitioner?: unknown;
  @Integer(1)
  maxBatchBytes?: unknown;
  @Integer(1)
  maxBufferedMessages?: unknown;
  @Integer(1)
  maxBufferedBytes?: unknown;
  @OptionalMatching(`${topicText}, that ends in .reply`, (value) => isTopic(value) && isReplyTopic(value))
  replyTopic?: unknown;
  @OptionalMatching('a list of topic names', (value) => Array.isArray(value) && value.every(isTopic))
  replyTopics?: unknown;
  @Integer(0)
  clockSkewMs?: unknown;
  @OneOf('auto', 'plain', 'nest')
  wire?: unknown;
}

export function validateKafkaOptions(options: unknown, path: string): readonly ConfigProblem[] {
  const problems = validateOptions(KafkaSchema, options, path);
  if (!isObject(options)) return problems;
  const given = options as unknown as KafkaOptions;
  const expect = (holds: boolean, name: string, expected: string, value: unknown): void => {
    if (!holds) problems.push({ name: `${path}.${name}`, expected, given: printable(value) });
  };
  const { brokers, topic, topics, compression, compressionCodecs, sasl, acks, idempotent } = given;
  const areBrokers = Array.isArray(brokers) && brokers.length > 0 && brokers.every(isAddress);
  expect(areBrokers, 'brokers', "a list of 'host:port'", brokers);
  expect(topic === undefined || topics === undefined, 'topics', 'to be left out if topic is set', topics);
  expect(idempotent !== true || (acks ?? 'all') === 'all', 'acks', "'all' if idempotent is set", acks);
  expect(
    !isObject(given.onUnhandled),
    'onUnhandled',
    "'dead-letter' or 'skip': Kafka does not send messages back yet",
    given.onUnhandled,
  );
  const needsCodec = compression !== undefined && compression !== 'none' && compression !== 'gzip';
  const hasCodec = needsCodec && isObject(compressionCodecs) && compressionCodecs[compression] !== undefined;
  expect(!needsCodec || hasCodec, 'compressionCodecs', `a codec for ${compression}`, compressionCodecs);
  // The value holds a password: only its mechanism and the names of its fields are shown.
  if (sasl !== undefined && !isSasl(sasl)) {
    problems.push({ name: `${path}.sasl`, expected: saslExpected, given: describeSasl(sasl) });
  }
  if (problems.length > 0) return problems;
  const { sessionTimeoutMs, heartbeatIntervalMs, maxRevokeTimeoutMs, revokeTimeoutMs } =
    consumerTimeouts(given);
  expect(
    heartbeatIntervalMs < sessionTimeoutMs,
    'heartbeatIntervalMs',
    `less than sessionTimeoutMs, ${sessionTimeoutMs}`,
    heartbeatIntervalMs,
  );
  expect(
    revokeTimeoutMs <= maxRevokeTimeoutMs,
    'revokeTimeoutMs',
    `at most ${maxRevokeTimeoutMs}, which is sessionTimeoutMs − heartbeatIntervalMs: no heartbeat is sent while a rebalance waits`,
    revokeTimeoutMs,
  );
  return problems;
}

const saslExpected =
  "{ mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512', username, password }, { mechanism: 'oauthbearer', oauthBearerProvider } or { mechanism: 'aws', … }";

function isSasl(value: unknown): boolean {
  if (!isObject(value)) return false;
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
  if (!isObject(value)) return typeof value;
  const given = Object.keys(value).filter((name) => value[name] !== undefined);
  return `mechanism ${printable(value['mechanism'])} with ${given.join(', ')}`;
}

function isAddress(value: unknown): boolean {
  return typeof value === 'string' && /^[^\s/:]+:\d{1,5}$/.test(value);
}

function isReplyTopic(value: unknown): boolean {
  return String(value).endsWith('.reply');
}

function isFetchLimits(value: unknown): boolean {
  const names = ['maxBytes', 'maxBytesPerPartition', 'maxWaitMs'];
  return (
    isObject(value) && Object.entries(value).every(([name, size]) => names.includes(name) && isPositive(size))
  );
}

function isCodecs(value: unknown): boolean {
  return (
    isObject(value) &&
    Object.entries(value).every(
      ([name, codec]) =>
        ['snappy', 'lz4', 'zstd'].includes(name) &&
        isObject(codec) &&
        typeof codec['compress'] === 'function' &&
        typeof codec['decompress'] === 'function',
    )
  );
}
