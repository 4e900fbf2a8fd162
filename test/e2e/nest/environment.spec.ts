import { Controller } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  StorkConfigError,
  StorkModule,
  storkMicroservice,
  type IdempotencyStoreDefinition,
  type TransportDefinition,
} from 'nestjs-stork';
import { kafkaFromEnv } from 'nestjs-stork/kafka';
import { rabbitmqFromEnv } from 'nestjs-stork/rabbitmq';
import { redisIdempotencyStoreFromEnv } from 'nestjs-stork/redis';
import { Shop } from '../support.js';

afterEach(() => void vi.unstubAllEnvs());

const variables = ['RABBITMQ_URL', 'QUEUE_NAME', 'KAFKA_BROKERS', 'KAFKA_GROUP_ID', 'REDIS_URL'];

function clearVariables(): void {
  for (const name of variables) vi.stubEnv(name, undefined);
}

@Controller()
class Orders {
  @EventPattern<string>('created')
  created(): void {}
}

/** The error with which a worker's start ends. */
async function startError(main: TransportDefinition, store?: IdempotencyStoreDefinition): Promise<unknown> {
  const idempotency = store === undefined ? undefined : { store };
  const stork = StorkModule.forRoot({ transports: { main }, startTimeoutMs: 200, idempotency });
  const testing = await Test.createTestingModule({ imports: [stork], controllers: [Orders] }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  return app.listen().then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('…FromEnv()', () => {
  it.each<[string, () => Promise<unknown>, Record<string, string>]>([
    [
      'rabbitmqFromEnv()',
      () => startError(rabbitmqFromEnv()),
      { 'transports.main.url': 'RABBITMQ_URL', 'transports.main.queue': 'QUEUE_NAME' },
    ],
    ['kafkaFromEnv()', () => startError(kafkaFromEnv()), { 'transports.main.brokers': 'KAFKA_BROKERS' }],
    [
      'kafkaFromEnv() with brokers',
      () => startError(kafkaFromEnv({ brokers: ['127.0.0.1:1'] })),
      { 'transports.main.groupId': 'KAFKA_GROUP_ID' },
    ],
    [
      'redisIdempotencyStoreFromEnv()',
      () => startError(new Shop().transport(), redisIdempotencyStoreFromEnv()),
      { 'StorkModule.idempotency.store.url': 'REDIS_URL' },
    ],
  ])('rejects the start by the missing variable: %s', async (_, start, missing) => {
    clearVariables();
    const error = await start();
    expect(error).toBeInstanceOf(StorkConfigError);
    const { problems } = error as StorkConfigError;
    expect(problems.map(({ name }) => name)).toEqual(Object.keys(missing));
    for (const { name, expected } of problems)
      expect(expected).toContain(`environment variable ${missing[name]}`);
  });

  it('reads the variables when the application starts, not when the module file is loaded', async () => {
    clearVariables();
    const rabbit = rabbitmqFromEnv();
    const kafka = kafkaFromEnv();
    const redis = redisIdempotencyStoreFromEnv();
    vi.stubEnv('RABBITMQ_URL', 'amqp://127.0.0.1:1');
    vi.stubEnv('QUEUE_NAME', 'orders');
    vi.stubEnv('KAFKA_BROKERS', '127.0.0.1:1, 127.0.0.1:2');
    vi.stubEnv('KAFKA_GROUP_ID', 'billing');
    vi.stubEnv('REDIS_URL', 'redis://127.0.0.1:1');
    expect(redis.validate('store')).toEqual([]);
    expect(await startError(rabbit)).toMatchObject({
      code: 'CONNECTION_LOST',
      message: expect.stringContaining('127.0.0.1:1') as string,
    });
    expect(await startError(kafka)).toMatchObject({
      code: 'CONNECTION_LOST',
      message: expect.stringContaining('127.0.0.1:2') as string,
    });
  });

  it('prefers an option to the variable, and takes an option that is undefined as missing', () => {
    clearVariables();
    vi.stubEnv('QUEUE_NAME', 'orders');
    vi.stubEnv('RABBITMQ_URL', 'not a url');
    expect(rabbitmqFromEnv({ url: 'amqp://localhost', queue: undefined }).validate('main')).toEqual([]);
    vi.stubEnv('KAFKA_BROKERS', '');
    expect(kafkaFromEnv({ brokers: ['localhost:9092'] }).validate('main')).toEqual([]);
    vi.stubEnv('REDIS_URL', 'not a url');
    expect(redisIdempotencyStoreFromEnv({ url: 'redis://localhost' }).validate('store')).toEqual([]);
  });
});
