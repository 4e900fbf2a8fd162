import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { Consume, StorkContext } from 'nestjs-stork';
import { Gate, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** bounds and order */
export function concurrencyContract(harness: DriverHarness): void {
  it('calls no more handlers at once than concurrency allows, and holds a bounded number of messages', async () => {
    const gate = new Gate();
    const started = new Seen<number>();
    let running = 0;
    let most = 0;
    @Controller()
    class Slow {
      @EventPattern<string>('slow')
      async slow(@Payload() n: number): Promise<void> {
        most = Math.max(most, ++running);
        started.add(n);
        await gate.opened;
        running--;
      }
    }
    const { client, service, settled } = await startApp(harness, {
      controllers: [Slow],
      transport: { concurrency: 7 },
    });
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => client.publish('slow', i, { key: `k${i}` })));
    await started.count(7);
    expect(service.state()['main']!.inFlight).toBeLessThanOrEqual(100);
    gate.open();
    await started.count(1_000);
    await settled();
    expect(most).toBe(7);
  });

  it('handles messages of one key one after another, in order, while other keys continue', async () => {
    const done = new Map<string, number[]>();
    const seen = new Seen<number>();
    const atWork = new Set<string>();
    let overlaps = 0;
    @Controller()
    class Ordered {
      @EventPattern<string>('step')
      async step(@Payload() n: number, @Ctx() context: StorkContext): Promise<void> {
        const key = context.key!;
        if (atWork.has(key)) overlaps++;
        atWork.add(key);
        // Later messages of a key take less time, so a missing order would show.
        for (let turn = n % 5; turn >= 0; turn--) await new Promise(setImmediate);
        done.set(key, [...(done.get(key) ?? []), n]);
        atWork.delete(key);
        seen.add(n);
      }
    }
    const { client } = await startApp(harness, { controllers: [Ordered], transport: { concurrency: 20 } });
    const keys = ['a', 'b', 'c', 'd', 'e'];
    for (let n = 0; n < 100; n++) await Promise.all(keys.map((key) => client.publish('step', n, { key })));
    await seen.count(500);
    expect(overlaps).toBe(0);
    for (const key of keys) expect(done.get(key)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it("handles a queue in the order of publishing, and a log each key, with concurrency 1 and order 'none'", async () => {
    const seen = new Seen<readonly [key: string, n: number]>();
    @Controller()
    class One {
      @EventPattern<string>('step')
      @Consume({ order: 'none' })
      async step(@Payload() n: number, @Ctx() { key }: StorkContext): Promise<void> {
        // Later messages take less time, so a second slot would show.
        for (let turn = n % 5; turn >= 0; turn--) await new Promise(setImmediate);
        seen.add([key!, n]);
      }
    }
    const { client } = await startApp(harness, { controllers: [One], transport: { concurrency: 1 } });
    const keys = ['a', 'b', 'c'];
    const numbers = Array.from({ length: 60 }, (_, n) => n);
    for (const n of numbers) await client.publish('step', n, { key: keys[n % keys.length]! });
    const all = await seen.count(numbers.length);
    for (const key of keys) {
      const ofKey = all.filter(([of]) => of === key).map(([, n]) => n);
      expect(ofKey).toEqual(ofKey.toSorted((a, b) => a - b));
    }
    if (harness.capabilities.destinations.has('queue')) expect(all.map(([, n]) => n)).toEqual(numbers);
  });

  it('does not let a slow key delay another key', async () => {
    const gate = new Gate();
    const seen = new Seen<string>();
    @Controller()
    class Mixed {
      @EventPattern<string>('work')
      async work(@Ctx() context: StorkContext): Promise<void> {
        if (context.key === 'slow') await gate.opened;
        seen.add(context.key!);
      }
    }
    const { client } = await startApp(harness, { controllers: [Mixed], transport: { concurrency: 2 } });
    for (let i = 0; i < 3; i++) await client.publish('work', i, { key: 'slow' });
    for (let i = 0; i < 5; i++) await client.publish('work', i, { key: 'quick' });
    expect(await seen.count(5)).toEqual(['quick', 'quick', 'quick', 'quick', 'quick']);
    gate.open();
    await seen.count(8);
  });
}
