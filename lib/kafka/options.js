var __decorate =
  (this && this.__decorate) ||
  function (decorators, target, key, desc) {
    var c = arguments.length,
      r = c < 3 ? target : desc === null ? (desc = Object.getOwnPropertyDescriptor(target, key)) : desc,
      d;
    if (typeof Reflect === 'object' && typeof Reflect.decorate === 'function')
      r = Reflect.decorate(decorators, target, key, desc);
    else
      for (var i = decorators.length - 1; i >= 0; i--)
        if ((d = decorators[i])) r = (c < 3 ? d(r) : c > 3 ? d(target, key, r) : d(target, key)) || r;
    return (c > 3 && r && Object.defineProperty(target, key, r), r);
  };
var __metadata =
  (this && this.__metadata) ||
  function (k, v) {
    if (typeof Reflect === 'object' && typeof Reflect.metadata === 'function') return Reflect.metadata(k, v);
  };
import { Allow } from 'class-validator';
import { legalTopic } from '../core/log-records.js';
import { printable } from '../core/text.js';
import {
  CommonTransportSchema,
  Integer,
  OneOf,
  OptionalMatching,
  Text,
  checkOptions,
} from '../nest/validate-options.js';
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
  maxBatchBytes: 900_000,
  maxBufferedMessages: 10_000,
  maxBufferedBytes: 64 * 1024 * 1024,
};
/** Time-outs of a consumer that depend on one another. */
export function consumerTimes(options) {
  const sessionTimeoutMs = options.sessionTimeoutMs ?? kafkaDefaults.sessionTimeoutMs;
  const third = Math.floor(sessionTimeoutMs / 3);
  const heartbeatIntervalMs =
    options.heartbeatIntervalMs ?? Math.min(kafkaDefaults.heartbeatIntervalMs, third);
  const longestRevokeMs = sessionTimeoutMs - heartbeatIntervalMs;
  const revokeTimeoutMs = options.revokeTimeoutMs ?? Math.min(kafkaDefaults.revokeTimeoutMs, longestRevokeMs);
  return { sessionTimeoutMs, heartbeatIntervalMs, longestRevokeMs, revokeTimeoutMs };
}
const isText = (value) => typeof value === 'string' && value !== '';
const isRecord = (value) => typeof value === 'object' && value !== null;
const isPositive = (value) => Number.isSafeInteger(value) && value > 0;
const isTopic = (value) => typeof value === 'string' && legalTopic.test(value);
const isBoolean = (value) => typeof value === 'boolean';
const topicText = 'a topic name: letters, digits, _, . and -, at most 249';
class KafkaSchema extends CommonTransportSchema {
  brokers;
  clientId;
  groupId;
  clusterId;
  topic;
  topics;
  patternHeader;
  publishTo;
  fromBeginning;
  partitions;
  replicationFactor;
  topicRefreshMs;
  ssl;
  sasl;
  connectTimeoutMs;
  requestTimeoutMs;
  reconnect;
  sessionTimeoutMs;
  heartbeatIntervalMs;
  revokeTimeoutMs;
  fetch;
  isolation;
  maxOffsetGap;
  acks;
  idempotent;
  compression;
  compressionCodecs;
  partitioner;
  maxBatchBytes;
  maxBufferedMessages;
  maxBufferedBytes;
  replyTopic;
  replyTopics;
  wire;
}
__decorate([Allow(), __metadata('design:type', Object)], KafkaSchema.prototype, 'brokers', void 0);
__decorate([Text(), __metadata('design:type', Object)], KafkaSchema.prototype, 'clientId', void 0);
__decorate([Text(), __metadata('design:type', Object)], KafkaSchema.prototype, 'groupId', void 0);
__decorate([Text(), __metadata('design:type', Object)], KafkaSchema.prototype, 'clusterId', void 0);
__decorate(
  [OptionalMatching(topicText, isTopic), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'topic',
  void 0,
);
__decorate(
  [
    OptionalMatching(
      'a list of topic names and RegExps',
      (value) =>
        Array.isArray(value) &&
        value.length > 0 &&
        value.every((topic) => isTopic(topic) || topic instanceof RegExp),
    ),
    __metadata('design:type', Object),
  ],
  KafkaSchema.prototype,
  'topics',
  void 0,
);
__decorate([Text(), __metadata('design:type', Object)], KafkaSchema.prototype, 'patternHeader', void 0);
__decorate(
  [
    OptionalMatching('{ topic }', (value) => isRecord(value) && isTopic(value['topic'])),
    __metadata('design:type', Object),
  ],
  KafkaSchema.prototype,
  'publishTo',
  void 0,
);
__decorate(
  [OptionalMatching('true or false', isBoolean), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'fromBeginning',
  void 0,
);
__decorate(
  [Integer(1, 10_000), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'partitions',
  void 0,
);
__decorate(
  [Integer(1, 100), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'replicationFactor',
  void 0,
);
__decorate([Integer(10), __metadata('design:type', Object)], KafkaSchema.prototype, 'topicRefreshMs', void 0);
__decorate(
  [
    OptionalMatching('true, false or TLS options', (value) => isBoolean(value) || isRecord(value)),
    __metadata('design:type', Object),
  ],
  KafkaSchema.prototype,
  'ssl',
  void 0,
);
__decorate([Allow(), __metadata('design:type', Object)], KafkaSchema.prototype, 'sasl', void 0);
__decorate(
  [Integer(1), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'connectTimeoutMs',
  void 0,
);
__decorate(
  [Integer(1), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'requestTimeoutMs',
  void 0,
);
__decorate(
  [
    OptionalMatching(
      '{ delayMs, maxDelayMs } in positive integers',
      (value) => isRecord(value) && isPositive(value['delayMs']) && isPositive(value['maxDelayMs']),
    ),
    __metadata('design:type', Object),
  ],
  KafkaSchema.prototype,
  'reconnect',
  void 0,
);
__decorate(
  [Integer(1), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'sessionTimeoutMs',
  void 0,
);
__decorate(
  [Integer(1), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'heartbeatIntervalMs',
  void 0,
);
__decorate([Integer(0), __metadata('design:type', Object)], KafkaSchema.prototype, 'revokeTimeoutMs', void 0);
__decorate(
  [
    OptionalMatching('{ maxBytes, maxBytesPerPartition, maxWaitMs } in positive integers', isFetch),
    __metadata('design:type', Object),
  ],
  KafkaSchema.prototype,
  'fetch',
  void 0,
);
__decorate(
  [OneOf('read-committed', 'read-uncommitted'), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'isolation',
  void 0,
);
__decorate([Integer(1), __metadata('design:type', Object)], KafkaSchema.prototype, 'maxOffsetGap', void 0);
__decorate(
  [OneOf('all', 'leader', 'none'), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'acks',
  void 0,
);
__decorate(
  [OptionalMatching('true or false', isBoolean), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'idempotent',
  void 0,
);
__decorate(
  [OneOf('none', 'gzip', 'snappy', 'lz4', 'zstd'), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'compression',
  void 0,
);
__decorate(
  [
    OptionalMatching('{ snappy, lz4, zstd } with compress and decompress each', isCodecs),
    __metadata('design:type', Object),
  ],
  KafkaSchema.prototype,
  'compressionCodecs',
  void 0,
);
__decorate(
  [OptionalMatching('a function', (value) => typeof value === 'function'), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'partitioner',
  void 0,
);
__decorate([Integer(1), __metadata('design:type', Object)], KafkaSchema.prototype, 'maxBatchBytes', void 0);
__decorate(
  [Integer(1), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'maxBufferedMessages',
  void 0,
);
__decorate(
  [Integer(1), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'maxBufferedBytes',
  void 0,
);
__decorate(
  [
    OptionalMatching(`${topicText}, that ends in .reply`, (value) => isTopic(value) && isReplyName(value)),
    __metadata('design:type', Object),
  ],
  KafkaSchema.prototype,
  'replyTopic',
  void 0,
);
__decorate(
  [
    OptionalMatching('a list of topic names', (value) => Array.isArray(value) && value.every(isTopic)),
    __metadata('design:type', Object),
  ],
  KafkaSchema.prototype,
  'replyTopics',
  void 0,
);
__decorate(
  [OneOf('auto', 'plain', 'nest'), __metadata('design:type', Object)],
  KafkaSchema.prototype,
  'wire',
  void 0,
);
export function checkKafkaOptions(options, path) {
  const problems = checkOptions(KafkaSchema, options, path);
  if (!isRecord(options)) return problems;
  const given = options;
  const expect = (holds, name, expected, value) => {
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
  const { sessionTimeoutMs, heartbeatIntervalMs, longestRevokeMs, revokeTimeoutMs } = consumerTimes(given);
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
function isSasl(value) {
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
function describeSasl(value) {
  if (!isRecord(value)) return typeof value;
  const given = Object.keys(value).filter((name) => value[name] !== undefined);
  return `mechanism ${printable(value['mechanism'])} with ${given.join(', ')}`;
}
function isAddress(value) {
  return typeof value === 'string' && /^[^\s/:]+:\d{1,5}$/.test(value);
}
function isReplyName(value) {
  return String(value).endsWith('.reply');
}
function isFetch(value) {
  const names = ['maxBytes', 'maxBytesPerPartition', 'maxWaitMs'];
  return (
    isRecord(value) && Object.entries(value).every(([name, size]) => names.includes(name) && isPositive(size))
  );
}
function isCodecs(value) {
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
