import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { describe, expect, it } from 'vitest';
import { RabbitMqContext } from 'nestjs-stork/rabbitmq';
import { eventually, Seen } from '../../contract/app.js';
import { startRabbitApp, uniqueQueue, url, useRaw } from './support.js';
import {
  bodies,
  connectDriver,
  discard,
  fillDeadLetterQueue,
  headersOf,
  deadLetterHeaders,
  list,
  openStore,
  replay,
  takeAll,
  upTo,
} from './dead-letter-queues.js';

interface Attempt {
  readonly queue: string;
  readonly attempt: number;
  readonly replays: unknown;
}
const attempts = new Seen<Attempt>();
/** Queues whose handler fails. */
const failing = new Set<string>();

@Controller()
class Worker {
  @EventPattern<string>('job')
  job(@Payload() _: unknown, @Ctx() context: RabbitMqContext): void {
    const { queue } = context;
    attempts.add({ queue, attempt: context.attempt, replays: context.headers['stork-replay-count'] });
    if (failing.has(queue)) throw new TypeError('no way');
  }
}

describe.skipIf(url === undefined)('RabbitMQ: the dead letter store', () => {
  const raw = useRaw();

  it.each([200, 450])('lists %i dead letters in the same order 50 times, and moves none', async (count) => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), count);
    const store = await openStore({ queue });
    const ids = new Set<string>();
    for (let round = 0; round < 50; round++) {
      const deadLetters = await list(store);
      expect(bodies(deadLetters), `round ${round}`).toEqual(upTo(count));
      ids.add(deadLetters.map(({ id }) => id).join());
    }
    expect(ids.size).toBe(1);
    expect({ source: await raw().count(queue), deadLetters: await raw().count(dlq) }).toEqual({
      source: 0,
      deadLetters: count,
    });
  });

  it('moves none when few of many are listed, again and again, or replayed', async () => {
    const { queue } = await fillDeadLetterQueue(raw(), 450);
    const store = await openStore({ queue });
    for (let round = 0; round < 5; round++) {
      expect(bodies(await list(store, {}, 3)), `round ${round}`).toEqual(['0', '1', '2']);
      expect(bodies(await list(store)), `round ${round}`).toEqual(upTo(450));
    }
    expect(await replay(store, { max: 2 })).toMatchObject({ done: 2 });
    expect(bodies(await list(store))).toEqual(upTo(450).slice(2));
  });

  it('replays all to the source, where they are as they were sent', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 30);
    const store = await openStore({ queue });
    expect(await replay(store)).toMatchObject({
      done: 30,
      skipped: 0,
      byReason: { 'retries-exhausted': 30 },
    });
    const back = await takeAll(raw(), queue);
    expect(back.map(({ content }) => content.toString())).toEqual(upTo(30));
    expect(await raw().count(dlq)).toBe(0);
  });

  it('discards the dead letters that match the filter', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 30);
    const store = await openStore({ queue });
    const since = new Date(Date.UTC(2026, 0, 1) + 10_000);
    expect(await discard(store, { filter: { since } })).toMatchObject({ seen: 30, done: 20 });
    expect(bodies(await list(store))).toEqual(upTo(10));
    expect(await raw().count(dlq)).toBe(10);
  });

  it('replays only to the queue that failed, though an exchange routes to two, and attempts start at 1', async () => {
    const exchange = { name: raw().exchange(), type: 'fanout' as const };
    const [bad, good] = [raw().queue(), raw().queue()];
    const controllers = [Worker];
    const { client } = await startRabbitApp({ controllers, options: { queue: bad, exchange } });
    await startRabbitApp({ controllers, options: { queue: good, exchange } });
    failing.add(bad);
    await client.publish('job', 1);
    const of = (queue: string): readonly Attempt[] =>
      attempts.all.filter((attempt) => attempt.queue === queue);
    await expect.poll(() => raw().count(`${bad}.dlq`)).toBe(1);
    await eventually(async () => (of(good).length === 1 ? true : undefined), 'the good one');
    failing.delete(bad);
    const store = await openStore({ queue: bad });
    expect(await list(store)).toMatchObject([{ handler: 'Worker.job', attempts: 1, source: bad }]);
    expect(await replay(store)).toMatchObject({ done: 1, skipped: 0 });
    await eventually(async () => (of(bad).length === 2 ? true : undefined), 'the replay');
    expect(of(bad)[1]).toEqual({ queue: bad, attempt: 1, replays: '1' });
    await eventually(
      async () => ((await raw().count(bad)) === 0 ? true : undefined),
      'the queue to be empty',
    );
    expect(of(good)).toHaveLength(1);
    expect(await raw().count(`${bad}.dlq`)).toBe(0);
  });

  it('strips the headers of the broker and of dead-lettering, and keeps the rest', async () => {
    const { queue } = await fillDeadLetterQueue(raw(), 1, () => ({
      appId: 'shop',
      correlationId: 'c',
      replyTo: 'somewhere',
      headers: { tenant: 'blue', 'x-first-death-queue': 'old', 'stork-replay-count': '1' },
    }));
    expect(await replay(await openStore({ queue }))).toMatchObject({ done: 1 });
    const [message] = await takeAll(raw(), queue);
    expect(message!.properties).toMatchObject({
      appId: 'shop',
      correlationId: 'c',
      messageId: 'm-0',
      type: 'job',
      replyTo: undefined,
      deliveryMode: 2,
    });
    expect(headersOf(message!)).toEqual({
      tenant: 'blue',
      'stork-origin': queue,
      'stork-origin-routing-key': 'job',
      'stork-handler': 'Worker.job',
      'stork-replay-count': '2',
    });
  });

  it('skips a dead letter whose source was deleted, and reports it', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 3);
    const store = await openStore({ queue });
    await raw().channel.deleteQueue(queue);
    const report = await replay(store, { window: 2 });
    expect(report).toMatchObject({ done: 0, skipped: 3 });
    expect(report.skippedDeadLetters[0]!.why).toContain(queue);
    expect(bodies(await list(store))).toEqual(upTo(3));
    expect(await raw().count(dlq)).toBe(3);
  });

  it('skips a dead letter that its source refuses', async () => {
    const { queue } = await fillDeadLetterQueue(raw(), 3);
    await raw().channel.deleteQueue(queue);
    const full = { 'x-max-length': 1, 'x-overflow': 'reject-publish' };
    await raw().channel.assertQueue(queue, { durable: true, arguments: full });
    const store = await openStore({ queue });
    expect(await replay(store)).toMatchObject({ done: 1, skipped: 2 });
    expect(bodies(await list(store))).toEqual(['1', '2']);
  });

  it('selects only the dead letters of the given source from a queue of several sources', async () => {
    const other = raw().queue();
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 10, (n) => ({
      headers: n % 2 === 0 ? {} : deadLetterHeaders(other, n),
    }));
    const store = await openStore({ queue: 'something.else' }, { source: queue, from: dlq });
    expect(await replay(store)).toMatchObject({ seen: 5, done: 5 });
    expect((await takeAll(raw(), queue)).map(({ content }) => content.toString())).toEqual([
      '0',
      '2',
      '4',
      '6',
      '8',
    ]);
    const rest = await openStore({ queue: other }, { from: dlq });
    expect(bodies(await list(rest))).toEqual(['1', '3', '5', '7', '9']);
  });

  it('keeps the order of the remaining ones of 1 500, whichever are removed', async () => {
    const { queue } = await fillDeadLetterQueue(raw(), 1_500);
    const store = await openStore({ queue });
    const third = { reasons: ['retries-exhausted'], text: '3' };
    await discard(store, { filter: third, window: 20 });
    const rest = upTo(1_500).filter((body) => !body.includes('3'));
    for (let round = 0; round < 3; round++) expect(bodies(await list(store))).toEqual(rest);
  });

  it.each([
    { what: 'reasons', filter: { reasons: ['timeout'] }, meant: ['1'] },
    { what: 'handlers', filter: { handlers: ['Worker.other'] }, meant: ['2'] },
    { what: 'patterns', filter: { patterns: ['other'] }, meant: ['3'] },
    { what: 'since', filter: { since: new Date(Date.UTC(2026, 0, 1, 0, 0, 5)) }, meant: ['5', '6'] },
    { what: 'until', filter: { until: new Date(Date.UTC(2026, 0, 1, 0, 0, 1)) }, meant: ['0'] },
    { what: 'headers', filter: { headers: { tenant: '7' } }, meant: ['4'] },
    { what: 'text of the error', filter: { text: 'DISK' }, meant: ['5'] },
    { what: 'text of the body', filter: { text: '6' }, meant: ['6'] },
  ])('shows and discards by $what', async ({ filter, meant }) => {
    const special: Record<number, object> = {
      1: { headers: { 'stork-death-reason': 'timeout' } },
      2: { headers: { 'stork-handler': 'Worker.other' } },
      3: { type: 'other' },
      4: { headers: { tenant: 7 } },
      5: { headers: { 'stork-error-message': 'disk full' } },
    };
    const { queue } = await fillDeadLetterQueue(raw(), 7, (n) => special[n] ?? {});
    const store = await openStore({ queue });
    const deadLetters = await list(store, filter);
    expect(bodies(deadLetters)).toEqual(meant);
    const ids = deadLetters.map(({ id }) => id);
    expect(bodies(await list(store, { ids }))).toEqual(meant);
    expect(await discard(store, { filter })).toMatchObject({ seen: 7, done: meant.length });
    expect(bodies(await list(store))).toEqual(upTo(7).filter((body) => !meant.includes(body)));
  });

  it('survives dead letters with absurd headers, and replays them', async () => {
    const odd = [
      { 'stork-attempt': '-1', 'stork-replay-count': 'NaN' },
      { 'stork-attempt': 1.5, 'stork-replay-count': -3 },
      { 'stork-failed-at': 'yesterday', 'stork-first-failed-at': { a: 1 } },
      { 'stork-error-name': ['a'], 'stork-error-message': 7, 'stork-handler': true },
      { 'stork-death-reason': 'x'.repeat(2_000), 'x-death': 'rejected' },
      { 'stork-key': { deep: [1, { b: null }] }, __proto__x: 'y' },
    ];
    const { queue } = await fillDeadLetterQueue(raw(), odd.length, (n) => ({ headers: odd[n]! }));
    const store = await openStore({ queue });
    const deadLetters = await list(store);
    expect(deadLetters.map(({ attempts }) => attempts)).toEqual([0, 0, 4, 4, 4, 4]);
    expect(deadLetters.map(({ failedAt }) => failedAt?.getUTCSeconds())).toEqual([0, 1, undefined, 3, 4, 5]);
    expect(await replay(store)).toMatchObject({ done: odd.length, skipped: 0 });
    const back = await takeAll(raw(), queue);
    expect(back.map(({ properties }) => properties.headers!['stork-replay-count'])).toEqual(
      odd.map(() => '1'),
    );
  });

  it('reports the warnings that matter before a replay', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 1);
    const store = await openStore({ queue });
    expect(await store.count()).toBe(1);
    const [hidden, idle, ...more] = await store.warnings();
    expect(hidden).toContain('delivery count rises by one');
    expect(idle).toBe(`the queue "${queue}" has no consumers: replayed messages wait there`);
    expect(more).toEqual([]);
    await raw().with(async (channel) => {
      await channel.consume(queue, () => {});
      expect(await store.warnings()).toEqual([hidden]);
      await channel.consume(dlq, () => {});
      expect((await store.warnings())[1]).toContain('other consumers');
    });
    await raw().channel.deleteQueue(queue);
    expect((await store.warnings()).at(-1)).toBe(
      `there is no queue "${queue}": dead letters cannot be replayed`,
    );
  });

  it('rejects a missing queue, and a missing queue option', async () => {
    const missing = uniqueQueue();
    await expect(openStore({ queue: missing })).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining(`"${missing}.dlq"`) as string,
    });
    const driver = await connectDriver({});
    await expect(driver.deadLetters({})).rejects.toMatchObject({
      code: 'CONFIG',
      problems: [{ name: 'source' }],
    });
  });
});
