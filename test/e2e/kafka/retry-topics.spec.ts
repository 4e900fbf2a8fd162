import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { ConfigResourceTypes, type IHeaders } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import { Consume, type StorkModuleOptions } from 'nestjs-stork';
import type { KafkaContext, KafkaOptions } from 'nestjs-stork/kafka';
import {
  brokers,
  eventually,
  handlerOf,
  later,
  lines,
  linesAbout,
  range,
  Seen,
  startKafkaApp,
  uniqueName,
  useRaw,
  type Handle,
} from './support.js';

interface SeenAttempt {
  readonly body: unknown;
  readonly attempt: number;
  readonly at: number;
  readonly id: string | undefined;
}

const attemptOf = (body: unknown, { attempt, messageId }: KafkaContext): SeenAttempt => ({
  body,
  attempt,
  at: Date.now(),
  id: messageId,
});

const textOf = (headers: IHeaders, name: string): string | undefined => headers[name]?.toString();

/**
 * Tolerance for a busy machine. The guaranteed lateness is measured over many messages, in `retry-delays.ts`.
 */
const latenessMs = 4_000;
/** Longer than `latenessMs`: a delay that restarted after this time would end too late. */
const goneMs = 5_000;

/** @param since when a consumer was ready to handle it */
function expectInTime(at: number, dueAt: number, since = dueAt): void {
  expect(at).toBeGreaterThanOrEqual(dueAt);
  expect(at).toBeLessThan(Math.max(dueAt, since) + latenessMs);
}

describe.skipIf(brokers === undefined)('Kafka: retry topics', () => {
  const raw = useRaw();

  const waitingIn = (topic: string, count: number) =>
    eventually(async () => {
      const records = await raw().reader.records(topic);
      return records.length >= count ? records : undefined;
    }, `${count} records in ${topic}`);

  const dueTimes = async (topic: string, count: number): Promise<ReadonlyMap<string, number>> => {
    const records = await waitingIn(topic, count);
    return new Map(
      records.map(({ value, headers }) => [value!.toString(), Date.parse(textOf(headers, 'stork-due-at')!)]),
    );
  };

  /** Delays of the one handler of `topic`. */
  const start = (
    topic: string,
    group: string,
    handle: Handle,
    delays: readonly number[],
    options: Partial<KafkaOptions> = {},
    retry: StorkModuleOptions['retry'] = {},
  ) =>
    startKafkaApp({
      group,
      handlers: { [topic]: handle },
      options: { fromBeginning: true, ...options },
      module: { retry: { maxRetries: 0, redeliverDelaysMs: delays, ...retry } },
    });

  /** Records each attempt; the first of a message fails. */
  const failingOnce =
    (attempts: Seen<SeenAttempt>): Handle =>
    (body, context) => {
      attempts.add(attemptOf(body, context));
      if (context.attempt === 1) throw new Error('no');
    };

  it('are created before anything is read, with the required retention and size limit', async () => {
    const [topic, group] = [await raw().topic(3), uniqueName()];
    const longDelay = 10 * 24 * 60 * 60 * 1_000;
    await start(topic, group, () => {}, [1_000, longDelay]);
    const names = [0, 1_000, longDelay].map((delay) => `${topic}.retry.${group}.${delay}`);
    const { topics } = await raw().admin.fetchTopicMetadata({ topics: names });
    expect(topics.map(({ partitions }) => partitions.length)).toEqual([3, 3, 3]);
    const { resources } = await raw().admin.describeConfigs({
      includeSynonyms: false,
      resources: [topic, ...names].map((name) => ({ type: ConfigResourceTypes.TOPIC, name })),
    });
    const configs = resources.map(({ configEntries }) =>
      Object.fromEntries(configEntries.map(({ configName, configValue }) => [configName, configValue])),
    );
    const [source, ...retries] = configs;
    const room = Number(source!['max.message.bytes']) + 64 * 1_024;
    const week = 7 * 24 * 60 * 60 * 1_000;
    expect(
      retries.map((config) => [
        config['cleanup.policy'],
        config['retention.ms'],
        config['max.message.bytes'],
      ]),
    ).toEqual([
      ['delete', String(week), String(room)],
      ['delete', String(week), String(room)],
      ['delete', String(2 * longDelay), String(room)],
    ]);
  });

  it('that exist with a shorter retention are logged, with the command that changes them', async () => {
    const [topic, group] = [await raw().topic(), uniqueName()];
    const short = { name: 'retention.ms', value: '1000' };
    const name = await raw().topic(1, `${topic}.retry.${group}.1000`, [short]);
    await start(topic, group, () => {}, [1_000]);
    const [warning] = lines.filter(({ level, line }) => level === 'warn' && line.includes(name));
    expect(warning?.line).toContain(
      `kafka-configs.sh --bootstrap-server ${brokers![0]} --alter --topic ${name}`,
    );
    expect(warning?.line).toContain('retention.ms=604800000');
  });

  it('a restart resets neither the due time nor the attempt number', async () => {
    const [topic, group] = [await raw().topic(2), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    const handle: Handle = (body, context) => {
      attempts.add(attemptOf(body, context));
      throw new Error('no');
    };
    const first = await start(topic, group, handle, [8_000, 100]);
    await raw().send(topic, ['a']);
    const due = await dueTimes(`${topic}.retry.${group}.8000`, 1);
    await later(goneMs);
    // The record is in the memory of the application that is closed now.
    await first.close();
    await start(topic, group, handle, [8_000, 100]);
    const startedAt = Date.now();
    await attempts.count(3);
    expect(attempts.all.map(({ attempt, id }) => [attempt, id])).toEqual(
      [1, 2, 3].map((attempt) => [attempt, attempts.all[0]!.id]),
    );
    expectInTime(attempts.all[1]!.at, due.get('"a"')!, startedAt);
    const [deadLetter] = await waitingIn(`${topic}.dlq`, 1);
    expect(textOf(deadLetter!.headers, 'stork-attempt')).toBe('3');
    expect(textOf(deadLetter!.headers, 'stork-origin')).toBe(topic);
    const place = ['partition', 'offset'].map((name) => textOf(deadLetter!.headers, `stork-origin-${name}`));
    expect(attempts.all[0]!.id).toBe(`${topic}/${place.join('/')}`);
    const derivedTopics = (await raw().admin.listTopics()).filter((name) => name.startsWith(`${topic}.`));
    expect(derivedTopics.filter((name) => name.endsWith('.dlq'))).toEqual([`${topic}.dlq`]);
    expect(await raw().reader.records(`${topic}.retry.${group}.8000`)).toHaveLength(1);
  });

  it('a rebalance changes nothing for waiting records', async () => {
    const [topic, group] = [await raw().topic(4), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    const first = await start(topic, group, failingOnce(attempts), [8_000]);
    // They wait in each partition, so some of them move to the other member.
    for (const n of range(0, 20)) await raw().send(topic, [n], { key: `k${n}`, partition: n % 4 });
    const due = await dueTimes(`${topic}.retry.${group}.8000`, 20);
    const second = await start(topic, group, failingOnce(attempts), [8_000]);
    expect(second.state().connection.value).toBe('ready');
    await later(goneMs);
    await first.close();
    const closedAt = Date.now();
    await attempts.count(40);
    await raw().settled(group, topic);
    expect(attempts.all.length).toBe(40);
    for (const { body, at } of attempts.all.filter(({ attempt }) => attempt === 2))
      expectInTime(at, due.get(String(body))!, closedAt);
  });

  it.each([
    ['another delay', [100]],
    ['none', []],
  ])('of a delay that is no longer configured are read: now %s is', async (_what, delays) => {
    const [topic, group] = [await raw().topic(), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    const first = await start(topic, group, failingOnce(attempts), [4_000]);
    await raw().send(topic, ['a']);
    const due = await dueTimes(`${topic}.retry.${group}.4000`, 1);
    await raw().settled(group, topic);
    await first.close();
    await start(topic, group, failingOnce(attempts), delays);
    const startedAt = Date.now();
    const [, second] = await attempts.count(2);
    expect(second!.attempt).toBe(2);
    expectInTime(second!.at, due.get('"a"')!, startedAt);
    await raw().settled(group, `${topic}.retry.${group}.4000`);
  });

  it('that another version of the application creates meanwhile are found', async () => {
    const [topic, group] = [await raw().topic(), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    await start(topic, group, failingOnce(attempts), [], { topicRefreshMs: 300 });
    const made = await raw().topic(1, `${topic}.retry.${group}.500`);
    await raw().send(made, ['a'], { headers: { 'stork-attempt': '2' } });
    expect((await attempts.count(1))[0]).toMatchObject({ body: 'a', attempt: 2 });
  });

  it('ctx.retry beyond the longest delay passes through its topic several times, uncounted', async () => {
    const [topic, group] = [await raw().topic(), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    const reportedDelays: number[] = [];
    const handle: Handle = (body, context) => {
      attempts.add(attemptOf(body, context));
      if (context.attempt === 1) context.retry({ delayMs: 6_000 });
    };
    await start(
      topic,
      group,
      handle,
      [100, 5_000],
      {},
      { onRetry: (_, __, delayMs) => void reportedDelays.push(delayMs) },
    );
    await raw().send(topic, ['a'], { key: 'k' });
    const [first, second] = await attempts.count(2);
    expect(reportedDelays).toEqual([10_000]);
    expect(second).toMatchObject({ attempt: 2, id: first!.id });
    expectInTime(second!.at, first!.at + 10_000);
    await raw().settled(group, `${topic}.retry.${group}.5000`);
    const rounds = await raw().reader.records(`${topic}.retry.${group}.5000`);
    expect(rounds).toHaveLength(2);
    const said = rounds.map(({ key, headers }) => [
      key?.toString(),
      textOf(headers, 'stork-due-at'),
      textOf(headers, 'stork-attempt'),
    ]);
    expect(new Set(said.map((one) => JSON.stringify(one))).size).toBe(1);
    expect(said[0]).toEqual(['k', expect.any(String), '2']);
  });

  it('an invalid due time blocks nothing', async () => {
    const [topic, group] = [await raw().topic(), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    await start(topic, group, failingOnce(attempts), [300], { clockSkewMs: 100 });
    const hostile = [
      '9999-12-31T23:59:59.999Z',
      '+275760-09-13T00:00:00.000Z',
      'soon',
      '',
      '0001-01-01T00:00:00Z',
    ];
    const future = Date.now() + 50 * 60_000;
    await raw().producer.send({
      topic: `${topic}.retry.${group}.300`,
      messages: [
        ...hostile.map((text, i) => ({
          value: String(i),
          headers: { 'stork-due-at': text, 'stork-attempt': '2' },
        })),
        { value: '5', headers: { 'stork-attempt': '2' }, timestamp: String(future) },
        { value: '6', headers: { 'stork-attempt': '2' }, timestamp: '1' },
      ],
    });
    await raw().send(topic, ['a']);
    const [first] = await eventually(() => {
      const mine = attempts.all.filter(({ body }) => body === 'a');
      return mine.length === 2 ? mine : undefined;
    }, 'the message behind them');
    expect(first!.attempt).toBe(1);
    expect(attempts.all.filter(({ body }) => body !== 'a').map(({ body }) => body)).toEqual(range(0, 7));
  });

  it.each([
    ['less', 1],
    ['more', 40],
  ])('a deleted one is created again, with %s in it, and nothing is lost', async (_what, count) => {
    const [topic, group] = [await raw().topic(), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    await start(topic, group, failingOnce(attempts), [500]);
    await raw().send(topic, range(0, 5));
    await attempts.count(10);
    const deleted = `${topic}.retry.${group}.500`;
    const made = (): number => linesAbout('log', `created the topic ${deleted}`).length;
    const before = made();
    await raw().admin.deleteTopics({ topics: [deleted], timeout: 30_000 });
    // The broker may still accept records for it, and discard them.
    await eventually(
      async () => (!(await raw().admin.listTopics()).includes(deleted) || made() > before ? true : undefined),
      'the topic to be deleted, or created again',
    );
    await raw().send(topic, range(5, count));
    await eventually(() => {
      const again = attempts.all.filter(({ attempt }) => attempt === 2).map(({ body }) => body);
      return new Set(again).size === 5 + count ? true : undefined;
    }, 'the second attempt of each');
  });

  it('the one of 0 ms is handled at once, by the handler that the record names and by no other group', async () => {
    const [topic, group, other] = [await raw().topic(), uniqueName(), uniqueName()];
    const seen = new Seen<string>();
    const controllerOf = (name: string) => {
      @Controller()
      class Several {
        @EventPattern<string>(topic)
        @Consume({ id: 'one' })
        one(@Payload() body: unknown, @Ctx() { attempt }: KafkaContext): void {
          seen.add(`${name} one ${String(body)} ${attempt}`);
        }
        @EventPattern<string>(topic)
        @Consume({ id: 'two' })
        two(@Payload() body: unknown, @Ctx() { attempt }: KafkaContext): void {
          seen.add(`${name} two ${String(body)} ${attempt}`);
        }
      }
      return Several;
    };
    const options = { fromBeginning: true };
    await startKafkaApp({ group, handlers: [controllerOf('mine')], options });
    await startKafkaApp({ group: other, handlers: [controllerOf('other')], options });
    const headers = {
      'stork-handler': 'two',
      'stork-due-at': new Date(Date.now() + 3_600_000).toISOString(),
    };
    await raw().send(`${topic}.retry.${group}.0`, ['replayed'], { headers });
    expect(await seen.count(1)).toEqual(['mine two replayed 1']);
    await raw().send(`${topic}.retry.${group}.0`, ['foreign']);
    await seen.count(3);
    // Later records of the source are read after it.
    await raw().send(topic, ['plain']);
    await seen.count(7);
    await raw().settled(other, topic);
    expect([...seen.all].toSorted()).toEqual(
      [
        'mine two replayed 1',
        'mine one foreign 1',
        'mine two foreign 1',
        ...['mine', 'other'].flatMap((name) => [`${name} one plain 1`, `${name} two plain 1`]),
      ].toSorted(),
    );
  });

  it('waiting records count neither as in flight nor for maxOffsetGap', async () => {
    const [topic, group] = [await raw().topic(), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    const { state } = await start(topic, group, failingOnce(attempts), [12_000], {
      maxOffsetGap: 3,
      concurrency: 1,
    });
    await raw().send(topic, range(0, 30));
    await dueTimes(`${topic}.retry.${group}.12000`, 30);
    await raw().settled(group, topic);
    expect(state()).toMatchObject({ inFlight: 0, connection: { value: 'ready' } });
    expect(attempts.all.length).toBe(30);
    await attempts.count(60);
    await raw().settled(group, `${topic}.retry.${group}.12000`);
    expect(attempts.all.slice(30).map(({ body, attempt }) => [body, attempt])).toEqual(
      range(0, 30).map((body) => [body, 2]),
    );
  });

  it('records beyond the memory limit wait in the topic', async () => {
    const [topic, group] = [await raw().topic(2), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    const fetch = { maxBytes: 60_000, maxBytesPerPartition: 20_000 };
    await start(topic, group, failingOnce(attempts), [1_500], { fetch });
    const padding = 'x'.repeat(2_000);
    const bodies = range(0, 200).map((n) => `${n} ${padding}`);
    await raw().send(topic, bodies);
    await attempts.count(400);
    const due = await dueTimes(`${topic}.retry.${group}.1500`, 200);
    const again = attempts.all.filter(({ attempt }) => attempt === 2);
    expect(new Set(again.map(({ body }) => body)).size).toBe(200);
    expect(again).toHaveLength(200);
    for (const { body, at } of again) expect(at).toBeGreaterThanOrEqual(due.get(JSON.stringify(body))!);
  });

  it('are created for topics of a RegExp too, also for those that are created later', async () => {
    const [prefix, group] = [raw().name(), uniqueName()];
    const attempts = new Seen<SeenAttempt>();
    await startKafkaApp({
      group,
      handlers: [handlerOf(new RegExp(`^${prefix}\\.`), failingOnce(attempts))],
      options: { topicRefreshMs: 300 },
      module: { retry: { maxRetries: 0, redeliverDelaysMs: [200] } },
    });
    const topic = await raw().topic(1, `${prefix}.later`);
    await raw().send(topic, ['a']);
    const [, second] = await attempts.count(2);
    expect(second).toMatchObject({ body: 'a', attempt: 2 });
    await waitingIn(`${topic}.retry.${group}.200`, 1);
  });
});
