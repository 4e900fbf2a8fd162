import { Controller, Inject } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { getClientToken, Idempotent, Retry, StorkContext, type StorkClient } from 'nestjs-stork';
import { deathReason, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** What a repeated attempt repeats, and where it goes */
export function repetitionContract(harness: DriverHarness): void {
  it('a redelivery finds its handler by the pattern once that has another name', async () => {
    const attempts = new Seen<number>();
    // Enough of them for an application that closes slowly.
    const retry = { maxRetries: 0, redeliverDelaysMs: Array.from({ length: 40 }, () => 1_500) };
    @Controller()
    class Before {
      @Retry(retry)
      @EventPattern<string>('created')
      created(): never {
        throw new Error('not yet');
      }
    }
    @Controller()
    class After {
      @Retry(retry)
      @EventPattern<string>('created')
      onCreated(@Ctx() { attempt }: StorkContext): void {
        attempts.add(attempt);
      }
    }
    const first = await startApp(harness, { controllers: [Before] });
    await first.client.publish('created', {});
    await expect.poll(() => first.service.state()['main']!.counts.redelivered).toBeGreaterThan(0);
    await first.close();
    const second = await startApp(harness, { controllers: [After], source: first.source });
    expect((await attempts.count(1))[0]).toBeGreaterThan(1);
    await second.settled();
    expect(await harness.deadLetters(first.source)).toEqual([]);
  });

  it('but not if two handlers could be meant', async () => {
    @Controller()
    class Both {
      @EventPattern<string>('created')
      one(): void {}
      @EventPattern<string>('created')
      two(): void {}
    }
    const { deadLetters, source } = await startApp(harness, { controllers: [Both] });
    const headers = { 'stork-handler': 'Both.gone', 'stork-attempt': '2' };
    await harness.publishRaw(source, { body: Buffer.from('{}'), pattern: 'created', headers });
    expect(deathReason((await deadLetters(1))[0]!)).toBe('no-handler');
  });

  it('each attempt sends its messages with the ids of the first', async () => {
    const ids = new Seen<string | undefined>();
    const handled = new Seen<number>();
    @Controller()
    class Orders {
      constructor(@Inject(getClientToken('main')) private readonly client: StorkClient) {}

      @Retry({ maxRetries: 2, delayMs: 1 })
      @EventPattern<string>('created')
      async created(@Ctx() { attempt }: StorkContext): Promise<void> {
        for (const n of [1, 2, 2]) await this.client.publish('stored', n, { key: 'k' });
        if (attempt < 3) throw new Error('again');
        await this.client.publish('done', {}, { key: 'k' });
      }

      @EventPattern<string>('stored')
      stored(@Ctx() { messageId }: StorkContext): void {
        ids.add(messageId);
      }

      @Idempotent()
      @EventPattern<string>('stored')
      once(@Payload() n: number): void {
        handled.add(n);
      }

      @EventPattern<string>('done')
      done(): void {}
    }
    const { client, settled } = await startApp(harness, {
      controllers: [Orders],
      transport: { concurrency: 1 },
    });
    await client.publish('created', {});
    await client.publish('created', {});
    const all = await ids.count(18);
    await settled();
    // Three messages of each of two events; the two with the same content have two ids.
    expect(new Set(all).size).toBe(6);
    expect(handled.all.toSorted()).toEqual([1, 1, 2, 2, 2, 2]);
    for (const id of all)
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it('an id that the handler gives is kept', async () => {
    const ids = new Seen<string | undefined>();
    @Controller()
    class Orders {
      constructor(@Inject(getClientToken('main')) private readonly client: StorkClient) {}

      @EventPattern<string>('created')
      async created(): Promise<void> {
        await this.client.publish('stored', {}, { messageId: 'mine' });
      }

      @EventPattern<string>('stored')
      stored(@Ctx() { messageId }: StorkContext): void {
        ids.add(messageId);
      }
    }
    const { client } = await startApp(harness, { controllers: [Orders] });
    await client.publish('created', {});
    expect(await ids.count(1)).toEqual(['mine']);
  });
}
