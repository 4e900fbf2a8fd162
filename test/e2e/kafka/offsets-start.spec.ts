import { describe, expect, it } from 'vitest';
import {
  brokers,
  eventually,
  handlerOf,
  range,
  Seen,
  startKafkaApp,
  uniqueName,
  useRaw,
  type KafkaApp,
} from './support.js';

describe.skipIf(brokers === undefined)('Kafka: where a partition starts', () => {
  const raw = useRaw();
  const start = (group: string, topic: string, seen: Seen<number>): Promise<KafkaApp> =>
    startKafkaApp({ group, handlers: { [topic]: (body) => seen.add(body as number) } });

  /** Resolves when the broker's metadata contains the new partition. */
  async function grow(topic: string, count: number): Promise<void> {
    await raw().admin.createPartitions({ topicPartitions: [{ topic, count }], timeout: 30_000 });
    await eventually(async () => {
      const { topics } = await raw().admin.fetchTopicMetadata({ topics: [topic] });
      return topics[0]!.partitions.length === count ? true : undefined;
    }, `${count} partitions of ${topic}`);
    await raw().renew();
  }

  it('at the end for a new group, and records before its first commit are read after a restart', async () => {
    const [topic, group] = [await raw().topic(2), uniqueName()];
    for (const partition of [0, 1]) await raw().send(topic, range(0, 5), { partition });
    const first = new Seen<number>();
    const { close } = await start(group, topic, first);
    // A process that is killed now has committed its position.
    expect(await raw().committed(group, topic)).toEqual(
      new Map([
        [0, 5],
        [1, 5],
      ]),
    );
    await close();
    expect(first.all).toEqual([]);
    for (const partition of [0, 1]) await raw().send(topic, range(100 + partition * 10, 5), { partition });
    const second = new Seen<number>();
    await start(group, topic, second);
    await second.count(10);
    await raw().settled(group, topic);
    expect(second.all.toSorted((a, b) => a - b)).toEqual([...range(100, 5), ...range(110, 5)]);
  });

  it('at the beginning with fromBeginning', async () => {
    const [topic, group] = [await raw().topic(1), uniqueName()];
    await raw().send(topic, range(0, 5));
    const seen = new Seen<number>();
    const handlers = { [topic]: (body: unknown) => seen.add(body as number) };
    await startKafkaApp({ group, handlers, options: { fromBeginning: true } });
    expect(await seen.count(5)).toEqual(range(0, 5));
  });

  it('at the end for members that start together', async () => {
    const [topic, group] = [await raw().topic(6), uniqueName()];
    for (const partition of range(0, 6)) await raw().send(topic, range(0, 20), { partition });
    const seen = new Seen<number>();
    const handlers = { [topic]: (body: unknown) => seen.add(body as number) };
    const members = await Promise.all(range(0, 3).map(() => startKafkaApp({ group, handlers })));
    for (const partition of range(0, 6)) await raw().send(topic, range(1_000, 5), { partition });
    await seen.count(30);
    await raw().settled(group, topic);
    expect(seen.all.filter((n) => n < 1_000)).toEqual([]);
    expect(members.length).toBe(3);
  });

  it('at the beginning in partitions that are added, whether the group is away or reads', async () => {
    const [topic, group] = [await raw().topic(1), uniqueName()];
    await raw().send(topic, range(0, 5));
    const seen = new Seen<number>();
    const first = await start(group, topic, seen);
    await raw().send(topic, [100]);
    await seen.count(1);
    await first.close();
    await grow(topic, 2);
    await raw().send(topic, range(200, 5), { partition: 1 });
    await start(group, topic, seen);
    await seen.count(6);
    await grow(topic, 3);
    await raw().send(topic, range(300, 5), { partition: 2 });
    // A running member refreshes its metadata within a minute; a joining member makes it sooner.
    await start(group, topic, seen);
    await seen.count(11);
    expect(seen.all.toSorted((a, b) => a - b)).toEqual([100, ...range(200, 5), ...range(300, 5)]);
  });

  it('at the beginning in topics that come to match a RegExp; retry and dead letter topics never match', async () => {
    const prefix = raw().name();
    const group = uniqueName();
    const read = new Seen<string>();
    const pattern = new RegExp(`^${prefix.replaceAll('.', '\\.')}\\..+$`);
    const handle = (body: unknown): void => {
      read.add(String(body));
      if (body === 'poison') throw new Error('not this one');
    };
    const old = await raw().topic(1, `${prefix}.old`);
    await raw().send(old, ['history']);
    await startKafkaApp({ group, handlers: [handlerOf(pattern, handle)], options: { topicRefreshMs: 300 } });
    await raw().send(old, ['news']);
    await read.count(1);
    for (const suffix of ['dlq', 'dlq.marks', 'x.reply', 'old.retry.5000']) {
      await raw().topic(1, `${prefix}.${suffix}`);
      await raw().send(`${prefix}.${suffix}`, [`${suffix} must not be read`]);
    }
    const fresh = await raw().topic(2, `${prefix}.fresh`);
    await raw().send(fresh, ['first'], { partition: 0 });
    await raw().send(fresh, ['poison'], { partition: 1 });
    await read.count(3);
    await raw().send(fresh, ['last'], { partition: 1 });
    await read.count(4);
    await raw().settled(group, fresh);
    expect(read.all.toSorted()).toEqual(['first', 'last', 'news', 'poison']);
    expect(await raw().deadLetters(fresh)).toEqual(['"poison"']);
    const topics = await raw().admin.listTopics();
    expect(topics.filter((name) => name.startsWith(prefix) && name.includes('.dlq.dlq'))).toEqual([]);
    await raw().send(fresh, ['after'], { partition: 0 });
    await read.count(5);
  });
});
