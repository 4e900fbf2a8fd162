import { describe, expect, it } from 'vitest';
import {
  brokers,
  buildKafkaApp,
  eventually,
  range,
  Seen,
  startKafkaApp,
  uniqueName,
  useRaw,
} from './support.js';

describe.skipIf(brokers === undefined)('Kafka: topics that are created and deleted', () => {
  const raw = useRaw();

  it.each([
    ['less', 3],
    ['more', 40],
  ])(
    'one is deleted and created again with %s in it: read from its beginning, the other continues',
    async (_what, count) => {
      const [gone, stays, group] = [await raw().topic(2), await raw().topic(2), uniqueName()];
      const seen = new Seen<string>();
      const handle = (body: unknown): void => seen.add(String(body));
      const { state } = await startKafkaApp({
        group,
        handlers: { [gone]: handle, [stays]: handle },
        options: { topicRefreshMs: 500 },
      });
      for (const partition of [0, 1])
        await raw().send(
          gone,
          range(0, 10).map((n) => `old-${n}`),
          { partition },
        );
      await seen.count(20);
      await raw().settled(group, gone);
      await raw().admin.deleteTopics({ topics: [gone] });
      await raw().renew();
      const reason = await eventually(() => {
        const { connection } = state();
        return connection.value === 'blocked' ? connection.reason : undefined;
      }, 'the missing topic to be named');
      expect(reason).toContain(gone);
      expect(reason).not.toContain(stays);
      await raw().send(stays, ['meanwhile']);
      await seen.count(21);
      await raw().topic(2, gone);
      for (const partition of [0, 1]) {
        await raw().send(
          gone,
          range(0, count).map((n) => `new-${partition}-${n}`),
          { partition },
        );
      }
      await seen.count(21 + 2 * count);
      for (const partition of [0, 1]) {
        expect(seen.all.filter((body) => body.startsWith(`new-${partition}`))).toEqual(
          range(0, count).map((n) => `new-${partition}-${n}`),
        );
      }
      await eventually(() => (state().connection.value === 'ready' ? true : undefined), 'readiness');
      expect(seen.all.length).toBe(21 + 2 * count);
    },
  );

  it('topics missing at the start are created, with their dead letter topics', async () => {
    const [topic, group] = [raw().name(), uniqueName()];
    const seen = new Seen<string>();
    const handlers = { [topic]: (body: unknown) => seen.add(String(body)) };
    await startKafkaApp({ group, handlers, options: { partitions: 3 } });
    const { topics } = await raw().admin.fetchTopicMetadata({ topics: [topic, `${topic}.dlq`] });
    expect(topics.map(({ name, partitions }) => [name, partitions.length]).toSorted()).toEqual([
      [topic, 3],
      [`${topic}.dlq`, 3],
    ]);
    await raw().send(topic, ['first']);
    expect(await seen.count(1)).toEqual(['first']);
  });

  it('if they cannot be created, the start rejects with the command for each', async () => {
    const [one, two, group] = [raw().name(), raw().name(), uniqueName()];
    const there = await raw().topic(4);
    const handlers = { [one]: () => {}, [two]: () => {}, [there]: () => {} };
    // A single broker cannot hold two replicas.
    const { app } = await buildKafkaApp({
      group,
      handlers,
      options: { partitions: 2, replicationFactor: 3 },
    });
    const error: Error = await app.listen().then(
      () => expect.unreachable(),
      (reason: Error) => reason,
    );
    const command = `kafka-topics.sh --bootstrap-server ${brokers!.join(',')} --create --topic`;
    for (const topic of [one, two]) {
      expect(error.message).toContain(`${command} ${topic} --partitions 2 --replication-factor 3`);
    }
    expect(error.message).toContain(`${command} ${there}.dlq --partitions 4 --replication-factor 3`);
    expect(error.message).not.toContain(`--topic ${there} `);
    expect(await raw().admin.listTopics()).not.toContain(one);
  });
});
