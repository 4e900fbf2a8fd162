import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { describe, expect, it } from 'vitest';
import {
  Consume,
  DeadLetter,
  DeadLetterService,
  StorkContext,
  type DeadLetterReplayQuery,
  type DeadLetterRecord,
} from 'nestjs-stork';
import { readText } from '../../../lib/core/message/headers.js';
import { eventually, Seen, startApp, type RunningApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** Handlers that fail until `state.isFixed`. */
function newShop() {
  const attempts = new Seen<{
    readonly handler: string;
    readonly data: unknown;
    readonly context: StorkContext;
  }>();
  const state = { isFixed: false };
  const handle = (handler: string, data: unknown, context: StorkContext): void => {
    attempts.add({ handler, data, context });
    if (!state.isFixed) throw new TypeError(`no ${handler} today`);
  };
  @Controller()
  class Shop {
    @EventPattern<string>('order')
    @Consume({ id: 'shop.order' })
    order(@Payload() data: unknown, @Ctx() context: StorkContext): void {
      handle('shop.order', data, context);
    }

    @EventPattern<string>('order')
    @Consume({ id: 'shop.count' })
    count(): void {}

    @EventPattern<string>('refund')
    @Consume({ id: 'shop.refund' })
    refund(@Payload() data: unknown, @Ctx() context: StorkContext): void {
      handle('shop.refund', data, context);
    }

    @MessagePattern<string>('quote')
    @Consume({ id: 'shop.quote' })
    @DeadLetter()
    quote(@Payload() data: unknown, @Ctx() context: StorkContext): string {
      handle('shop.quote', data, context);
      return 'a quote';
    }
  }
  return { attempts, state, Shop };
}

async function open(harness: DriverHarness) {
  const { attempts, state, Shop } = newShop();
  const running = await startApp(harness, { controllers: [Shop] });
  const deadLetterService = running.app.get(DeadLetterService);
  const { client } = running;
  /** Published one after another, for a known order, and with one key, for one partition. */
  const fail = async (count: number, pattern = 'order'): Promise<void> => {
    for (let n = 0; n < count; n++)
      await client.publish(
        pattern,
        { n },
        { key: 'one', messageId: `${pattern}-${n}`, headers: { shop: 'a' } },
      );
  };
  return { ...running, attempts, state, deadLetterService, fail };
}

const numbersOf = (deadLetters: readonly DeadLetterRecord[]): number[] =>
  deadLetters.map(({ body }) => (JSON.parse(String(body)) as { n: number }).n);

/** Without the broker's own headers, whose counters change with each listing. */
function withoutBrokerHeaders({ headers, ...deadLetter }: DeadLetterRecord): object {
  const own = Object.entries(headers).filter(([name]) => name.startsWith('stork-'));
  return { ...deadLetter, headers: Object.fromEntries(own) };
}

/** Polls until that many dead letters are listed: a broker does not notify. */
function listed(deadLetterService: DeadLetterService, count: number): Promise<readonly DeadLetterRecord[]> {
  return eventually(async () => {
    const deadLetters = await deadLetterService.list({ max: 1_000 });
    return deadLetters.length === count ? deadLetters : undefined;
  }, `${count} listed dead letters`);
}

/** dead letters: list, count, replay, discard */
export function replayContract(harness: DriverHarness): void {
  describe('listing', () => listing(harness));
  describe('replay', () => replaying(harness));
  describe('discard', () => discarding(harness));
  describe('invalid queries', () => wrongQueries(harness));
}

function listing(harness: DriverHarness): void {
  it('lists a dead letter with its metadata', async () => {
    const { deadLetterService, fail, deadLetters, source } = await open(harness);
    const before = Date.now();
    await fail(1);
    await deadLetters(1);
    const [deadLetter] = await deadLetterService.list();
    expect(deadLetter).toMatchObject({
      reason: 'retries-exhausted',
      source,
      handler: 'shop.order',
      pattern: 'order',
      messageId: 'order-0',
      key: 'one',
      attempts: 1,
      replays: 0,
      error: { name: 'TypeError', message: 'no shop.order today' },
      contentType: 'application/json',
      body: Buffer.from('{"n":0}'),
    });
    expect(deadLetter!.failedAt!.getTime()).toBeGreaterThanOrEqual(before);
    expect(deadLetter!.consumer).toContain(`/${process.pid}/main`);
    expect(deadLetter!.headers['stork-handler']).toBeDefined();
  });

  it('lists dead letters oldest first, repeatedly, and changes nothing', async () => {
    const { deadLetterService, fail, deadLetters } = await open(harness);
    await fail(20);
    await deadLetters(20);
    const first = await listed(deadLetterService, 20);
    for (let look = 0; look < 5; look++)
      expect((await listed(deadLetterService, 20)).map(withoutBrokerHeaders)).toEqual(
        first.map(withoutBrokerHeaders),
      );
    expect(numbersOf(first)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(new Set(first.map(({ id }) => id)).size).toBe(20);
    expect((await deadLetterService.list({ max: 3 })).length).toBe(3);
    expect((await deadLetters(20)).length).toBe(20);
  });

  it('lists those that match the filter', async () => {
    const { deadLetterService, fail, deadLetters, client } = await open(harness);
    await fail(2);
    await fail(1, 'refund');
    await client.publish('unknown', { n: 7 }, { key: 'one', correlationId: 'cart-7' });
    await deadLetters(4);
    const [first] = await listed(deadLetterService, 4);
    const found = async (query: DeadLetterReplayQuery): Promise<number> =>
      (await deadLetterService.list(query)).length;
    expect(await found({ ids: [first!.id] })).toBe(1);
    expect(await found({ reasons: ['no-handler'] })).toBe(1);
    expect(await found({ handlers: ['shop.refund'] })).toBe(1);
    expect(await found({ patterns: ['order', 'refund'] })).toBe(3);
    expect(await found({ messageIds: ['order-1', 'refund-0', 'order-9'] })).toBe(2);
    expect(await found({ correlationIds: ['cart-7'] })).toBe(1);
    expect(await found({ headers: { shop: 'a' } })).toBe(3);
    expect(await found({ headers: { shop: 'b' } })).toBe(0);
    expect(await found({ text: '"N":1' })).toBe(1);
    expect(await found({ text: 'no shop.REFUND' })).toBe(1);
    expect(await found({ since: new Date(Date.now() - 60_000), until: new Date(Date.now() + 60_000) })).toBe(
      4,
    );
    expect(await found({ until: first!.failedAt! })).toBe(0);
    expect(await found({ reasons: ['retries-exhausted'], handlers: ['shop.refund'], text: 'nowhere' })).toBe(
      0,
    );
  });

  it('counts dead letters', async () => {
    const { deadLetterService, fail, deadLetters } = await open(harness);
    await fail(2);
    await fail(1, 'refund');
    await deadLetters(3);
    const stats = await deadLetterService.stats();
    expect(stats).toMatchObject({
      total: 3,
      byReason: { 'retries-exhausted': 3 },
      byHandler: { 'shop.order': 2, 'shop.refund': 1 },
      byPattern: { order: 2, refund: 1 },
      byError: { TypeError: 3 },
      replayed: 0,
    });
    expect(stats.oldest!.getTime()).toBeLessThanOrEqual(stats.newest!.getTime());
  });

  it('lists foreign messages whatever their headers claim, and replays none of them', async () => {
    const { deadLetterService, fail, deadLetters, source } = await open(harness);
    await fail(1);
    await deadLetters(1);
    await harness.publishRaw(harness.deadLetterSource(source), {
      body: Buffer.from([0xff, 0xfe]),
      headers: { 'stork-attempt': '-1', 'stork-failed-at': 'tomorrow', 'stork-replay-count': 'NaN' },
    });
    const seen = await listed(deadLetterService, 2);
    const foreign = seen.find(({ reason }) => reason === 'unknown');
    expect(foreign).toMatchObject({ attempts: 0, replays: 0, source: undefined, handler: undefined });
    const report = await deadLetterService.replay({ dryRun: false, reasons: ['unknown'] });
    expect(report).toMatchObject({ matched: 1, done: 0, skipped: 1 });
    expect((await listed(deadLetterService, 2)).length).toBe(2);
    expect(await deadLetterService.discard({ dryRun: false, reasons: ['unknown'] })).toMatchObject({
      done: 1,
    });
    expect((await listed(deadLetterService, 1))[0]!.reason).toBe('retries-exhausted');
  });
}

async function failThenMend(harness: DriverHarness, count: number) {
  const opened = await open(harness);
  await opened.fail(count);
  await opened.deadLetters(count);
  await opened.settled();
  opened.state.isFixed = true;
  return { ...opened, attemptsBefore: opened.attempts.all.length };
}

const textOf = ({ headers }: StorkContext, name: string): string | undefined => readText(headers, name);

const replayOf = (running: Pick<RunningApp, 'app'>, query: DeadLetterReplayQuery = {}) =>
  running.app.get(DeadLetterService).replay({ dryRun: false, ...query });

function replaying(harness: DriverHarness): void {
  it('reports what it would do, and does nothing unless dryRun is false', async () => {
    const { deadLetterService, attempts, attemptsBefore, settled } = await failThenMend(harness, 3);
    expect(await deadLetterService.replay()).toMatchObject({
      dryRun: true,
      seen: 3,
      matched: 3,
      done: 3,
      skipped: 0,
      byReason: { 'retries-exhausted': 3 },
    });
    await settled();
    expect(attempts.all.length).toBe(attemptsBefore);
    expect((await deadLetterService.list()).length).toBe(3);
  });

  it('replays each once, in order, unchanged, and its attempts start at 1', async () => {
    const opened = await failThenMend(harness, 3);
    const { deadLetterService, attempts, attemptsBefore, settled, service } = opened;
    const progress: number[] = [];
    const report = await replayOf(opened, { onProgress: ({ done }) => progress.push(done) });
    expect(report).toMatchObject({ dryRun: false, seen: 3, matched: 3, done: 3, skipped: 0 });
    expect(progress.at(-1)).toBe(3);
    await attempts.count(attemptsBefore + 3);
    await settled();
    const again = attempts.all.slice(attemptsBefore);
    expect(again.map(({ data }) => data)).toEqual([{ n: 0 }, { n: 1 }, { n: 2 }]);
    const { context } = again[0]!;
    expect(context).toMatchObject({
      messageId: 'order-0',
      pattern: 'order',
      attempt: 1,
      firstFailedAt: undefined,
      key: 'one',
    });
    expect(textOf(context, 'shop')).toBe('a');
    expect(textOf(context, 'stork-replay-count')).toBe('1');
    expect(Object.keys(context.headers).filter((name) => /error|death|consumer/.test(name))).toEqual([]);
    // The other handler of the event had succeeded.
    expect(service.state()['main']!.counts).toMatchObject({ received: 6, handled: 6 });
    expect(await deadLetterService.list()).toEqual([]);
    expect(await replayOf(opened)).toMatchObject({ seen: 0, done: 0 });
  });

  it('replays to the handler that failed, and to no other handler of the event', async () => {
    const seen = new Seen<string>();
    let isFixed = false;
    @Controller()
    class Both {
      @EventPattern<string>('order')
      done(): void {
        seen.add('done');
      }
      @EventPattern<string>('order')
      failing(): void {
        seen.add('failing');
        if (!isFixed) throw new Error('no');
      }
    }
    const { app, client, deadLetters, settled } = await startApp(harness, { controllers: [Both] });
    await client.publish('order', 1);
    await deadLetters(1);
    await settled();
    isFixed = true;
    const service = app.get(DeadLetterService);
    await listed(service, 1);
    expect(await service.replay({ dryRun: false })).toMatchObject({ done: 1 });
    await seen.count(3);
    await settled();
    expect(seen.all.toSorted()).toEqual(['done', 'failing', 'failing']);
  });

  it('replays at most max matching dead letters, oldest first; others keep their order', async () => {
    const opened = await failThenMend(harness, 6);
    const { deadLetterService, attempts, attemptsBefore, settled } = opened;
    expect(await replayOf(opened, { max: 2, text: '"n"' })).toMatchObject({ done: 2 });
    await attempts.count(attemptsBefore + 2);
    expect(await replayOf(opened, { text: '"n":4' })).toMatchObject({ done: 1 });
    await attempts.count(attemptsBefore + 3);
    await settled();
    expect(attempts.all.slice(attemptsBefore).map(({ data }) => data)).toEqual([
      { n: 0 },
      { n: 1 },
      { n: 4 },
    ]);
    expect(numbersOf(await listed(deadLetterService, 3))).toEqual([2, 3, 5]);
  });

  it('skips a dead letter that was replayed maxReplays times', async () => {
    const opened = await failThenMend(harness, 1);
    const { deadLetterService, state, attempts, settled } = opened;
    state.isFixed = false;
    for (const replays of [1, 2]) {
      expect(await replayOf(opened, { maxReplays: 2 })).toMatchObject({ done: 1 });
      await attempts.count(1 + replays);
      await settled();
      expect((await listed(deadLetterService, 1))[0]).toMatchObject({
        replays,
        attempts: 1,
        handler: 'shop.order',
      });
    }
    const report = await replayOf(opened, { maxReplays: 2 });
    expect(report).toMatchObject({ matched: 1, done: 0, skipped: 1 });
    expect(report.skippedDeadLetters[0]!.why).toContain('maxReplays allows 2');
    expect((await deadLetterService.stats()).replayed).toBe(1);
  });

  it('replays a request to its handler, whose caller no longer waits for a reply', async () => {
    const opened = await open(harness);
    const { client, attempts, state, settled, deadLetterService, deadLetters } = opened;
    await expect(client.request('quote', 1)).rejects.toThrow('no shop.quote today');
    await deadLetters(1);
    state.isFixed = true;
    expect(await replayOf(opened)).toMatchObject({ done: 1 });
    expect((await attempts.count(2))[1]).toMatchObject({ handler: 'shop.quote', data: 1 });
    await settled();
    expect(await deadLetterService.list()).toEqual([]);
  });

  it('replays an undecodable message, which is dead-lettered again with its replay counted', async () => {
    const opened = await open(harness);
    const { source, deadLetterService, deadLetters } = opened;
    await harness.publishRaw(source, {
      body: Buffer.from('{'),
      pattern: 'order',
      contentType: 'application/json',
      messageId: 'broken',
    });
    await deadLetters(1);
    expect(await replayOf(opened)).toMatchObject({ done: 1, byReason: { undecodable: 1 } });
    const isBack = (deadLetter: DeadLetterRecord | undefined): boolean => deadLetter?.replays === 1;
    const deadLetter = await eventually(async () => {
      const [first] = await deadLetterService.list();
      return isBack(first) ? first : undefined;
    }, 'the letter to come again');
    expect(deadLetter).toMatchObject({ reason: 'undecodable', messageId: 'broken', body: Buffer.from('{') });
  });

  it('lists what failed in a consumer of dead letters, and replays it to that consumer', async () => {
    const { fail, source } = await open(harness);
    const read = new Seen<number>();
    let isLegible = false;
    @Controller()
    class Letters {
      @EventPattern<string>('order')
      read(@Payload() { n }: { readonly n: number }): void {
        read.add(n);
        if (!isLegible) throw new Error('illegible');
      }
    }
    const reader = await startApp(harness, {
      controllers: [Letters],
      source: harness.deadLetterSource(source),
    });
    await fail(1);
    await reader.deadLetters(1);
    isLegible = true;
    const deadLetterService = reader.app.get(DeadLetterService);
    expect(await listed(deadLetterService, 1)).toMatchObject([
      { handler: 'Letters.read', error: { message: 'illegible' } },
    ]);
    expect(await replayOf(reader)).toMatchObject({ done: 1 });
    expect(await read.count(2)).toEqual([0, 0]);
    await reader.settled();
    expect(await deadLetterService.list()).toEqual([]);
  });

  it('stops when signal aborts, and what was replayed stays replayed', async () => {
    const opened = await failThenMend(harness, 5);
    const { deadLetterService, attempts, attemptsBefore, settled } = opened;
    const cancellation = new AbortController();
    const replay = replayOf(opened, {
      window: 1,
      signal: cancellation.signal,
      onProgress: ({ done }) => {
        if (done === 2) cancellation.abort(new Error('enough'));
      },
    });
    await replay.then(
      ({ done }) => expect(done).toBe(2),
      (error: unknown) => expect(String(error)).toContain('enough'),
    );
    await attempts.count(attemptsBefore + 2);
    await settled();
    expect(attempts.all.length).toBe(attemptsBefore + 2);
    expect(numbersOf(await listed(deadLetterService, 3))).toEqual([2, 3, 4]);
  });

  it('respects rate', async () => {
    const opened = await failThenMend(harness, 3);
    const began = Date.now();
    await replayOf(opened, { rate: 10 });
    expect(Date.now() - began).toBeGreaterThanOrEqual(195);
  });
}

function discarding(harness: DriverHarness): void {
  it('discards those that match the filter, unless it is a dry run', async () => {
    const { deadLetterService, attempts, attemptsBefore } = await failThenMend(harness, 3);
    expect(await deadLetterService.discard({ text: '"n":1' })).toMatchObject({ dryRun: true, done: 1 });
    expect((await deadLetterService.list()).length).toBe(3);
    expect(await deadLetterService.discard({ text: '"n":1', dryRun: false })).toMatchObject({
      matched: 1,
      done: 1,
    });
    expect(numbersOf(await listed(deadLetterService, 2))).toEqual([0, 2]);
    expect(await deadLetterService.discard({ dryRun: false })).toMatchObject({ done: 2 });
    expect(await deadLetterService.list()).toEqual([]);
    expect(attempts.all.length).toBe(attemptsBefore);
  });
}

function wrongQueries(harness: DriverHarness): void {
  it.each<[string, DeadLetterReplayQuery, string]>([
    ['an unknown transport', { transport: 'other' }, 'one of the transports main'],
    ['a filter that is no filter', { reason: 'fatal' } as DeadLetterReplayQuery, 'query.reason'],
    ['a number that is none', { max: 0 }, 'an integer from 1 up'],
    ['a date that is none', { since: new Date(NaN) }, 'a valid Date'],
    ['a place that does not exist', { from: 'no.such.place' }, 'no.such.place'],
  ])('refuses %s, and names it', async (_, query, named) => {
    const { deadLetterService } = await open(harness);
    await expect(deadLetterService.list(query)).rejects.toThrow(named);
    await expect(deadLetterService.replay({ ...query, dryRun: false })).rejects.toMatchObject({
      code: 'CONFIG',
    });
  });
}
