import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { describe, expect, it } from 'vitest';
import { Retry, StorkContext } from 'nestjs-stork';
import { Seen } from '../../contract/app.js';
import { checkDelaysAtOnce } from '../retry-delays.js';
import { startRabbitApp, url, useRaw } from './support.js';

describe.skipIf(url === undefined)('RabbitMQ: delays', () => {
  const raw = useRaw();

  const queueWith = (...delays: readonly number[]): string => {
    const queue = raw().queue();
    for (const delay of delays) raw().queue(`${queue}.retry.${delay}`);
    return queue;
  };

  it('of a second and of a minute at once: never early, at most a second late, and no message is delayed by another', async () => {
    const queue = queueWith(1_000, 60_000);
    await checkDelaysAtOnce('job', (controller) =>
      startRabbitApp({ controllers: [controller], options: { queue } }),
    );
  }, 180_000);

  it('whose queue was deleted are declared again, and nothing is lost', async () => {
    const queue = queueWith(300);
    const remove = (): Promise<unknown> => raw().with((channel) => channel.deleteQueue(`${queue}.retry.300`));
    const seen = new Seen<string>();
    @Controller()
    class Jobs {
      @EventPattern<string>('job')
      @Retry({ maxRetries: 0, redeliverDelaysMs: [300] })
      async run(@Payload() n: number, @Ctx() { attempt }: StorkContext): Promise<void> {
        seen.add(`${n} ${attempt}`);
        if (attempt > 1) return;
        // Between the failure and the publish to the retry queue.
        if (n === 1) await remove();
        throw new Error('no');
      }
    }
    const { client, counts } = await startRabbitApp({ controllers: [Jobs], options: { queue } });
    await client.publish('job', 0);
    await seen.count(2);
    await remove();
    await client.publish('job', 1);
    await seen.count(4);
    for (let n = 2; n < 12; n++) await client.publish('job', n);
    await seen.count(24);
    expect(new Set(seen.all).size).toBe(24);
    expect(counts()).toMatchObject({ redelivered: 12 });
    expect(await raw().count(`${queue}.dlq`)).toBe(0);
  });

  it('of messages without a handler have their queue from the start, and again where it was deleted', async () => {
    const queue = queueWith(250);
    const retryQueue = `${queue}.retry.250`;
    @Controller()
    class Jobs {
      @EventPattern<string>('job')
      run(): void {}
    }
    const onUnhandled = { redeliverMs: 250, times: 2 };
    const { client, counts } = await startRabbitApp({ controllers: [Jobs], options: { queue, onUnhandled } });
    const declared = await raw().with((channel) => channel.checkQueue(retryQueue));
    expect(declared).toMatchObject({ queue: retryQueue, messageCount: 0 });
    await raw().with((channel) => channel.deleteQueue(retryQueue));
    await client.publish('other', 1);
    await raw().deadLetters(`${queue}.dlq`, 1);
    expect(counts()).toMatchObject({ 'unhandled-redelivered': 2 });
  });
});
