import { describe, expect, it } from 'vitest';
import {
  brokers,
  eventually,
  Gate,
  later,
  linesAbout,
  range,
  Seen,
  startKafkaApp,
  uniqueName,
  useRaw,
} from './support.js';

describe.skipIf(brokers === undefined)('Kafka: retention that is faster than the consumer', () => {
  const raw = useRaw();
  const deleteBefore = (topic: string, offset: number): Promise<void> =>
    raw().admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: String(offset) }] });
  const complaints = (topic: string): readonly string[] => linesAbout('error', topic, 'retention');

  it('while it was stopped: it continues at the earliest offset and reports the number of lost records', async () => {
    const [topic, group] = [await raw().topic(1), uniqueName()];
    const seen = new Seen<number>();
    const handlers = { [topic]: (body: unknown) => seen.add(body as number) };
    const first = await startKafkaApp({ group, handlers, options: { fromBeginning: true } });
    await raw().send(topic, range(0, 20));
    await seen.count(20);
    await first.close();
    await raw().send(topic, range(20, 30));
    await deleteBefore(topic, 32);
    const { state } = await startKafkaApp({ group, handlers });
    await seen.count(38);
    await raw().settled(group, topic);
    expect(seen.all).toEqual([...range(0, 20), ...range(32, 18)]);
    expect(state().counts['offset-out-of-range']).toBe(12);
    expect(complaints(topic)).toHaveLength(1);
    expect(complaints(topic)[0]).toContain('12 records');
  });

  it('while it reads slowly: fetched records are handled, the lost ones are counted', async () => {
    const [topic, group] = [await raw().topic(1), uniqueName()];
    const seen = new Seen<number>();
    const gate = new Gate();
    const handle = async (body: unknown): Promise<void> => {
      await gate.opened;
      // Slow enough that records are buffered when it fetches more.
      await later(10);
      seen.add(body as number);
    };
    // Small fetches, so that the log is longer than the buffer.
    const fetch = { maxBytes: 8_000, maxBytesPerPartition: 30_000 };
    const { state } = await startKafkaApp({ group, handlers: { [topic]: handle }, options: { fetch } });
    const before = linesAbout('debug', 'Pausing fetching').length;
    for (const chunk of range(0, 60)) {
      const messages = range(chunk * 100, 100).map((n) => ({ key: `k${n % 100}`, value: String(n) }));
      await raw().producer.send({ topic, messages });
    }
    // The buffer is full; the records after it are deleted before the next fetch.
    const pauses = (): number => linesAbout('debug', 'Pausing fetching').length;
    await eventually(() => (pauses() > before ? true : undefined), 'a pause');
    await deleteBefore(topic, 5_000);
    gate.open();
    await eventually(() => (seen.all.includes(5_999) ? true : undefined), 'the last record');
    await raw().settled(group, topic);
    const sorted = seen.all.toSorted((a, b) => a - b);
    const kept = sorted.filter((n) => n < 5_000);
    expect(kept.length).toBeLessThan(5_000);
    expect(kept).toEqual(range(0, kept.length));
    expect(sorted.filter((n) => n >= 5_000)).toEqual(range(5_000, 1_000));
    expect(state().counts['offset-out-of-range']).toBe(5_000 - kept.length);
    expect(complaints(topic)).toHaveLength(1);
  });
});
