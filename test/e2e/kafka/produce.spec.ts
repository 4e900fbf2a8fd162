import { describe, expect, it } from 'vitest';
import { StorkConfigError } from 'nestjs-stork';
import type { PartitionChoice } from 'nestjs-stork/kafka';
import { uniqueTopic } from './kafka-app.js';
import { bodyOf, brokers, codeOf, numbers, outcomesOf, startSender, useBeside } from './support-produce.js';

describe.skipIf(brokers === undefined)('Kafka: published records', () => {
  const beside = useBeside(() => brokers!);

  it.each(['all', 'leader', 'none'] as const)('writes with acks %s', async (acks) => {
    const topic = await beside().topic(uniqueTopic(), 2);
    const { client } = await startSender({ acks });
    await Promise.all(['a', 'b', 'c'].map((body) => client.publish(topic, body, { key: 'k' })));
    expect((await beside().records(topic, 3)).map(bodyOf)).toEqual(['"a"', '"b"', '"c"']);
  });

  it('compresses with gzip, which every client can decompress', async () => {
    const topic = await beside().topic();
    const { client } = await startSender({ compression: 'gzip' });
    const bodies = Array.from({ length: 200 }, (_, n) => ({ n, text: 'always the same '.repeat(100) }));
    await Promise.all(bodies.map((body) => client.publish(topic, body)));
    const records = await beside().records(topic, 200);
    expect(records.map((record) => JSON.parse(bodyOf(record)) as unknown)).toEqual(bodies);
  });

  it('chooses the partition of a key like the Java client', async () => {
    const topic = await beside().topic(uniqueTopic(), 40);
    const { client } = await startSender();
    // From the Java client's own test of murmur2.
    const hashes: Readonly<Record<string, number>> = {
      '21': -973932308,
      foobar: -790332482,
      'a-little-bit-long-string': -985981536,
      'a-little-bit-longer-string': -1486304829,
      lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8: -58897971,
      abc: 479470107,
    };
    await Promise.all(Object.keys(hashes).map((key) => client.publish(topic, key, { key })));
    const records = await beside().records(topic, 6);
    const placed = Object.fromEntries(records.map((record) => [record.key!.toString(), record.partition]));
    const expected = Object.entries(hashes).map(([key, hash]) => [key, (hash & 0x7fffffff) % 40]);
    expect(placed).toEqual(Object.fromEntries(expected));
  });

  it('writes to the given partition, and refuses one that does not exist', async () => {
    const topic = await beside().topic(uniqueTopic(), 3);
    const { client } = await startSender();
    await Promise.all(
      [2, 0, 1].map((partition) => client.publish(topic, partition, { partition, key: 'k' })),
    );
    const records = await beside().records(topic, 3);
    expect(records.map((record) => [record.partition, bodyOf(record)]).toSorted()).toEqual([
      [0, '0'],
      [1, '1'],
      [2, '2'],
    ]);
    const beyond = client.publish(topic, 'x', { partition: 3 });
    await expect(beyond).rejects.toMatchObject({ code: 'NO_ROUTE', message: expect.stringContaining('3') });
  });

  it('calls the user’s partitioner, and only for messages without a partition', async () => {
    const topic = await beside().topic(uniqueTopic(), 3);
    const asked: PartitionChoice[] = [];
    const { client } = await startSender({
      partitioner: (choice) => {
        asked.push(choice);
        return choice.key === 'bad' ? 7 : 2;
      },
    });
    await client.publish(topic, 'a', { key: 'k' });
    await client.publish(topic, 'b', { partition: 1 });
    await client.publish(topic, 'c');
    await expect(client.publish(topic, 'd', { key: 'bad' })).rejects.toThrow(StorkConfigError);
    const records = await beside().records(topic, 3);
    expect(records.map((record) => [bodyOf(record), record.partition]).toSorted()).toEqual([
      ['"a"', 2],
      ['"b"', 1],
      ['"c"', 2],
    ]);
    expect(asked.map(({ key, partitions }) => [key, partitions])).toEqual([
      ['k', 3],
      [null, 3],
      ['bad', 3],
    ]);
  });

  it('writes time, id, headers of every kind, and no key where there is none', async () => {
    const topic = await beside().topic();
    const { client } = await startSender();
    const timestamp = Date.UTC(2024, 1, 29, 12);
    const bytes = Buffer.from([0, 255, 128]);
    const headers = { text: 'é', bytes, number: 42, yes: true, list: ['a', bytes, 7], empty: '' };
    await client.publish(topic, { a: 1 }, { timestamp, headers, messageId: 'id-1' });
    await client.publish(topic, Buffer.from([1, 2, 3]), { key: 'k' });
    const [first, second] = (await beside().records(topic, 2)).toSorted((a, b) => a.offset - b.offset);
    expect(first).toMatchObject({ key: null, timestamp });
    expect(first!.headers).toMatchObject({
      text: Buffer.from('é'),
      bytes,
      number: Buffer.from('42'),
      yes: Buffer.from('true'),
      list: [Buffer.from('a'), bytes, Buffer.from('7')],
      empty: Buffer.alloc(0),
      'content-type': Buffer.from('application/json'),
      'stork-message-id': Buffer.from('id-1'),
    });
    expect(second!.value).toEqual(Buffer.from([1, 2, 3]));
    expect(second!.headers['content-type']?.toString()).toBe('application/octet-stream');
    expect(Math.abs(second!.timestamp - Date.now())).toBeLessThan(60_000);
  });

  it('publishes to the pattern’s topic, to publishTo, and to the destination of a single message', async () => {
    const [pattern, fixed, other] = await Promise.all([beside().topic(), beside().topic(), beside().topic()]);
    const plain = await startSender();
    await plain.client.publish(pattern, 1);
    const { client } = await startSender({ publishTo: { topic: fixed }, patternHeader: 'Event-Type' });
    await client.publish('order.created', 2);
    await client.publish('order.paid', 3, { to: { topic: other } });
    const written = await Promise.all([pattern, fixed, other].map((topic) => beside().records(topic, 1)));
    expect(written.map((records) => records.map(bodyOf))).toEqual([['1'], ['2'], ['3']]);
    const names = written.map(([record]) => record!.headers['Event-Type']?.toString());
    expect(names).toEqual([undefined, 'order.created', 'order.paid']);
  });

  it('rejects with NO_ROUTE at once for a topic that does not exist, and for that topic only', async () => {
    const topic = await beside().topic();
    const { client } = await startSender();
    await client.publish(topic, 'before');
    const missing = uniqueTopic();
    const began = performance.now();
    const sent = Array.from({ length: 300 }, (_, n) => client.publish(n % 3 === 0 ? missing : topic, n));
    const outcomes = await outcomesOf(sent);
    // Otherwise its metadata would be requested endlessly, and a request without a response times out after
    // half a minute.
    expect(performance.now() - began).toBeLessThan(20_000);
    expect(outcomes).toEqual({
      NO_ROUTE: numbers(300, (n) => n % 3 === 0),
      ok: numbers(300, (n) => n % 3 !== 0),
    });
    await expect(client.publish('not a topic!', 1)).rejects.toMatchObject({ code: 'NO_ROUTE' });
    expect(await beside().admin.listTopics()).not.toContain(missing);
    // As soon as the topic exists.
    await beside().topic(missing);
    await expect.poll(() => client.publish(missing, 'now').then(() => 'ok', codeOf)).toBe('ok');
  });

  it('does not recreate a deleted topic, rejects with NO_ROUTE, and continues with other topics', async () => {
    const [gone, stays] = await Promise.all([beside().topic(), beside().topic()]);
    const { client, connection } = await startSender();
    await Promise.all([client.publish(gone, 1), client.publish(stays, 1)]);
    await beside().admin.deleteTopics({ topics: [gone], timeout: 30_000 });
    await expect.poll(() => beside().admin.listTopics()).not.toContain(gone);
    const sent = Array.from({ length: 200 }, (_, n) => client.publish(n % 2 === 0 ? gone : stays, n));
    const began = performance.now();
    const outcomes = await outcomesOf(sent);
    const tookMs = performance.now() - began;
    expect(outcomes).toEqual({
      NO_ROUTE: numbers(200, (n) => n % 2 === 0),
      ok: numbers(200, (n) => n % 2 === 1),
    });
    expect(tookMs).toBeLessThan(20_000);
    // kafkajs would request that topic again and again, and reject the others too after some seconds.
    for (const until = Date.now() + 4_000; Date.now() < until; await new Promise((go) => setTimeout(go, 250)))
      await client.publish(stays, 'later');
    await expect(client.publish(gone, 'again')).rejects.toMatchObject({ code: 'NO_ROUTE' });
    expect(await beside().admin.listTopics()).not.toContain(gone);
    expect(connection().value).toBe('ready');
  });
});
