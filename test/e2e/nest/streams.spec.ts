import { Controller, Logger, type Type } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern } from '@nestjs/microservices';
import { concat, EMPTY, finalize, interval, lastValueFrom, map, of, take, timer } from 'rxjs';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { StorkClient, StorkContext, storkMicroservice } from 'nestjs-stork';
import type { MemoryOptions } from 'nestjs-stork/memory';
import { eventually, Seen } from '../../contract/app.js';
import { LogLines, Shop } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

async function start(controller: Type, options: Partial<MemoryOptions> = {}) {
  const shop = new Shop();
  const logs = new LogLines();
  const testing = await Test.createTestingModule({
    imports: [shop.stork({ transports: { main: shop.transport(options) } })],
    controllers: [controller],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: logs });
  onTestFinished(() => app.close());
  await app.listen();
  return { shop, logs, client: app.get(StorkClient) };
}

const failedTeardown = (): never => {
  throw new Error('teardown failed');
};

describe("what a handler's stream throws while it is torn down", () => {
  @Controller()
  class Streams {
    @EventPattern<string>('endless')
    endless(@Ctx() { redelivered }: StorkContext) {
      return redelivered ? EMPTY : interval(5).pipe(finalize(failedTeardown), map(String));
    }
    @EventPattern<string>('ends')
    ends() {
      return interval(5).pipe(take(1), finalize(failedTeardown), map(String));
    }
    @MessagePattern('first')
    first() {
      return timer(5).pipe(finalize(failedTeardown), map(String));
    }
    @EventPattern<string>('fine')
    fine(): void {}
  }

  it('is a failure of the handler when it ends by itself', async () => {
    const { shop, client } = await start(Streams);
    await client.publish('ends', 1);
    const [deadLetter] = await shop.deadLetters(1);
    expect(deadLetter!['stork-error-message']).toContain('teardown failed');
  });

  it('is told to the caller of a request', async () => {
    const { client } = await start(Streams);
    await expect(client.request('first', 1)).rejects.toThrow('teardown failed');
  });

  it('stops neither the loss of the connection nor the consumer', async () => {
    const { shop, client } = await start(Streams);
    await client.publish('endless', 1);
    await eventually(
      async () => (shop.broker.queue(shop.queue)!.unacked === 1 ? true : undefined),
      'the stream',
    );
    shop.broker.dropConnections();
    await client.publish('fine', 2);
    await eventually(
      async () => (shop.broker.queue(shop.queue)!.ready === 0 ? true : undefined),
      'the consumer to be back',
    );
  });
});

it('a listener of the abort signal that throws is logged, and stops nothing', async () => {
  const waiting = new Seen<void>();
  @Controller()
  class Listens {
    @EventPattern<string>('work')
    async work(@Ctx() { signal, attempt, redelivered }: StorkContext): Promise<void> {
      if (redelivered || attempt > 1) return;
      signal.addEventListener('abort', () => {
        throw new Error('listener failed');
      });
      signal.addEventListener('abort', async () => {
        throw new Error('async listener failed');
      });
      // oxlint-disable-next-line unicorn/prefer-add-event-listener -- its setter is tested
      signal.onabort = failedTeardown;
      waiting.add();
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    }
  }
  const { shop, client, logs } = await start(Listens);
  await client.publish('work', 1);
  await waiting.count(1);
  shop.broker.dropConnections();
  await shop.settled();
  for (const text of [': listener failed', ': async listener failed', ': teardown failed'])
    expect(logs.containing(text)).toHaveLength(1);
});

it('a stream whose first value cannot be encoded as an item fails, and its caller is told', async () => {
  @Controller()
  class Streams {
    @MessagePattern('stream')
    stream() {
      return concat(of(undefined), timer(50).pipe(map(() => 'later')));
    }
  }
  const { client } = await start(Streams, { defaultContentType: 'text/plain' });
  await expect(lastValueFrom(client.send('stream', 'a'))).rejects.toMatchObject({
    message: expect.stringContaining('text/plain'),
    retryable: false,
  });
});
