import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { Consume, Retry, StorkContext } from 'nestjs-stork';
import { eventually, headerText, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** Longer than a test takes. */
const longBackoff = { maxRetries: 1, delayMs: 60_000, maxDelayMs: 60_000, jitter: 'none' } as const;

/** messages that wait between attempts, or after nack */
export function waitingContract(harness: DriverHarness): void {
  it('gives the slot of a message in back-off to messages of other keys, and keeps the order of its key', async () => {
    const seen = new Seen<string>();
    @Controller()
    @Retry({ ...longBackoff, onRetry: () => seen.add('waits') })
    class Mixed {
      @EventPattern<string>('work')
      work(@Ctx() { key }: StorkContext): void {
        seen.add(key!);
        if (key!.startsWith('broken')) throw new Error('its dependency is away');
      }
    }
    const { client, close } = await startApp(harness, {
      controllers: [Mixed],
      transport: { concurrency: 3 },
    });
    const broken = ['broken1', 'broken2', 'broken3'];
    for (const key of broken) await client.publish('work', 1, { key });
    await seen.count(6);
    for (const key of ['broken1', 'a', 'b', 'c']) await client.publish('work', 2, { key });
    expect((await seen.count(9)).filter((key) => key !== 'waits').toSorted()).toEqual([
      'a',
      'b',
      ...broken,
      'c',
    ]);
    await close();
    expect(seen.all.filter((key) => key === 'broken1')).toEqual(['broken1']);
  });

  it.each([
    ['ten times concurrency', {}, 20],
    ['maxWaiting', { maxWaiting: 3 }, 3],
  ])(
    'starts no further message while %s wait, and dead-letters none of the backlog',
    async (_, options, most) => {
      const [started, waiting] = [new Seen<string>(), new Seen<void>()];
      const concurrency = 2;
      @Controller()
      @Retry({ ...longBackoff, onRetry: () => waiting.add() })
      class Broken {
        @EventPattern<string>('work')
        work(@Ctx() { key }: StorkContext): void {
          started.add(key!);
          throw new Error('its dependency is away');
        }
      }
      const { client, close, left, service, source } = await startApp(harness, {
        controllers: [Broken],
        transport: { concurrency, ...options },
      });
      const count = 40;
      await Promise.all(Array.from({ length: count }, (_, i) => client.publish('work', i, { key: `k${i}` })));
      // A queue delivers as many as its prefetch allows, a log all of them.
      await eventually(async () => {
        const { inFlight } = service.state()['main']!;
        return inFlight >= concurrency * 2 && waiting.all.length >= Math.min(inFlight, most)
          ? true
          : undefined;
      }, 'the messages to wait');
      for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
      expect(started.all.length).toBeLessThanOrEqual(most);
      await close();
      await left(count);
      expect(new Set(started.all).size).toBe(started.all.length);
      expect(await harness.deadLetters(source)).toEqual([]);
    },
  );

  it('gives the slot of a nacked message to other keys while it waits', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Undecided {
      @EventPattern<string>('work')
      work(@Payload() isNacked: boolean, @Ctx() context: StorkContext): void {
        const isFirst = !seen.all.includes(context.key!);
        seen.add(context.key!);
        if (isNacked && isFirst) context.nack();
      }
    }
    const { client, settled } = await startApp(harness, {
      controllers: [Undecided],
      transport: { concurrency: 1 },
    });
    // The wait takes a second; on a stalled machine it may pass before the other message has arrived.
    for (let round = 0; round < 10; round++) {
      await client.publish('work', true, { key: `nacked ${round}` });
      await seen.count(round * 3 + 1);
      const since = performance.now();
      await client.publish('work', false, { key: `other ${round}` });
      await eventually(async () => (seen.all.includes(`other ${round}`) ? true : undefined), 'the other');
      const tookMs = performance.now() - since;
      await seen.count(round * 3 + 3);
      await settled();
      if (tookMs < 700) return;
    }
    expect.unreachable('the other message has always waited for the nacked one');
  });

  it('delays the next message of its key while a nacked message waits; a log keeps their order', async () => {
    const seen = new Seen<{ readonly n: number; readonly atMs: number }>();
    @Controller()
    class Undecided {
      @EventPattern<string>('work')
      work(@Payload() n: number, @Ctx() context: StorkContext): void {
        const isFirst = !seen.all.some((each) => each.n === n);
        seen.add({ n, atMs: performance.now() });
        if (n === 1 && isFirst) context.nack();
      }
    }
    const { client, settled } = await startApp(harness, { controllers: [Undecided] });
    for (const n of [1, 2]) await client.publish('work', n, { key: 'k' });
    const [first, second] = await seen.count(3);
    await settled();
    // The wait takes a second; a timer may be a few milliseconds early.
    expect(second!.atMs - first!.atMs).toBeGreaterThan(900);
    expect(seen.all.filter(({ n }) => n === 1).length).toBe(2);
    // A queue delivers a requeued message again behind those that it has delivered.
    if (!harness.capabilities.destinations.has('queue'))
      expect(seen.all.map(({ n }) => n)).toEqual([1, 1, 2]);
  });

  it('requeues a message that its handler nacks as often as deliveryLimit allows, then dead-letters it', async () => {
    const attempts = new Seen<unknown>();
    @Controller()
    class Undecided {
      @EventPattern<string>('work')
      work(@Ctx() context: StorkContext): void {
        attempts.add(context);
        context.nack();
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, {
      controllers: [Undecided],
      transport: harness.withDeliveryLimit(2),
    });
    await client.publish('work', 1);
    expect((await deadLetters(1)).length).toBe(1);
    await settled();
    expect(attempts.all.length).toBe(3);
  });

  it('does not run again a handler that is done when a shutdown interrupts the back-off of another', async () => {
    const seen = new Seen<string>();
    const waiting = new Seen<void>();
    @Controller()
    class Both {
      @EventPattern<string>('work')
      done(): void {
        seen.add('done');
      }
      @EventPattern<string>('work')
      @Retry({ ...longBackoff, onRetry: () => waiting.add() })
      fails(@Ctx() { attempt, firstFailedAt }: StorkContext): void {
        seen.add(`fails ${attempt}${firstFailedAt === undefined ? '' : ' again'}`);
        if (attempt === 1) throw new Error('no');
      }
    }
    const first = await startApp(harness, { controllers: [Both] });
    await first.client.publish('work', 1);
    await waiting.count(1);
    await first.close();
    const second = await startApp(harness, { controllers: [Both], source: first.source });
    expect((await seen.count(3)).toSorted()).toEqual(['done', 'fails 1', 'fails 2 again']);
    await second.settled();
    expect(await harness.deadLetters(first.source)).toEqual([]);
  });

  it('counts a delivery once, however often it is attempted', async () => {
    @Controller()
    @Retry({ maxRetries: 2, delayMs: 0 })
    class Failing {
      @EventPattern<string>('work')
      work(): never {
        throw new Error('no');
      }
    }
    const { client, deadLetters, service } = await startApp(harness, { controllers: [Failing] });
    await client.publish('work', 1);
    await deadLetters(1);
    expect(service.state()['main']!.counts).toMatchObject({ received: 1, retried: 2, failed: 1 });
  });

  it('retries although onRetry does not end, and closes', async () => {
    const attempts = new Seen<number>();
    @Controller()
    @Retry({ maxRetries: 1, delayMs: 0, onRetry: () => new Promise(() => {}) })
    class Failing {
      @EventPattern<string>('work')
      work(@Ctx() { attempt }: StorkContext): never {
        attempts.add(attempt);
        throw new Error('no');
      }
    }
    const { client, deadLetters, close } = await startApp(harness, { controllers: [Failing] });
    await client.publish('work', 1);
    await deadLetters(1);
    expect(attempts.all).toEqual([1, 2]);
    await close();
  });

  it('under manual, settles on ack() in a retried attempt at once, and counts the attempts on', async () => {
    const attempts = new Seen<StorkContext>();
    @Controller()
    class Keeper {
      @EventPattern<string>('work')
      @Consume({ delivery: 'manual' })
      @Retry({ maxRetries: 3, delayMs: 0 })
      work(@Ctx() context: StorkContext): void {
        attempts.add(context);
        if (context.attempt === 1) throw new Error('no');
      }
    }
    const { client, settled, source } = await startApp(harness, { controllers: [Keeper] });
    await client.publish('work', 1);
    const [, second] = await attempts.count(2);
    expect(second!.retry()).toBe(true);
    const [, , third] = await attempts.count(3);
    expect(attempts.all.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(third!.firstFailedAt).toBe(second!.firstFailedAt);
    expect(third!.ack()).toBe(true);
    await settled();
    expect((await harness.deadLetters(source)).map((each) => headerText(each, 'stork-handler'))).toEqual([]);
  });
}
