import { Controller, type Type } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import {
  Consume,
  DeadLetterService,
  Retry,
  StorkContext,
  type CommonTransportOptions,
  type DeliveryMode,
  type MessageCodec,
} from 'nestjs-stork';
import { readText } from '../../../lib/core/message/headers.js';
import { deathReason, headerText, Seen, startApp, uniqueName, type RunningApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

const redeliverMs = 100;

function sendBack(times: number, options: CommonTransportOptions = {}): CommonTransportOptions {
  return { ...options, onUnhandled: { redeliverMs, times } };
}

const countsOf = ({ service }: RunningApp) => service.state()['main']!.counts;

@Controller()
class Older {
  @EventPattern<string>('created')
  created(): void {}
}

/** A version with the handlers that the older one lacks. */
function newNewer() {
  const refunded = new Seen<{ readonly data: unknown; readonly context: StorkContext }>();
  @Controller()
  class Newer extends Older {
    @EventPattern<string>('refunded')
    refunded(@Payload() data: unknown, @Ctx() context: StorkContext): void {
      refunded.add({ data, context });
    }

    @MessagePattern<string>('double')
    double(@Payload() n: number): number {
      return n * 2;
    }
  }
  return { refunded, Newer };
}

/** `onUnhandled: { redeliverMs, times }`: what only another process handles goes back to the source */
export function unhandledContract(harness: DriverHarness): void {
  if (harness.sendsBackUnhandled === false) {
    it('is refused by name at start', async () => {
      await expect(startApp(harness, { controllers: [Older], transport: sendBack(1) })).rejects.toThrow(
        /transports\.main\.onUnhandled: expected 'dead-letter' or 'skip'.*given an object/,
      );
    });
    return;
  }

  const start = (controllers: readonly Type[], times: number, source = uniqueName()): Promise<RunningApp> =>
    startApp(harness, { controllers, source, transport: sendBack(times) });

  /** Resolves when the application has sent back that many messages. */
  const sentBack = (app: RunningApp, count: number): Promise<unknown> =>
    expect.poll(() => countsOf(app)['unhandled-redelivered'] ?? 0).toBeGreaterThanOrEqual(count);

  it('loses nothing and dead-letters nothing while two versions share the source', async () => {
    const { refunded, Newer } = newNewer();
    const older = await start([Older], 50);
    const newer = await start([Newer], 50, older.source);
    for (let n = 0; n < 100; n++) await newer.client.publish('refunded', { n }, { key: `k${n}` });
    const all = await refunded.count(100);
    await newer.settled();
    expect(all.map(({ data }) => (data as { n: number }).n).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 100 }, (_, n) => n),
    );
    expect(new Set(all.map(({ context }) => context.attempt))).toEqual(new Set([1]));
    expect(countsOf(older)['unhandled-redelivered']).toBeGreaterThan(0);
    expect([countsOf(older).redelivered, countsOf(newer)['unhandled-redelivered']]).toEqual([
      undefined,
      undefined,
    ]);
    expect(await harness.deadLetters(older.source)).toEqual([]);
  });

  it('sends a message back exactly that often, never early, and then dead-letters it', async () => {
    const app = await start([Older], 3);
    const before = Date.now();
    await app.client.publish('refunded', { id: 1 }, { headers: { tenant: 'blue' } });
    const [deadLetter] = await app.deadLetters(1);
    await app.settled();
    expect(Date.now() - before).toBeGreaterThanOrEqual(3 * redeliverMs);
    expect(countsOf(app)).toEqual({ received: 4, 'unhandled-redelivered': 3, 'dead-lettered': 1 });
    expect(deathReason(deadLetter!)).toBe('no-handler');
    expect(headerText(deadLetter, 'stork-error-message')).toBe(
      'no handler for pattern "refunded"; the message was sent back 3 times for one',
    );
    expect(headerText(deadLetter, 'stork-attempt')).toBe('1');
    expect(headerText(deadLetter, 'stork-origin')).toBe(app.source);
    expect(headerText(deadLetter, 'stork-unhandled-count')).toBeUndefined();
    expect(headerText(deadLetter, 'tenant')).toBe('blue');
    expect(String(deadLetter!.body)).toBe('{"id":1}');
  });

  it('counts anew after a replay', async () => {
    const app = await start([Older], 2);
    await app.client.publish('refunded', {});
    await app.deadLetters(1);
    await app.settled();
    await app.app.get(DeadLetterService).replay({ dryRun: false });
    await expect.poll(() => countsOf(app)['dead-lettered']).toBe(2);
    expect(countsOf(app)['unhandled-redelivered']).toBe(4);
  });

  it('keeps the message as its sender wrote it', async () => {
    const { refunded, Newer } = newNewer();
    const older = await start([Older], 1_000);
    await harness.publishRaw(older.source, {
      pattern: 'refunded',
      body: Buffer.from('{ "spaced" :  1 }'),
      contentType: 'application/json',
      messageId: 'm-1',
      key: 'k-1',
      headers: { tenant: 'blue' },
    });
    await sentBack(older, 2);
    await start([Newer], 1_000, older.source);
    const [{ data, context }] = (await refunded.count(1)) as [(typeof refunded.all)[number]];
    expect(data).toEqual({ spaced: 1 });
    expect([context.messageId, context.key, context.pattern, context.attempt]).toEqual([
      'm-1',
      'k-1',
      'refunded',
      1,
    ]);
    expect(readText(context.headers, 'tenant')).toBe('blue');
    expect(Number(readText(context.headers, 'stork-unhandled-count'))).toBeGreaterThanOrEqual(2);
  });

  it('leaves every attempt to the handler that takes it, and counts anew after each', async () => {
    const attempts = new Seen<readonly [number, string | undefined]>();
    @Controller()
    class Failing extends Older {
      @Retry({ maxRetries: 0, redeliverDelaysMs: [100] })
      @EventPattern<string>('refunded')
      refunded(@Ctx() { attempt, headers }: StorkContext): never {
        attempts.add([attempt, readText(headers, 'stork-unhandled-count')]);
        throw new Error('never');
      }
    }
    const older = await start([Older], 1_000);
    await older.client.publish('refunded', {});
    await sentBack(older, 1);
    await older.close();
    const newer = await start([Failing], 1_000, older.source);
    const [deadLetter] = await newer.deadLetters(1);
    expect(attempts.all).toEqual([
      [1, expect.stringMatching(/^\d+$/)],
      [2, undefined],
    ]);
    expect(deathReason(deadLetter!)).toBe('retries-exhausted');
    expect(headerText(deadLetter, 'stork-unhandled-count')).toBeUndefined();
  });

  it('has a request answered by the version that can', async () => {
    const { Newer } = newNewer();
    const older = await start([Older], 50);
    const newer = await start([Newer], 50, older.source);
    const doubled = await Promise.all(
      Array.from({ length: 20 }, (_, n) => newer.client.request('double', n, { key: `k${n}` })),
    );
    expect(doubled).toEqual(Array.from({ length: 20 }, (_, n) => n * 2));
    await newer.settled();
    expect(await harness.deadLetters(older.source)).toEqual([]);
  });

  it('answers a request when its times are used up, or before its caller times out', async () => {
    const few = await start([Older], 2);
    // Longer than a caller waits.
    const onUnhandled = { redeliverMs: 60_000, times: 1_000 };
    const many = await startApp(harness, { controllers: [Older], transport: { onUnhandled } });
    await expect(few.client.request('double', 1)).rejects.toMatchObject({
      code: 'NO_HANDLER',
      message: expect.stringContaining('sent back 2 times') as string,
    });
    await expect(many.client.request('created', 1)).rejects.toMatchObject({ code: 'NO_HANDLER' });
    expect(countsOf(few)['unhandled-redelivered']).toBe(2);
    expect(countsOf(many)['unhandled-redelivered']).toBeUndefined();
    for (const app of [few, many]) {
      expect((await app.deadLetters(1)).map(deathReason)).toEqual(['no-handler']);
      await app.settled();
    }
  });

  it('sends back a redelivery whose handler is gone, for a process that still has it', async () => {
    const attempts = new Seen<number>();
    @Controller()
    class Both {
      @EventPattern<string>('created')
      one(): void {}
      @EventPattern<string>('created')
      two(): void {}
    }
    @Controller()
    class Still {
      @Consume({ id: 'Both.gone' })
      @EventPattern<string>('created')
      gone(@Ctx() { attempt }: StorkContext): void {
        attempts.add(attempt);
      }
    }
    const both = await start([Both], 4);
    const headers = { 'stork-handler': 'Both.gone', 'stork-attempt': '2' };
    await harness.publishRaw(both.source, { body: Buffer.from('{}'), pattern: 'created', headers });
    const [deadLetter] = await both.deadLetters(1);
    expect(countsOf(both)).toEqual({ received: 5, 'unhandled-redelivered': 4, 'dead-lettered': 1 });
    expect(headerText(deadLetter, 'stork-handler')).toBe('Both.gone');
    expect(headerText(deadLetter, 'stork-attempt')).toBe('2');
    expect(headerText(deadLetter, 'stork-error-message')).toContain(
      'the id "Both.gone"; the message was sent',
    );
    await both.close();

    const other = await start([Both], 1_000);
    await harness.publishRaw(other.source, { body: Buffer.from('{}'), pattern: 'created', headers });
    await sentBack(other, 1);
    await other.close();
    await start([Still], 1_000, other.source);
    expect(await attempts.count(1)).toEqual([2]);
  });

  it.each<DeliveryMode>(['at-most-once', 'manual'])('holds under %s too', async (delivery) => {
    const handled = new Seen<unknown>();
    @Controller()
    class OlderSo {
      @Consume({ delivery })
      @EventPattern<string>('created')
      created(): void {}
    }
    @Controller()
    class NewerSo extends OlderSo {
      @Consume({ delivery })
      @EventPattern<string>('refunded')
      refunded(@Payload() data: unknown, @Ctx() ctx: StorkContext): void {
        handled.add(data);
        ctx.ack();
      }
    }
    const older = await start([OlderSo], 50);
    await older.client.publish('refunded', 'first');
    await sentBack(older, 2);
    const newer = await start([NewerSo], 50, older.source);
    for (let n = 0; n < 10; n++) await newer.client.publish('refunded', n, { key: `k${n}` });
    await handled.count(11);
    await newer.settled();
    expect(new Set(handled.all)).toEqual(new Set(['first', ...Array.from({ length: 10 }, (_, n) => n)]));
    expect(handled.all).toHaveLength(11);
    expect(await harness.deadLetters(older.source)).toEqual([]);

    const alone = await start([OlderSo], 1);
    await alone.client.publish('refunded', {});
    expect((await alone.deadLetters(1)).map(deathReason)).toEqual(['no-handler']);
    await alone.settled();
    expect(countsOf(alone)['unhandled-redelivered']).toBe(1);
  });

  it('does not need the codec and the size limit of the version that has the handler', async () => {
    const { refunded, Newer } = newNewer();
    const codec: MessageCodec = {
      contentType: 'application/x-reversed',
      encode: (data) => Buffer.from([...JSON.stringify(data)].toReversed().join('')),
      decode: (body) => JSON.parse([...String(body)].toReversed().join('')) as unknown,
    };
    const source = uniqueName();
    const transport = sendBack(1_000, { maxBodyBytes: 10 });
    const older = await startApp(harness, { controllers: [Older], source, transport });
    const body = codec.encode({ text: 'longer than ten' }, {} as never) as Buffer;
    await harness.publishRaw(source, { pattern: 'refunded', body, contentType: codec.contentType });
    await sentBack(older, 2);
    const newerTransport = sendBack(1_000, { codecs: [codec] });
    await startApp(harness, { controllers: [Newer], source, transport: newerTransport });
    expect((await refunded.count(1)).map(({ data }) => data)).toEqual([{ text: 'longer than ten' }]);
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it.each([
    ['999999999', 0],
    ['2', 1],
    ['1000000000', 3],
    ['-1', 3],
    ['NaN', 3],
  ])('takes a forged count for what it can mean: %s', async (count, returns) => {
    const app = await start([Older], 3);
    const headers = { 'stork-unhandled-count': count };
    await harness.publishRaw(app.source, { pattern: 'refunded', body: Buffer.from('{}'), headers });
    expect((await app.deadLetters(1)).map(deathReason)).toEqual(['no-handler']);
    await app.settled();
    expect(countsOf(app)['unhandled-redelivered'] ?? 0).toBe(returns);
  });

  if (harness.capabilities.messageOptions.has('expiresInMs')) {
    it('does not send a message back beyond its expiry', async () => {
      // The broker drops what it cannot deliver within its expiry, on a busy machine too.
      const onUnhandled = { redeliverMs: 6_000, times: 50 };
      const app = await startApp(harness, { controllers: [Older], transport: { onUnhandled } });
      await app.client.publish('refunded', {}, { expiresInMs: 12_000 });
      const [deadLetter] = await app.deadLetters(1);
      expect(headerText(deadLetter, 'stork-error-message')).toContain('sent back 1 times');
      expect(headerText(deadLetter, 'stork-origin-expiration')).toBe('12000');
    });
  }
}
