import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { StorkContext } from 'nestjs-stork';
import { Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** pattern → handler */
export function routingContract(harness: DriverHarness): void {
  it('matches words by * and #, and RegExps', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Wild {
      @EventPattern<string>('order.*')
      oneWord(@Ctx() context: StorkContext): void {
        seen.add(`order.*: ${context.pattern}`);
      }
      @EventPattern<string>('order.#')
      anyWords(@Ctx() context: StorkContext): void {
        seen.add(`order.#: ${context.pattern}`);
      }
      @EventPattern(/^invoice\.\d+$/g)
      regExp(@Ctx() context: StorkContext): void {
        seen.add(`RegExp: ${context.pattern}`);
      }
    }
    const { client, settled, deadLetters } = await startApp(harness, { controllers: [Wild] });
    for (const pattern of [
      'order',
      'order.created',
      'order.created.eu',
      'invoice.7',
      'invoice.8',
      'invoice.x',
    ]) {
      await client.publish(pattern, {});
    }
    await deadLetters(1);
    await settled();
    expect([...seen.all].toSorted()).toEqual([
      'RegExp: invoice.7',
      'RegExp: invoice.8',
      'order.#: order',
      'order.#: order.created',
      'order.#: order.created.eu',
      'order.*: order.created',
    ]);
    expect(await deadLetters(1)).toHaveLength(1);
  });

  it('matches everything by #', async () => {
    const seen = new Seen<string>();
    @Controller()
    class CatchAll {
      @EventPattern<string>('#')
      all(@Ctx() context: StorkContext): void {
        seen.add(context.pattern);
      }
    }
    const { client, source, settled } = await startApp(harness, { controllers: [CatchAll] });
    for (const pattern of ['a', 'a.b', 'a.b.c.d']) await client.publish(pattern, {});
    await harness.publishRaw(source, { body: Buffer.from('{}') });
    expect((await seen.count(4)).filter((pattern) => pattern.startsWith('a')).toSorted()).toEqual([
      'a',
      'a.b',
      'a.b.c.d',
    ]);
    await settled();
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('selects the most exact of several message handlers', async () => {
    @Controller()
    class Answers {
      @MessagePattern('#')
      any(): string {
        return 'any';
      }
      @MessagePattern('order.*')
      order(): string {
        return 'order';
      }
      @MessagePattern('order.quote')
      quote(): string {
        return 'quote';
      }
    }
    const { client } = await startApp(harness, { controllers: [Answers] });
    expect(await client.request('order.quote', 1)).toBe('quote');
    expect(await client.request('order.x', 1)).toBe('order');
    expect(await client.request('x', 1)).toBe('any');
  });

  it('calls a method once although several of its patterns match', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Many {
      @EventPattern<string[]>(['order.created', 'order.*', 'bill.created'])
      all(@Ctx() context: StorkContext): void {
        seen.add(context.pattern);
      }
    }
    const { client, settled } = await startApp(harness, { controllers: [Many] });
    await client.publish('order.created', {});
    await client.publish('bill.created', {});
    await seen.count(2);
    await settled();
    expect([...seen.all].toSorted()).toEqual(['bill.created', 'order.created']);
  });
}
