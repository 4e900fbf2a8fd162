import { describe, expect, it } from 'vitest';
import { consumerTimeouts } from '../../../../lib/kafka/options/defaults.js';
import { validateKafkaOptions } from '../../../../lib/kafka/options/validate-options.js';

const brokers = ['host:9092'];
const problemsOf = (options: object): readonly string[] =>
  validateKafkaOptions({ brokers, ...options }, 'p').map(({ name }) => name.slice(2));

const codec = { compress: (bytes: Buffer) => bytes, decompress: (bytes: Buffer) => bytes };

it.each([
  {},
  { topic: 'orders.v1_x-2', patternHeader: 'ce_type', fromBeginning: true },
  { topics: ['a', /^b/], partitions: 3, replicationFactor: 1 },
  { ssl: true, sasl: { mechanism: 'plain', username: 'u', password: 'p' } },
  { ssl: { ca: 'x' }, sasl: { mechanism: 'oauthbearer', oauthBearerProvider: async () => ({ value: '' }) } },
  { compression: 'gzip' },
  { compression: 'zstd', compressionCodecs: { zstd: codec } },
  { acks: 'all', idempotent: true },
  { replyTopic: 'x.reply', replyTopics: ['answers'], wire: 'nest' },
  { sessionTimeoutMs: 6_000, revokeTimeoutMs: 4_000, heartbeatIntervalMs: 2_000 },
  { fetch: { maxWaitMs: 100 }, partitioner: () => 0 },
])('accepts %j', (options) => {
  expect(problemsOf(options)).toEqual([]);
});

it.each<[string, object]>([
  ['brokers', { brokers: ['host'] }],
  ['brokers', { brokers: ['host:9092', 'ho st:1'] }],
  ['topic', { topic: 'a/b' }],
  ['topic', { topic: '..' }],
  ['topics', { topics: [] }],
  ['topics', { topics: ['a*'] }],
  ['topics', { topic: 'a', topics: ['b'] }],
  ['publishTo', { publishTo: { queue: 'q' } }],
  ['acks', { acks: 1 }],
  ['acks', { acks: 'leader', idempotent: true }],
  ['compressionCodecs', { compression: 'snappy' }],
  ['compressionCodecs', { compressionCodecs: { zstd: { compress: codec.compress } } }],
  ['replyTopic', { replyTopic: 'answers' }],
  ['fetch', { fetch: { maxWait: 1 } }],
  ['fetch', { fetch: { maxWaitMs: 0 } }],
  ['revokeTimeoutMs', { revokeTimeoutMs: 30_000 }],
  ['heartbeatIntervalMs', { sessionTimeoutMs: 6_000, heartbeatIntervalMs: 7_000, revokeTimeoutMs: 0 }],
  ['wire', { wire: 'xml' }],
  ['groupID', { groupID: 'x' }],
])('reports %s in %j', (name, options) => {
  expect(problemsOf(options)).toContain(name);
});

describe('invalid SASL credentials', () => {
  it.each([
    [{ mechanism: 'PLAIN', username: 'u', password: 's3cret' }],
    [{ mechanism: 'plain', password: 's3cret' }],
    [{ mechanism: 'scram-sha-256', username: '', password: 's3cret' }],
    [{ mechanism: 'aws', secretAccessKey: 's3cret' }],
    [{ mechanism: 'oauthbearer', token: 's3cret' }],
    ['s3cret'],
    [null],
  ])('are reported without their secret', (sasl) => {
    const problems = validateKafkaOptions({ brokers, sasl }, 'p');
    expect(problems.map(({ name }) => name)).toEqual(['p.sasl']);
    expect(JSON.stringify(problems)).not.toContain('s3cret');
  });
});

it('the defaults of consumer timeouts fit one another', () => {
  expect(consumerTimeouts({ brokers })).toMatchObject({ heartbeatIntervalMs: 3_000, revokeTimeoutMs: 5_000 });
  expect(consumerTimeouts({ brokers, sessionTimeoutMs: 6_000 })).toMatchObject({
    heartbeatIntervalMs: 2_000,
    maxRevokeTimeoutMs: 4_000,
    revokeTimeoutMs: 4_000,
  });
});
