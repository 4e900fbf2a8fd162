import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { IHeaders, Message } from 'kafkajs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DeadLetterService } from 'nestjs-stork';
import type { KafkaOptions } from 'nestjs-stork/kafka';
import type {
  DeadLetterStore,
  DeadLetterOutcome,
  StoredDeadLetter,
  DeadLetterAction,
} from '../../../lib/core/port/dead-letter-store.js';
import {
  discardDeadLetters,
  listDeadLetters,
} from '../../../lib/core/dead-letter/admin/dead-letter-operations.js';
import { systemClock } from '../../../lib/core/runtime/clock.js';
import { useWorkerFile } from '../../support/worker-file.js';
import { committedNumbers } from './committed-numbers.js';
import { openStore, replayAll, warnings } from './dead-letter-stores.js';
import type { ReplayerSettings } from './dead-letter-replayer.js';
import { brokers, eventually, range, startKafkaApp, uniqueName, useRaw } from './support.js';

const forEver = new AbortController().signal;

interface PreparedDeadLetter {
  readonly n: number;
  readonly group: string;
  readonly key?: string | null;
  readonly headers?: IHeaders;
}

/** A dead letter as the library writes it. */
function deadLetterOf(
  source: string,
  { n, group, key = `key ${n % 17}`, headers }: PreparedDeadLetter,
): Message {
  return {
    key,
    value: String(n),
    headers: {
      'stork-origin': source,
      'stork-origin-partition': '0',
      'stork-origin-offset': String(n),
      'stork-group': group,
      'stork-handler': 'shop.order',
      'stork-death-reason': 'retries-exhausted',
      'stork-failed-at': new Date(1_700_000_000_000 + n).toISOString(),
      'stork-attempt': '4',
      ...headers,
    },
  };
}

describe.skipIf(brokers === undefined)('Kafka: dead letters', () => {
  const raw = useRaw();
  const replayer = useWorkerFile('test/e2e/kafka/dead-letter-replayer.ts', brokers === undefined);

  /** A source with its dead letter topic, of as many partitions. */
  async function newSource(partitions = 1): Promise<string> {
    const source = await raw().topic(partitions);
    await raw().topic(partitions, `${source}.dlq`);
    return source;
  }

  async function writeDeadLetters(source: string, deadLetters: readonly PreparedDeadLetter[]): Promise<void> {
    const messages = deadLetters.map((deadLetter) => deadLetterOf(source, deadLetter));
    for (let i = 0; i < messages.length; i += 1_000)
      await raw().producer.send({ topic: `${source}.dlq`, messages: messages.slice(i, i + 1_000) });
  }

  async function storeOf(
    group: string,
    source: string,
    options: Partial<KafkaOptions> = {},
  ): Promise<DeadLetterStore> {
    const opened = await openStore({ brokers, groupId: group, ...options }, { source });
    onTestFinished(opened.close);
    return opened.store;
  }

  const numbersIn = async (store: DeadLetterStore): Promise<number[]> => {
    const deadLetters = await listDeadLetters(store, { filter: {}, signal: forEver, max: Infinity });
    return deadLetters.map(({ body }) => Number(body)).toSorted((a, b) => a - b);
  };

  const discardAll = (store: DeadLetterStore, text?: string) =>
    discardDeadLetters(store, {
      filter: { text },
      signal: forEver,
      dryRun: false,
      max: Infinity,
      rate: Infinity,
      clock: systemClock,
      onProgress: () => {},
    });

  const retryOf = (source: string, group: string): string => `${source}.retry.${group}.0`;

  describe('browsing them', () => {
    it('lists the dead letters of a failing handler, the same each time, and commits nothing', async () => {
      const source = await raw().topic(3);
      const group = raw().name();
      const handlers = {
        [source]: () => {
          throw new TypeError('not today');
        },
      };
      const { app } = await startKafkaApp({ group, handlers, options: { fromBeginning: true } });
      await raw().send(source, range(0, 20));
      const service = app.get(DeadLetterService);
      const first = await eventually(async () => {
        const found = await service.list({ source });
        return found.length === 20 ? found : undefined;
      }, 'twenty dead letters');
      expect(await service.list({ source })).toEqual(first);
      expect(first[0]).toMatchObject({
        source,
        group,
        reason: 'retries-exhausted',
        error: { name: 'TypeError' },
      });
      expect(first.map(({ id }) => id).every((id) => /^[0-2]\/\d+$/.test(id))).toBe(true);
      const { groups } = await raw().admin.listGroups();
      expect(groups.filter(({ groupId }) => groupId.startsWith(source))).toEqual([]);
      expect(await raw().admin.listTopics()).not.toContain(`${source}.dlq.marks`);
    });

    it('ends at the end of the log: empty, with an aborted transaction, or before an open one', async () => {
      const [source, group] = [await newSource(4), raw().name()];
      const topic = `${source}.dlq`;
      const store = await storeOf(group, source);
      expect(await numbersIn(store)).toEqual([]);
      expect(await store.count()).toBe(0);
      const producer = raw().kafka.producer({
        transactionalId: uniqueName(),
        maxInFlightRequests: 1,
        idempotent: true,
      });
      await producer.connect();
      onTestFinished(() => producer.disconnect());
      const write = async (partition: number, n: number) => {
        const transaction = await producer.transaction();
        const message = { ...deadLetterOf(source, { n, group }), partition };
        await transaction.send({ topic, messages: [message] });
        return transaction;
      };
      await (await write(0, 0)).commit();
      await (await write(1, 1)).abort();
      await (await write(2, 2)).commit();
      await (await write(2, 3)).abort();
      await (await write(2, 4)).commit();
      // The broker confirms a commit before its marker is in the log, so records become visible a little
      // later.
      await expect.poll(() => numbersIn(store)).toEqual([0, 2, 4]);
      const open = await write(3, 5);
      expect(await numbersIn(store)).toEqual([0, 2, 4]);
      await open.commit();
      await expect.poll(() => numbersIn(store)).toEqual([0, 2, 4, 5]);
    });

    it('visits only dead letters that were stored before it began', async () => {
      const [source, group] = [await newSource(2), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 10).map((n) => ({ n, group })),
      );
      const store = await storeOf(group, source);
      const seen: number[] = [];
      const visit = async ({ message }: StoredDeadLetter): Promise<DeadLetterAction> => {
        if (seen.length < 5) await writeDeadLetters(source, [{ n: 100 + seen.length, group }]);
        seen.push(Number(message.body));
        return 'keep';
      };
      await store.scan({ decide: visit, settled: () => {} }, { window: 1, signal: forEver });
      expect(seen.toSorted((a, b) => a - b)).toEqual(range(0, 10));
      expect((await numbersIn(store)).length).toBe(15);
    });

    it('reads invalid headers', async () => {
      const [source, group] = [await newSource(), raw().name()];
      const hostile: IHeaders = {
        constructor: 'mine',
        toString: Buffer.from([0xff, 0x00]),
        many: ['one', 'two', 'three'],
        'stork-attempt': 'NaN',
        'stork-replay-count': '-5',
        'stork-failed-at': 'x'.repeat(10_000),
        kafka_replyTopic: `${source}.reply`,
        ...Object.fromEntries(range(0, 300).map((n) => [`header-${n}`, 'x'.repeat(100)])),
      };
      Object.defineProperty(hostile, '__proto__', { value: 'polluted', enumerable: true });
      await writeDeadLetters(source, [{ n: 0, group, key: null, headers: hostile }]);
      const store = await storeOf(group, source);
      const [deadLetter] = await listDeadLetters(store, { filter: {}, signal: forEver, max: 10 });
      expect(deadLetter).toMatchObject({ attempts: 0, replays: 0, failedAt: undefined });
      expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
      expect(await replayAll(store)).toMatchObject({ done: 1, skipped: 0 });
      expect(await numbersIn(store)).toEqual([]);
      const [copy] = await raw().reader.records(retryOf(source, group));
      expect(String(copy!.headers['header-299'])).toBe('x'.repeat(100));
      expect(copy!.headers['many']!.toString()).toBe('one,two,three');
      expect(copy!.headers['kafka_replyTopic']).toBeUndefined();
      expect(await raw().admin.listTopics()).not.toContain(`${source}.reply`);
    });

    it('names a missing source, group or topic', async () => {
      const group = raw().name();
      const nowhere = uniqueName();
      const open = (options: Partial<KafkaOptions>, place: object) =>
        openStore({ brokers, ...options }, place);
      await expect(open({ groupId: group }, {})).rejects.toThrow(
        /^source: expected the source topic of the dead letters/,
      );
      await expect(open({}, { source: nowhere })).rejects.toThrow('transports.main.groupId');
      await expect(open({ groupId: group, topic: nowhere }, {})).rejects.toMatchObject({
        code: 'CONFIG',
        message: expect.stringContaining(`there is no topic ${nowhere}.dlq`),
      });
      await expect(open({ groupId: group }, { source: 'a topic?' })).rejects.toMatchObject({
        code: 'CONFIG',
      });
    });

    it('warns where no consumer group would consume what is replayed', async () => {
      const [source, group] = [await newSource(), raw().name()];
      const idle = await storeOf(group, source, { isolation: 'read-uncommitted' });
      expect(await idle.warnings()).toEqual([
        expect.stringContaining(`"${group}" has no members`),
        expect.stringContaining('read-uncommitted'),
      ]);
      await startKafkaApp({ group, handlers: { [source]: () => {} } });
      expect(await (await storeOf(group, source)).warnings()).toEqual([]);
    });
  });

  describe('replaying them', () => {
    it('publishes them unchanged to the retry topic of their group, once', async () => {
      const [source, mine, theirs] = [await newSource(3), raw().name(), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 40).map((n) => ({ n, group: n % 2 === 0 ? mine : theirs })),
      );
      const store = await storeOf(mine, source);
      const even = range(0, 20).map((n) => 2 * n);
      expect(await numbersIn(store)).toEqual(even);
      expect(await store.count()).toBe(40);
      const before = Date.now();
      expect(await replayAll(store)).toMatchObject({ seen: 20, done: 20, skipped: 0 });
      expect(await numbersIn(store)).toEqual([]);
      expect(await store.count()).toBe(20);
      expect(await replayAll(store)).toMatchObject({ seen: 0, done: 0 });
      const copies = await raw().reader.records(retryOf(source, mine));
      expect(copies.map(({ value }) => Number(value)).toSorted((a, b) => a - b)).toEqual(even);
      const copy = copies.find(({ value }) => Number(value) === 36)!;
      expect(copy.key!.toString()).toBe('key 2');
      expect(copy.timestamp).toBeGreaterThanOrEqual(before);
      const headers = Object.fromEntries(
        Object.entries(copy.headers).map(([name, value]) => [name, String(value)]),
      );
      expect(headers).toEqual({
        'stork-origin': source,
        'stork-origin-partition': '0',
        'stork-origin-offset': '36',
        'stork-group': mine,
        'stork-handler': 'shop.order',
        'stork-replay-count': '1',
      });
      expect(await raw().admin.listTopics()).not.toContain(retryOf(source, theirs));
      expect((await numbersIn(await storeOf(theirs, source))).length).toBe(20);
    });

    it('creates its topics with the required settings', async () => {
      const [source, group] = [await newSource(3), raw().name()];
      await writeDeadLetters(source, [{ n: 0, group }]);
      await replayAll(await storeOf(group, source));
      const config = async (name: string): Promise<Record<string, string>> => {
        const { resources } = await raw().admin.describeConfigs({
          includeSynonyms: false,
          resources: [{ type: 2, name }],
        });
        return Object.fromEntries(
          resources[0]!.configEntries.map(({ configName, configValue }) => [configName, configValue]),
        );
      };
      const retry = retryOf(source, group);
      const marks = `${source}.dlq.marks`;
      expect(await config(marks)).toMatchObject({
        'cleanup.policy': 'compact,delete',
        'retention.ms': (await config(`${source}.dlq`))['retention.ms'],
      });
      const { 'max.message.bytes': largest } = await config(source);
      expect(await config(retry)).toMatchObject({
        'cleanup.policy': 'delete',
        'retention.ms': String(7 * 24 * 3_600_000),
        'max.message.bytes': String(Number(largest) + 64 * 1024),
      });
      expect((await raw().admin.fetchTopicOffsets(retry)).length).toBe(3);
    });

    it('replays a thousand in seconds', async () => {
      const [source, group] = [await newSource(6), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 1_000).map((n) => ({ n, group })),
      );
      const store = await storeOf(group, source);
      const began = performance.now();
      expect(await replayAll(store)).toMatchObject({ done: 1_000 });
      expect(performance.now() - began).toBeLessThan(50_000);
      expect(await committedNumbers(raw(), retryOf(source, group))).toEqual(range(0, 1_000));
    }, 120_000);

    it('replays each dead letter exactly once, whenever its process is killed', async () => {
      const [source, group] = [await newSource(3), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 500).map((n) => ({ n, group })),
      );
      const deaths = range(0, 5).map((i) => 1 + Math.floor((i + Math.random()) * 12));
      for (const diesAtRequest of deaths) {
        const settings: ReplayerSettings = { brokers: brokers!, group, source, diesAtRequest };
        const child = spawn(process.execPath, [replayer, JSON.stringify(settings)], {
          stdio: ['ignore', 'ignore', 'inherit'],
        });
        await once(child, 'exit');
      }
      const store = await storeOf(group, source);
      const left = (await numbersIn(store)).length;
      const { done, skipped: kept, skippedDeadLetters } = await replayAll(store);
      const details = `died at ${deaths.join(', ')}`;
      expect(done + kept, details).toBe(left);
      // The last killed process may have committed its transaction only after the dead letters were counted.
      const otherwise = skippedDeadLetters.filter(({ why }) => !why.includes('another process has replayed'));
      expect(otherwise, details).toEqual([]);
      expect(await numbersIn(store)).toEqual([]);
      expect(await committedNumbers(raw(), retryOf(source, group))).toEqual(range(0, 500));
    }, 180_000);

    it('replays none twice if several processes begin at once: the last continues, the others are rejected', async () => {
      const [source, group] = [await newSource(3), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 500).map((n) => ({ n, group })),
      );
      const stores = await Promise.all(range(0, 3).map(() => storeOf(group, source)));
      const ends = await Promise.allSettled(stores.map((store) => replayAll(store, { window: 10 })));
      const rejections = ends.filter((end) => end.status === 'rejected').map(({ reason }) => reason as Error);
      expect(rejections.length).toBeGreaterThan(0);
      for (const error of rejections) {
        expect(error).toMatchObject({
          code: 'PUBLISH_REJECTED',
          message: expect.stringContaining('another process has started to replay'),
        });
      }
      await replayAll(stores[0]!);
      expect(await committedNumbers(raw(), retryOf(source, group))).toEqual(range(0, 500));
    });

    it('skips what another process has replayed since it began', async () => {
      const [source, group] = [await newSource(), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 3).map((n) => ({ n, group })),
      );
      const [slow, quick] = [await storeOf(group, source), await storeOf(group, source)];
      const outcomes: DeadLetterOutcome[] = [];
      const visit = async ({ id, message }: StoredDeadLetter): Promise<DeadLetterAction> => {
        if (id === '0/0') await replayAll(quick, { filter: { ids: ['0/0', '0/2'] } });
        return { replay: message.headers };
      };
      const settled = (_: StoredDeadLetter, outcome: DeadLetterOutcome): void => void outcomes.push(outcome);
      await slow.scan({ decide: visit, settled }, { window: 100, signal: forEver });
      const taken = {
        skipped: expect.objectContaining({ message: expect.stringContaining('another process') }),
      };
      expect(outcomes).toEqual([taken, taken, 'replayed']);
      expect(await committedNumbers(raw(), retryOf(source, group))).toEqual([0, 1, 2]);
    });

    it('does not wait for a slow decision, and keeps no transaction open meanwhile', async () => {
      const [source, group] = [await newSource(), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 3).map((n) => ({ n, group })),
      );
      const store = await storeOf(group, source);
      const done: string[] = [];
      let settle!: () => void;
      const settled = new Promise<void>((resolve) => (settle = resolve));
      const visit = async ({ id, message }: StoredDeadLetter): Promise<DeadLetterAction> => {
        if (id === '0/2') await settled;
        return { replay: message.headers };
      };
      const heard = ({ id }: StoredDeadLetter, outcome: DeadLetterOutcome): void => {
        done.push(`${id} ${typeof outcome === 'string' ? outcome : 'kept'}`);
        if (done.length === 2) settle();
      };
      await store.scan({ decide: visit, settled: heard }, { window: 100, signal: forEver });
      expect(done).toEqual(['0/0 replayed', '0/1 replayed', '0/2 replayed']);
    });

    it('stops at once when the signal aborts; reported outcomes are committed, and nothing else', async () => {
      const [source, group] = [await newSource(), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 30).map((n) => ({ n, group })),
      );
      const store = await storeOf(group, source);
      const stop = new AbortController();
      const done = new Set<number>();
      const visit = ({ id, message }: StoredDeadLetter): DeadLetterAction | Promise<DeadLetterAction> => {
        if (id !== '0/25') return { replay: message.headers };
        stop.abort(new Error('enough'));
        return new Promise(() => {});
      };
      const settled = ({ message }: StoredDeadLetter): void => void done.add(Number(message.body));
      await expect(
        store.scan({ decide: visit, settled }, { window: 10, signal: stop.signal }),
      ).rejects.toThrow('enough');
      expect([...done]).toEqual(range(0, 20));
      expect(await numbersIn(store)).toEqual(range(20, 10));
    });

    it('skips dead letters that exceed the size limit of the topic, and only those', async () => {
      const [source, group] = [await newSource(), raw().name()];
      const small = { name: 'max.message.bytes', value: '8000' };
      const retry = await raw().topic(1, retryOf(source, group), [small]);
      const headers = { big: 'x'.repeat(9_000) };
      await writeDeadLetters(
        source,
        range(0, 40).map((n) => ({ n, group, ...(n % 20 === 7 ? { headers } : {}) })),
      );
      const store = await storeOf(group, source);
      const report = await replayAll(store);
      expect(report).toMatchObject({ done: 38, skipped: 2 });
      expect(report.skippedDeadLetters[0]!.why).toContain(`exceeds the size limit of ${retry}`);
      expect(await numbersIn(store)).toEqual([7, 27]);
      expect((await committedNumbers(raw(), retry)).length).toBe(38);
    });

    it('skips those whose topic was deleted', async () => {
      const [source, group] = [await newSource(), raw().name()];
      await writeDeadLetters(source, [{ n: 0, group }]);
      await raw().admin.deleteTopics({ topics: [source] });
      await raw().renew();
      const store = await eventually(async () => {
        const one = await storeOf(group, source);
        return (await one.warnings()).some((line) => line.includes('is gone')) ? one : undefined;
      }, 'the topic to be gone');
      const report = await replayAll(store);
      expect(report).toMatchObject({ done: 0, skipped: 1 });
      expect(report.skippedDeadLetters[0]!.why).toContain(`the topic "${source}" is gone`);
      expect(await numbersIn(store)).toEqual([0]);
    });
  });

  describe('marks', () => {
    it('of a discard need no transaction, and leave the other dead letters unchanged', async () => {
      const [source, group] = [await newSource(2), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 150).map((n) => ({ n, group })),
      );
      const store = await storeOf(group, source);
      expect(await discardAll(store, '9')).toMatchObject({ done: 24 });
      expect((await numbersIn(store)).length).toBe(126);
      expect(await discardAll(store)).toMatchObject({ done: 126 });
      expect(await numbersIn(store)).toEqual([]);
      expect(await store.count()).toBe(0);
      const marks = await raw().reader.records(`${source}.dlq.marks`);
      expect(marks.length).toBe(150);
      expect(JSON.parse(String(marks[0]!.value))).toMatchObject({
        action: 'discarded',
        by: expect.stringContaining(`/${process.pid}`),
      });
      expect(await raw().admin.listTopics()).not.toContain(retryOf(source, group));
    });

    it('of a topic that was deleted and created again are ignored', async () => {
      const [source, group] = [await newSource(), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 5).map((n) => ({ n, group })),
      );
      expect(await discardAll(await storeOf(group, source))).toMatchObject({ done: 5 });
      const topic = `${source}.dlq`;
      await raw().admin.deleteTopics({ topics: [topic] });
      await raw().renew();
      await eventually(
        async () => ((await raw().admin.listTopics()).includes(topic) ? undefined : true),
        'the topic to be gone',
      );
      await raw().renew();
      await raw().topic(1, topic);
      await writeDeadLetters(
        source,
        range(10, 5).map((n) => ({ n, group })),
      );
      expect(await numbersIn(await storeOf(group, source))).toEqual(range(10, 5));
    });

    it('are read although another producer has left a transaction open among them', async () => {
      const [source, group] = [await newSource(), raw().name()];
      await writeDeadLetters(
        source,
        range(0, 4).map((n) => ({ n, group })),
      );
      const store = await storeOf(group, source);
      await discardAll(store, '0');
      const producer = raw().kafka.producer({
        transactionalId: uniqueName(),
        maxInFlightRequests: 1,
        idempotent: true,
      });
      await producer.connect();
      onTestFinished(() => producer.disconnect());
      const transaction = await producer.transaction();
      const key = `0/3/${new Date(1_700_000_000_003).toISOString()}`;
      await transaction.send({ topic: `${source}.dlq.marks`, messages: [{ key, value: '{}' }] });
      await discardAll(store, '1');
      expect(await numbersIn(store)).toEqual([2, 3]);
      expect(await replayAll(store, { filter: { text: '2' } })).toMatchObject({ done: 1 });
      expect(await numbersIn(store)).toEqual([3]);
      await transaction.abort();
      expect(await numbersIn(store)).toEqual([3]);
    });
  });

  it('logs no warning', () => {
    expect(warnings).toEqual([]);
  });
});
