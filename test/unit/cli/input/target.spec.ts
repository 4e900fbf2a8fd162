import { expect, it } from 'vitest';
import { readTarget, type SourceFlags } from '../../../../lib/cli/input/target.js';

const rabbitMq = { RABBITMQ_URL: 'amqp://env', QUEUE_NAME: 'env-queue', DLQ_NAME: 'env-dead' };
const kafka = { KAFKA_BROKERS: 'a:1, b:2', KAFKA_GROUP_ID: 'env-group' };

it('takes RabbitMQ from the command line, else from the environment', () => {
  expect(readTarget({ url: 'amqp://x', queue: 'q' }, kafka)).toEqual({
    broker: 'rabbitmq',
    url: 'amqp://x',
    queue: 'q',
    from: undefined,
  });
  const fromEnv = { broker: 'rabbitmq', url: 'amqp://env', queue: 'env-queue', from: 'env-dead' };
  expect(readTarget({}, rabbitMq)).toEqual(fromEnv);
  expect(readTarget({ from: 'other' }, rabbitMq)).toEqual({ ...fromEnv, from: 'other' });
});

it('does not use DLQ_NAME for a queue given by --queue', () => {
  expect(readTarget({ queue: 'q' }, rabbitMq)).toMatchObject({ queue: 'q', from: undefined });
});

it('takes Kafka from the command line, else from the environment', () => {
  const expected = { broker: 'kafka', brokers: ['a:1', 'b:2'], topic: 't', group: 'env-group', ssl: false };
  expect(readTarget({ topic: 't' }, { ...kafka, ...rabbitMq })).toMatchObject(expected);
  expect(readTarget({ topic: 't', group: 'g', brokers: 'c:3', ssl: true }, kafka)).toMatchObject({
    brokers: ['c:3'],
    group: 'g',
    ssl: true,
  });
});

it('takes the password from the environment only', () => {
  const flags: SourceFlags = { topic: 't', saslMechanism: 'scram-sha-256', saslUsername: 'u' };
  expect(readTarget(flags, { ...kafka, KAFKA_SASL_PASSWORD: 'p' })).toMatchObject({
    sasl: { mechanism: 'scram-sha-256', username: 'u', password: 'p' },
  });
  expect(() => readTarget(flags, kafka)).toThrow('KAFKA_SASL_PASSWORD');
});

const wrong: [flags: SourceFlags, env: Record<string, string>, says: string][] = [
  [{}, {}, 'no broker is given. Add --url'],
  [{ queue: 'q', topic: 't' }, {}, '--queue is for RabbitMQ and --topic for Kafka: use one of them'],
  [{}, { ...rabbitMq, ...kafka }, 'RABBITMQ_URL and KAFKA_BROKERS are both set. Add --queue'],
  [{ queue: 'q' }, {}, 'RABBITMQ_URL'],
  [{ url: 'amqp://x' }, {}, 'QUEUE_NAME'],
  [{ topic: 't' }, {}, 'KAFKA_BROKERS'],
  [{}, kafka, '--topic'],
  [{ topic: 't', brokers: 'a:1' }, {}, 'KAFKA_GROUP_ID'],
  [{ topic: 't', group: 'g', brokers: 'a:1,b' }, {}, 'host:port, not as "b"'],
  [{ topic: 't', saslUsername: 'u' }, kafka, '--sasl-mechanism'],
  [{ topic: 't', saslMechanism: 'plain' }, kafka, '--sasl-username'],
  [{ url: ' ', queue: 'q' }, {}, 'RABBITMQ_URL'],
];

it.each(wrong)('%j with %j is wrong usage', (flags, env, says) => {
  expect(() => readTarget(flags, env)).toThrow(says);
});
