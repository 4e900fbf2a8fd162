import { Controller, type Type } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { Consume, StorkContext, type ConsumeOptions } from 'nestjs-stork';
import { Gate, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** `@Consume()`: order, concurrency and invalid combinations */
export function consumptionContract(harness: DriverHarness): void {
  it("handles messages of one key concurrently when order is 'none'", async () => {
    const gate = new Gate();
    const started = new Seen<number>();
    @Controller()
    class Free {
      @EventPattern<string>('free')
      @Consume({ order: 'none' })
      async free(@Payload() n: number): Promise<void> {
        started.add(n);
        await gate.opened;
      }
    }
    const { client, settled } = await startApp(harness, { controllers: [Free] });
    for (let n = 0; n < 4; n++) await client.publish('free', n, { key: 'k' });
    expect([...(await started.count(4))].toSorted()).toEqual([0, 1, 2, 3]);
    gate.open();
    await settled();
  });

  it('limits a handler to its own concurrency without delaying other handlers', async () => {
    const gate = new Gate();
    const started = new Seen<number>();
    const others = new Seen<number>();
    let running = 0;
    let most = 0;
    @Controller()
    class Mixed {
      @EventPattern<string>('slow')
      @Consume({ concurrency: 2 })
      async slow(@Payload() n: number): Promise<void> {
        most = Math.max(most, ++running);
        started.add(n);
        await gate.opened;
        running--;
      }
      @EventPattern<string>('quick')
      quick(@Payload() n: number): void {
        others.add(n);
      }
      @MessagePattern('ask')
      ask(): string {
        return 'answer';
      }
    }
    const { client, settled } = await startApp(harness, {
      controllers: [Mixed],
      transport: { concurrency: 3 },
    });
    for (let n = 0; n < 4; n++) await client.publish('slow', n, { key: `slow-${n}` });
    for (let n = 0; n < 5; n++) await client.publish('quick', n, { key: `quick-${n}` });
    await others.count(5);
    expect(await client.request('ask', 1)).toBe('answer');
    await started.count(2);
    expect(started.all.length).toBe(2);
    gate.open();
    await started.count(4);
    await settled();
    expect(most).toBe(2);
  });

  it('keeps the order of a key whose handler is at its concurrency limit', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Ordered {
      @EventPattern<string>('bounded')
      @Consume({ concurrency: 1 })
      async bounded(@Payload() n: number, @Ctx() context: StorkContext): Promise<void> {
        await new Promise(setImmediate);
        seen.add(`${context.key} ${n}`);
      }
      @EventPattern<string>('plain')
      plain(@Payload() n: number, @Ctx() context: StorkContext): void {
        seen.add(`${context.key} ${n}`);
      }
    }
    const { client } = await startApp(harness, { controllers: [Ordered], transport: { concurrency: 5 } });
    for (let n = 0; n < 30; n++) {
      for (const key of ['a', 'b', 'c']) {
        await client.publish(n % 3 === 0 ? 'plain' : 'bounded', n, { key });
      }
    }
    const all = await seen.count(90);
    for (const key of ['a', 'b', 'c']) {
      const ofKey = all.filter((line) => line.startsWith(key));
      expect(ofKey).toEqual(Array.from({ length: 30 }, (_, n) => `${key} ${n}`));
    }
  });

  refusals(harness);
  if (!harness.capabilities.messageOptions.has('partition')) {
    it("refuses order 'partition' on a transport without partitions", async () => {
      const Wishes = wishing({ order: 'partition' });
      await expect(startApp(harness, { controllers: [Wishes] })).rejects.toThrow(
        /@Consume\(\{ order \}\) of Wishes\.work: expected 'key' or 'none' on the transport "main".*given 'partition'/,
      );
    });
  } else {
    it("handles all messages of a partition one after another when order is 'partition'", async () => {
      const seen = new Seen<string>();
      const atWork = new Map<unknown, number>();
      let overlaps = 0;
      @Controller()
      class Ordered {
        @EventPattern<string>('step')
        @Consume({ order: 'partition' })
        async step(@Payload() n: number, @Ctx() context: StorkContext): Promise<void> {
          const partition = context.getArgs()[0].origin.partition;
          if (atWork.has(partition)) overlaps++;
          atWork.set(partition, n);
          for (let turn = n % 3; turn >= 0; turn--) await new Promise(setImmediate);
          atWork.delete(partition);
          seen.add(`${partition} ${n}`);
        }
      }
      const { client } = await startApp(harness, { controllers: [Ordered] });
      for (let n = 0; n < 60; n++) await client.publish('step', n, { key: `k${n % 7}` });
      const all = await seen.count(60);
      expect(overlaps).toBe(0);
      const partitions = new Set(all.map((line) => line.split(' ')[0]));
      for (const partition of partitions) {
        const numbers = all
          .filter((line) => line.startsWith(`${partition} `))
          .map((line) => Number(line.split(' ')[1]));
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
      }
    });
  }
}

function wishing(options: ConsumeOptions): Type {
  @Controller()
  class Wishes {
    @EventPattern<string>('work')
    @Consume(options)
    work(): void {}
  }
  return Wishes;
}

function refusals(harness: DriverHarness): void {
  it('refuses handlers of one source with different order or delivery', async () => {
    @Controller()
    class Others {
      @EventPattern<string>('other')
      @Consume({ order: 'none', delivery: 'at-most-once' })
      other(): void {}
    }
    const controllers = [wishing({}), Others];
    const refused = startApp(harness, { controllers });
    await expect(refused).rejects.toThrow(
      /@Consume\(\{ order \}\) of Others\.other: expected .*'key'.*'none'/,
    );
    await expect(startApp(harness, { controllers })).rejects.toThrow(
      /@Consume\(\{ delivery \}\) of Others\.other: expected .*Wishes\.work.*given 'at-most-once'/,
    );
  });

  it("refuses several handlers of one event when delivery is 'manual'", async () => {
    @Controller()
    class Others {
      @EventPattern<string>('work')
      @Consume({ delivery: 'manual' })
      other(): void {}
      // Not a second handler of an event: a message goes either to the event handler or to the message
      // handler.
      @MessagePattern('work')
      @Consume({ delivery: 'manual' })
      answer(): void {}
    }
    await expect(
      startApp(harness, { controllers: [wishing({ delivery: 'manual' }), Others] }),
    ).rejects.toThrow(
      /@Consume\(\{ delivery \}\) of Others\.other: expected a single handler .*Wishes\.work listens to work too/,
    );
    await startApp(harness, { controllers: [Others] });
  });

  it('refuses a concurrency above that of the transport, with both numbers', async () => {
    await expect(
      startApp(harness, { controllers: [wishing({ concurrency: 8 })], transport: { concurrency: 7 } }),
    ).rejects.toThrow(/@Consume\(\{ concurrency \}\) of Wishes\.work: expected at most 7.*given 8/);
  });

  it('refuses a maxWaiting below the concurrency, with both numbers', async () => {
    await expect(
      startApp(harness, { controllers: [wishing({})], transport: { concurrency: 7, maxWaiting: 6 } }),
    ).rejects.toThrow(/transports\.main\.maxWaiting: expected at least 7, its concurrency, given 6/);
  });

  it.each([
    [{ order: 'topic' }, /@Consume\(\{ order \}\) of Wishes\.work: expected one of 'key', .*given.*topic/],
    [{ delivery: 'twice' }, /@Consume\(\{ delivery \}\) of Wishes\.work: expected one of .*given.*twice/],
    [{ concurrency: 0 }, /@Consume\(\{ concurrency \}\) of Wishes\.work: expected an integer .*given 0/],
    [{ id: '' }, /@Consume\(\{ id \}\) of Wishes\.work: expected text that is not empty/],
    [{ retries: 3 }, /@Consume\(\{ retries \}\) of Wishes\.work: expected no such option/],
    [null, /@Consume\(\) of Wishes\.work: expected an object of options/],
  ])('refuses %j', async (options, problem) => {
    await expect(startApp(harness, { controllers: [wishing(options as ConsumeOptions)] })).rejects.toThrow(
      problem,
    );
  });
}
