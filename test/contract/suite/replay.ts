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

/** Handlers that fail until they are mended. */
function newShop() {
  const runs = new Seen<{
    readonly handler: string;
    readonly data: unknown;
    readonly context: StorkContext;
  }>();
  const state = { isMended: false };
  const handle = (handler: string, data: unknown, context: StorkContext): void => {
    runs.add({ handler, data, context });
    if (!state.isMended) throw new TypeError(`no ${handler} today`);
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
  return { runs, state, Shop };
}

async function open(harness: DriverHarness) {
  const { runs, state, Shop } = newShop();
  const running = await startApp(harness, { controllers: [Shop] });
  const desk = running.app.get(DeadLetterService);
  const { client } = running;
  /** One after the other, so that their order is known; one key, so that they are in one partition. */
  const fail = async (count: number, pattern = 'order'): Promise<void> => {
    for (let n = 0; n < count; n++)
      await client.publish(
        pattern,
        { n },
        { key: 'one', messageId: `${pattern}-${n}`, headers: { shop: 'a' } },
      );
  };
  return { ...running, runs, state, desk, fail };
}

const numbersOf = (deadLetters: readonly DeadLetterRecord[]): number[] =>
  deadLetters.map(({ body }) => (JSON.parse(String(body)) as { n: number }).n);

/** All but what a broker counts in headers of its own. */
function saying({ headers, ...deadLetter }: DeadLetterRecord): object {
  const own = Object.entries(headers).filter(([name]) => name.startsWith('stork-'));
  return { ...deadLetter, headers: Object.fromEntries(own) };
}

/** As many as that are listed; what a broker holds can only be looked at. */
function listed(desk: DeadLetterService, count: number): Promise<readonly DeadLetterRecord[]> {
  return eventually(async () => {
    const deadLetters = await desk.list({ max: 1_000 });
    return deadLetters.length === count ? deadLetters : undefined;
  }, `${count} listed letters`);
}

/** dead letters: looked at, counted, sent back, thrown away */
export function replayContract(harness: DriverHarness): void {
  describe('looking', () => looking(harness));
  describe('sending back', () => sendingBack(harness));
  describe('throwing away', () => throwingAway(harness));
  describe('what is asked for wrongly', () => wrongQueries(harness));
}

function looking(harness: DriverHarness): void {
  it('tells of a letter what is known of it', async () => {
    const { desk, fail, deadLetters, source } = await open(harness);
    const before = Date.now();
    await fail(1);
    await deadLetters(1);
    const [deadLetter] = await desk.list();
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

  it('shows them oldest first, as often as it is asked, and changes nothing', async () => {
    const { desk, fail, deadLetters } = await open(harness);
    await fail(20);
    await deadLetters(20);
    const first = await listed(desk, 20);
    for (let look = 0; look < 5; look++)
      expect((await listed(desk, 20)).map(saying)).toEqual(first.map(saying));
    expect(numbersOf(first)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(new Set(first.map(({ id }) => id)).size).toBe(20);
    expect((await desk.list({ max: 3 })).length).toBe(3);
    expect((await deadLetters(20)).length).toBe(20);
  });

  it('finds those that are meant', async () => {
    const { desk, fail, deadLetters, client } = await open(harness);
    await fail(2);
    await fail(1, 'refund');
    await client.publish('unknown', { n: 7 }, { key: 'one' });
    await deadLetters(4);
    const [first] = await listed(desk, 4);
    const found = async (query: DeadLetterReplayQuery): Promise<number> => (await desk.list(query)).length;
    expect(await found({ ids: [first!.id] })).toBe(1);
    expect(await found({ reasons: ['no-handler'] })).toBe(1);
    expect(await found({ handlers: ['shop.refund'] })).toBe(1);
    expect(await found({ patterns: ['order', 'refund'] })).toBe(3);
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

  it('counts them', async () => {
    const { desk, fail, deadLetters } = await open(harness);
    await fail(2);
    await fail(1, 'refund');
    await deadLetters(3);
    const stats = await desk.stats();
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

  it('shows what nobody has signed, whatever it claims, and sends none of it back', async () => {
    const { desk, fail, deadLetters, source } = await open(harness);
    await fail(1);
    await deadLetters(1);
    await harness.publishRaw(harness.deadLetterSource(source), {
      body: Buffer.from([0xff, 0xfe]),
      headers: { 'stork-attempt': '-1', 'stork-failed-at': 'tomorrow', 'stork-replay-count': 'NaN' },
    });
    const seen = await listed(desk, 2);
    const foreign = seen.find(({ reason }) => reason === 'unknown');
    expect(foreign).toMatchObject({ attempts: 0, replays: 0, source: undefined, handler: undefined });
    const report = await desk.replay({ dryRun: false, reasons: ['unknown'] });
    expect(report).toMatchObject({ matched: 1, done: 0, skipped: 1 });
    expect((await listed(desk, 2)).length).toBe(2);
    expect(await desk.discard({ dryRun: false, reasons: ['unknown'] })).toMatchObject({ done: 1 });
    expect((await listed(desk, 1))[0]!.reason).toBe('retries-exhausted');
  });
}

async function failThenMend(harness: DriverHarness, count: number) {
  const opened = await open(harness);
  await opened.fail(count);
  await opened.deadLetters(count);
  await opened.settled();
  opened.state.isMended = true;
  return { ...opened, runsBefore: opened.runs.all.length };
}

const textOf = ({ headers }: StorkContext, name: string): string | undefined => readText(headers, name);

const replayOf = (running: Pick<RunningApp, 'app'>, query: DeadLetterReplayQuery = {}) =>
  running.app.get(DeadLetterService).replay({ dryRun: false, ...query });

function sendingBack(harness: DriverHarness): void {
  it('says what it would do, and does nothing unless told to', async () => {
    const { desk, runs, runsBefore, settled } = await failThenMend(harness, 3);
    expect(await desk.replay()).toMatchObject({
      dryRun: true,
      seen: 3,
      matched: 3,
      done: 3,
      skipped: 0,
      byReason: { 'retries-exhausted': 3 },
    });
    await settled();
    expect(runs.all.length).toBe(runsBefore);
    expect((await desk.list()).length).toBe(3);
  });

  it('sends each back once, in order, as it was, and its runs begin anew', async () => {
    const opened = await failThenMend(harness, 3);
    const { desk, runs, runsBefore, settled, service } = opened;
    const progress: number[] = [];
    const report = await replayOf(opened, { onProgress: ({ done }) => progress.push(done) });
    expect(report).toMatchObject({ dryRun: false, seen: 3, matched: 3, done: 3, skipped: 0 });
    expect(progress.at(-1)).toBe(3);
    await runs.count(runsBefore + 3);
    await settled();
    const again = runs.all.slice(runsBefore);
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
    // Its other handler had succeeded.
    expect(service.state()['main']!.counts).toMatchObject({ received: 6, handled: 6 });
    expect(await desk.list()).toEqual([]);
    expect(await replayOf(opened)).toMatchObject({ seen: 0, done: 0 });
  });

  it('sends back as many as it is told to, those that are meant, the oldest first; others stay in their order', async () => {
    const opened = await failThenMend(harness, 6);
    const { desk, runs, runsBefore, settled } = opened;
    expect(await replayOf(opened, { max: 2, text: '"n"' })).toMatchObject({ done: 2 });
    await runs.count(runsBefore + 2);
    expect(await replayOf(opened, { text: '"n":4' })).toMatchObject({ done: 1 });
    await runs.count(runsBefore + 3);
    await settled();
    expect(runs.all.slice(runsBefore).map(({ data }) => data)).toEqual([{ n: 0 }, { n: 1 }, { n: 4 }]);
    expect(numbersOf(await listed(desk, 3))).toEqual([2, 3, 5]);
  });

  it('lets a letter stay that was sent back often enough', async () => {
    const opened = await failThenMend(harness, 1);
    const { desk, state, runs, settled } = opened;
    state.isMended = false;
    for (const replays of [1, 2]) {
      expect(await replayOf(opened, { maxReplays: 2 })).toMatchObject({ done: 1 });
      await runs.count(1 + replays);
      await settled();
      expect((await listed(desk, 1))[0]).toMatchObject({ replays, attempts: 1, handler: 'shop.order' });
    }
    const report = await replayOf(opened, { maxReplays: 2 });
    expect(report).toMatchObject({ matched: 1, done: 0, skipped: 1 });
    expect(report.skippedDeadLetters[0]!.why).toContain('maxReplays allows 2');
    expect((await desk.stats()).replayed).toBe(1);
  });

  it('sends a request back to its handler; nobody waits for the answer any more', async () => {
    const opened = await open(harness);
    const { client, runs, state, settled, desk, deadLetters } = opened;
    await expect(client.request('quote', 1)).rejects.toThrow('no shop.quote today');
    await deadLetters(1);
    state.isMended = true;
    expect(await replayOf(opened)).toMatchObject({ done: 1 });
    expect((await runs.count(2))[1]).toMatchObject({ handler: 'shop.quote', data: 1 });
    await settled();
    expect(await desk.list()).toEqual([]);
  });

  it('sends back what could not be read, and it comes again with its replay counted', async () => {
    const opened = await open(harness);
    const { source, desk, deadLetters } = opened;
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
      const [first] = await desk.list();
      return isBack(first) ? first : undefined;
    }, 'the letter to come again');
    expect(deadLetter).toMatchObject({ reason: 'undecodable', messageId: 'broken', body: Buffer.from('{') });
  });

  it('finds what failed where letters are read, and sends it back to there', async () => {
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
    const desk = reader.app.get(DeadLetterService);
    expect(await listed(desk, 1)).toMatchObject([
      { handler: 'Letters.read', error: { message: 'illegible' } },
    ]);
    expect(await replayOf(reader)).toMatchObject({ done: 1 });
    expect(await read.count(2)).toEqual([0, 0]);
    await reader.settled();
    expect(await desk.list()).toEqual([]);
  });

  it('leaves off when it is told to, and what was done is done', async () => {
    const opened = await failThenMend(harness, 5);
    const { desk, runs, runsBefore, settled } = opened;
    const patience = new AbortController();
    const replay = replayOf(opened, {
      window: 1,
      signal: patience.signal,
      onProgress: ({ done }) => {
        if (done === 2) patience.abort(new Error('enough'));
      },
    });
    await replay.then(
      ({ done }) => expect(done).toBe(2),
      (error: unknown) => expect(String(error)).toContain('enough'),
    );
    await runs.count(runsBefore + 2);
    await settled();
    expect(runs.all.length).toBe(runsBefore + 2);
    expect(numbersOf(await listed(desk, 3))).toEqual([2, 3, 4]);
  });

  it('keeps to a rate', async () => {
    const opened = await failThenMend(harness, 3);
    const began = Date.now();
    await replayOf(opened, { rate: 10 });
    expect(Date.now() - began).toBeGreaterThanOrEqual(195);
  });
}

function throwingAway(harness: DriverHarness): void {
  it('throws away those that are meant, once it is told to', async () => {
    const { desk, runs, runsBefore } = await failThenMend(harness, 3);
    expect(await desk.discard({ text: '"n":1' })).toMatchObject({ dryRun: true, done: 1 });
    expect((await desk.list()).length).toBe(3);
    expect(await desk.discard({ text: '"n":1', dryRun: false })).toMatchObject({ matched: 1, done: 1 });
    expect(numbersOf(await listed(desk, 2))).toEqual([0, 2]);
    expect(await desk.discard({ dryRun: false })).toMatchObject({ done: 2 });
    expect(await desk.list()).toEqual([]);
    expect(runs.all.length).toBe(runsBefore);
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
    const { desk } = await open(harness);
    await expect(desk.list(query)).rejects.toThrow(named);
    await expect(desk.replay({ ...query, dryRun: false })).rejects.toMatchObject({ code: 'CONFIG' });
  });
}
