import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { Idempotent, type IdempotencyStore, type StorkContext } from 'nestjs-stork';
import { redisIdempotencyStore } from 'nestjs-stork/redis';
import { eventually, Gate, Seen } from '../../contract/app.js';
import { newMemoryStore } from '../../support/stores.js';
import { throwAway, type ThrowAway } from '../../support/brokers/index.mjs';
import { startRabbitApp, url, useRaw } from './support.js';

const raw = useRaw();
const long = 600_000;

/** Keeps a key however short its lease, so that a slow process does not lose it. */
function holdingStore(renewed: () => void): IdempotencyStore {
  const store = newMemoryStore();
  return {
    begin: (key, owner) => store.begin(key, owner, long),
    renew: (key, owner) => {
      renewed();
      return store.renew(key, owner, long);
    },
    complete: (...done) => store.complete(...done),
    release: (...freed) => store.release(...freed),
  };
}

describe.skipIf(url === undefined)('an idempotent handler on RabbitMQ', () => {
  /** A queue whose retry queues of all deferrals are deleted in the end. */
  function newQueue(): string {
    const queue = raw().queue();
    for (const delayMs of [100, 200, 500, 1_000, 50_000]) raw().queue(`${queue}.retry.${delayMs}`);
    return queue;
  }

  it('defers a message as often as needed: 25 deferrals do not dead-letter it', async () => {
    const gate = new Gate();
    const attempts = new Seen<number>();
    let renewals = 0;
    @Controller()
    class Slow {
      @EventPattern<string>('work')
      @Idempotent({ key: () => 'one' })
      async work(@Payload() n: number, @Ctx() { attempt }: StorkContext): Promise<void> {
        expect(attempt).toBe(1);
        attempts.add(n);
        if (n === 1) await gate.opened;
      }
    }
    const queue = newQueue();
    const { client, counts } = await startRabbitApp({
      controllers: [Slow],
      options: { queue },
      module: { idempotency: { store: holdingStore(() => renewals++), leaseMs: 100 } },
    });
    await client.publish('work', 1);
    await attempts.count(1);
    await client.publish('work', 2);
    // Each deferral takes its delay and the broker's time.
    await eventually(
      async () => ((counts()['duplicates-in-flight'] ?? 0) >= 25 ? true : undefined),
      '25 deferrals',
      60_000,
    );
    expect(renewals).toBeGreaterThan(5);
    expect(await raw().count(`${queue}.dlq`)).toBe(0);
    gate.open();
    await eventually(async () => (counts()['duplicate'] === 1 ? true : undefined), 'the duplicate');
    expect(attempts.all).toEqual([1]);
    expect(counts()['redelivered']).toBeUndefined();
    expect(await raw().count(`${queue}.dlq`)).toBe(0);
  }, 120_000);

  describe('with a store in Redis', () => {
    let redis: ThrowAway<'redis'>;
    beforeAll(async () => {
      if (url !== undefined) redis = await throwAway('redis', { config: ['--appendfsync', 'always'] });
    }, 120_000);
    afterAll(() => redis?.remove());

    function newWorker(behave: (n: number) => unknown = () => {}) {
      const attempts = new Seen<number>();
      @Controller()
      class Worker {
        @EventPattern<string>('work')
        @Idempotent()
        async work(@Payload() n: number): Promise<void> {
          attempts.add(n);
          await behave(n);
        }
      }
      const start = (queue: string) =>
        startRabbitApp({
          controllers: [Worker],
          options: { queue },
          module: { idempotency: { store: redisIdempotencyStore({ url: redis.url }) } },
        });
      return { attempts, start };
    }

    it('starts while Redis is down, keeps its messages, and handles each once when Redis is available', async () => {
      await redis.stop();
      onTestFinished(() => redis.start());
      const { attempts, start } = newWorker();
      const queue = newQueue();
      const { client, counts } = await start(queue);
      for (const n of [1, 2, 3]) await client.publish('work', n, { messageId: `m-${n}` });
      await client.publish('work', 1, { messageId: 'm-1' });
      await eventually(async () => (counts()['received'] === 4 ? true : undefined), 'all messages');
      expect(attempts.all).toEqual([]);
      await redis.start();
      await attempts.count(3);
      await eventually(async () => (counts()['duplicate'] === 1 ? true : undefined), 'the duplicate');
      expect([...attempts.all].toSorted()).toEqual([1, 2, 3]);
      expect(await raw().count(`${queue}.dlq`)).toBe(0);
    });

    it('loses Redis while a handler runs: its attempt counts, later messages wait, nothing is lost or handled twice', async () => {
      const gate = new Gate();
      const { attempts, start } = newWorker((n) => (n === 1 ? gate.opened : undefined));
      const queue = newQueue();
      const { client, counts } = await start(queue);
      await client.publish('work', 1, { messageId: 'm-1' });
      await attempts.count(1);
      await redis.kill();
      onTestFinished(() => redis.start());
      await client.publish('work', 2, { messageId: 'm-2' });
      await eventually(async () => (counts()['received'] === 2 ? true : undefined), 'the second message');
      await redis.start();
      // The second has begun: the store to which the end of the first is written is available again.
      await attempts.count(2);
      gate.open();
      await eventually(async () => (counts()['handled'] === 2 ? true : undefined), 'both handled');
      for (const n of [1, 2]) await client.publish('work', n, { messageId: `m-${n}` });
      await eventually(async () => (counts()['duplicate'] === 2 ? true : undefined), 'both duplicates');
      expect(attempts.all).toEqual([1, 2]);
      expect(await raw().count(`${queue}.dlq`)).toBe(0);
    });

    it('shares completed keys between applications on one queue', async () => {
      const { attempts, start } = newWorker();
      const queue = newQueue();
      const one = await start(queue);
      const other = await start(queue);
      for (let time = 1; time <= 10; time++) {
        await one.client.publish('work', 1, { messageId: 'm-1' });
      }
      const done = (): number =>
        [one, other].reduce((sum, { counts }) => sum + (counts()['duplicate'] ?? 0), attempts.all.length);
      await eventually(async () => (done() === 10 ? true : undefined), 'ten settled');
      expect(attempts.all).toEqual([1]);
    });
  });
});
