import 'reflect-metadata';
import { Controller } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  Consume,
  DeadLetter,
  Retry,
  RetryInterceptor,
  storkMicroservice,
  type DeadLetterOptions,
  type RetryOptions,
} from 'nestjs-stork';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { Test } from '@nestjs/testing';
import { StorkModule } from 'nestjs-stork';
import { Shop } from '../support.js';

let shop: Shop;
beforeEach(() => {
  shop = new Shop();
});
afterEach(() => shop.broker.close());

async function bootWith(
  options: Parameters<Shop['stork']>[0],
  decorators: readonly MethodDecorator[] = [],
): Promise<void> {
  @Controller()
  class Orders {
    @EventPattern<string>('created')
    created(): void {}
  }
  const descriptor = Object.getOwnPropertyDescriptor(Orders.prototype, 'created')!;
  for (const decorate of decorators) decorate(Orders.prototype, 'created', descriptor);
  const testing = await Test.createTestingModule({
    imports: [shop.stork(options)],
    controllers: [Orders],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  try {
    await app.listen();
  } finally {
    await app.close();
  }
}

it.each<[string, object, string]>([
  [
    'a negative number',
    { maxRetries: -1 },
    '@Retry({ maxRetries }) of Orders.created: expected an integer from 0 to 100000, given -1',
  ],
  [
    'text',
    { delayMs: '1s' },
    '@Retry({ delayMs }) of Orders.created: expected an integer from 0 up, given "1s"',
  ],
  ['a factor below 1', { factor: 0.5 }, '@Retry({ factor }) of Orders.created: expected a number from 1 up'],
  [
    'an unknown jitter',
    { jitter: 'some' },
    "@Retry({ jitter }) of Orders.created: expected one of 'full', 'none'",
  ],
  [
    'a list without error classes',
    { failOn: [new Error('x')] },
    '@Retry({ failOn }) of Orders.created: expected a list of error classes',
  ],
  [
    'a delay of nothing',
    { redeliverDelaysMs: [0] },
    '@Retry({ redeliverDelaysMs }) of Orders.created: expected a list of integers from 1',
  ],
  [
    'an option that does not exist',
    { retries: 3 },
    '@Retry({ retries }) of Orders.created: expected no such option',
  ],
  [
    'a delay above maxDelayMs',
    { delayMs: 40_000 },
    'delayMs of the retry policy of Orders.created: expected at most its maxDelayMs, 30000',
  ],
])('refuses at boot, by handler and option: %s', async (_, options, problem) => {
  await expect(bootWith({}, [Retry(options as RetryOptions)])).rejects.toThrow(problem);
});

it('names the module and the transport if their options are invalid', async () => {
  const retry = { maxRetries: 'x' } as never;
  await expect(bootWith({ retry })).rejects.toThrow('StorkModule.retry.maxRetries: expected an integer');
  const transports = { main: shop.transport({ retry, deadLetter: { enabled: 1 } as never }) };
  await expect(bootWith({ transports })).rejects.toThrow(
    'transports.main.deadLetter.enabled: expected true or false',
  );
  await expect(bootWith({ transports })).rejects.toThrow('transports.main.retry.maxRetries');
});

it('refuses invalid options of @DeadLetter() and of interceptors', async () => {
  const deadLetter = DeadLetter({ redact: 'yes' } as unknown as DeadLetterOptions);
  await expect(bootWith({}, [deadLetter])).rejects.toThrow(
    '@DeadLetter({ redact }) of Orders.created: expected a function',
  );
  const withInterceptor: MethodDecorator = (_, __, descriptor) =>
    Reflect.defineMetadata(
      '__interceptors__',
      [new RetryInterceptor({ delayMs: -1 })],
      descriptor.value as object,
    );
  await expect(bootWith({}, [withInterceptor])).rejects.toThrow(
    'new RetryInterceptor({ delayMs }) of Orders.created',
  );
});

it('ignores redeliverDelaysMs under at-most-once', async () => {
  await bootWith({}, [Consume({ delivery: 'at-most-once' }), Retry({ redeliverDelaysMs: [1_000] })]);
  expect(shop.broker.queueNames.filter((name) => name.includes('.retry.'))).toEqual([]);
});

/**
 * The error message of a start on a `rabbitmq()` transport, which is validated without a connection;
 * 'none' if it succeeds.
 */
async function refusalOnRabbitMq(...decorators: readonly MethodDecorator[]): Promise<string> {
  @Controller()
  class Slow {
    @EventPattern<string>('slow')
    slow(): void {}
  }
  const descriptor = Object.getOwnPropertyDescriptor(Slow.prototype, 'slow')!;
  for (const decorate of decorators) decorate(Slow.prototype, 'slow', descriptor);
  const transport = rabbitmq({
    url: 'amqp://broker.invalid',
    queue: shop.queue,
    concurrency: 5,
    prefetch: 20,
  });
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports: { main: transport } })],
    controllers: [Slow],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  const refusal = await app.listen().then(
    () => 'none',
    (error: unknown) => (error as Error).message,
  );
  await app.close();
  return refusal;
}

it("refuses in-process waits beyond the broker's consumer timeout, with the numbers", async () => {
  expect(await refusalOnRabbitMq(Retry({ maxRetries: 10, delayMs: 60_000, maxDelayMs: 600_000 }))).toBe(
    'retry of Slow.slow on the transport "main": expected in-process waits of at most 225000 ms in total: half of consumerTimeoutMs, ' +
      '1800000, for 4 messages in sequence (prefetch 20, concurrency 5); redeliverDelaysMs waits in the broker, given 4500000 ms',
  );
});

it('includes attempts in the sum if timeoutMs limits them', async () => {
  const refusal = await refusalOnRabbitMq(
    Consume({ timeoutMs: 60_000 }),
    Retry({ maxRetries: 3, delayMs: 10_000, factor: 1 }),
  );
  expect(refusal).toContain(
    'retry and timeoutMs of Slow.slow on the transport "main": expected in-process waits and attempts of at most',
  );
  expect(refusal).toContain('given 30000 ms of waits and 4 attempts of 60000 ms, 270000 ms');
});
