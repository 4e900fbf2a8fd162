import { describe, expect, it, onTestFinished } from 'vitest';
import type { Producer } from 'kafkajs';
import { brokers, range, Seen, startKafkaApp, uniqueName, useRaw } from './support.js';

describe.skipIf(brokers === undefined)('Kafka: transactions', () => {
  const raw = useRaw();

  async function transactional(): Promise<Producer> {
    const producer = raw().kafka.producer({
      idempotent: true,
      maxInFlightRequests: 1,
      transactionalId: uniqueName(),
      allowAutoTopicCreation: false,
    });
    await producer.connect();
    onTestFinished(() => producer.disconnect());
    return producer;
  }

  it('leave no lag after their markers, nor where the log ends with an aborted transaction', async () => {
    const [topic, group] = [await raw().topic(2), uniqueName()];
    const seen = new Seen<number>();
    await startKafkaApp({ group, handlers: { [topic]: (body) => seen.add(body as number) } });
    const producer = await transactional();
    const write = async (numbers: readonly number[], end: 'commit' | 'abort'): Promise<void> => {
      const transaction = await producer.transaction();
      for (const partition of [0, 1]) {
        const messages = numbers.map((n) => ({ value: String(n + partition * 1_000), partition }));
        await transaction.send({ topic, messages });
      }
      await transaction[end]();
    };
    await write(range(0, 3), 'commit');
    await seen.count(6);
    await raw().settled(group, topic);
    await write(range(10, 3), 'abort');
    await raw().settled(group, topic);
    await write(range(20, 3), 'commit');
    await write(range(30, 3), 'abort');
    await write(range(40, 3), 'abort');
    await seen.count(12);
    await raw().settled(group, topic);
    const expected = [0, 20, 1_000, 1_020].flatMap((first) => range(first, 3));
    expect(seen.all.toSorted((a, b) => a - b)).toEqual(expected);
  });

  it('that were aborted before the start leave no lag either', async () => {
    const [topic, group] = [await raw().topic(1), uniqueName()];
    const producer = await transactional();
    const transaction = await producer.transaction();
    await transaction.send({ topic, messages: range(0, 3).map((n) => ({ value: String(n) })) });
    await transaction.abort();
    const seen = new Seen<number>();
    const handlers = { [topic]: (body: unknown) => seen.add(body as number) };
    await startKafkaApp({ group, handlers, options: { fromBeginning: true } });
    await raw().settled(group, topic);
    expect(seen.all).toEqual([]);
  });
});
