import { describe, expect, it } from 'vitest';
import {
  brokers,
  eventually,
  Gate,
  later,
  range,
  Seen,
  startKafkaApp,
  uniqueName,
  useRaw,
} from './support.js';

const sessionTimeoutMs = 8_000;
const slowMs = 3 * sessionTimeoutMs;

describe.skipIf(brokers === undefined)('Kafka: slow handlers', () => {
  const raw = useRaw();

  it('that take three sessions cause neither a rebalance nor a second attempt, and other partitions continue', async () => {
    const [topic, group] = [await raw().topic(3), uniqueName()];
    const seen = new Seen<number>();
    const attempts: string[] = [];
    const gate = new Gate();
    const handle = async (body: unknown): Promise<void> => {
      attempts.push(String(body));
      if (body === 'slow') {
        await later(slowMs);
        await gate.opened;
      } else seen.add(body as number);
    };
    const { state } = await startKafkaApp({
      group,
      handlers: { [topic]: handle },
      options: { sessionTimeoutMs },
    });
    await raw().send(topic, ['slow'], { partition: 0 });
    await eventually(() => (attempts.includes('slow') ? true : undefined), 'the slow one to begin');
    // The gap is smaller than the number of records behind the slow one.
    await raw().send(topic, range(0, 200), { partition: 0 });
    for (const round of range(0, 6)) {
      await raw().send(topic, range(1_000 + round * 10, 10), { partition: 1 + (round % 2) });
      await seen.count((round + 1) * 10);
      await later(slowMs / 10);
    }
    expect(seen.all.every((n) => n >= 1_000)).toBe(true);
    gate.open();
    await seen.count(260, 60_000);
    await raw().settled(group, topic);
    expect(attempts.length).toBe(261);
    expect(seen.all.filter((n) => n < 1_000)).toEqual(range(0, 200));
    expect(state().counts).toMatchObject({ handled: 261 });
    expect(state().counts.rebalances).toBeUndefined();
  }, 180_000);

  it('that do not end block their partition at the gap, and it continues when they do', async () => {
    const [topic, group] = [await raw().topic(2), uniqueName()];
    const gate = new Gate();
    const seen = new Seen<number>();
    const handle = async (body: unknown): Promise<void> => {
      if (body === 'stuck') await gate.opened;
      else seen.add(body as number);
    };
    await startKafkaApp({ group, handlers: { [topic]: handle }, options: { maxOffsetGap: 500 } });
    await raw().send(topic, ['stuck'], { partition: 0, key: 'a' });
    // Other keys of its partition continue up to the gap, other partitions beyond it.
    for (const round of range(0, 20)) {
      const messages = range(round * 100, 100).map((n) => ({
        key: `k${n % 7}`,
        value: `${n}`,
        partition: 0,
      }));
      await raw().producer.send({ topic, messages });
    }
    const reached = await seen.count(499);
    await raw().send(topic, range(10_000, 1_000), { partition: 1 });
    await seen.count(1_499);
    expect(reached.filter((n) => n < 10_000).length).toBe(499);
    expect((await raw().committed(group, topic)).get(0)).toBe(0);
    gate.open();
    await seen.count(3_000);
    await raw().settled(group, topic);
    expect(new Set(seen.all).size).toBe(3_000);
  });

  it('with many messages of their key waiting delay no other key', async () => {
    const [topic, group] = [await raw().topic(2), uniqueName()];
    const gate = new Gate();
    const seen = new Seen<string>();
    const handle = async (body: unknown): Promise<void> => {
      if (body === 'stuck') await gate.opened;
      else seen.add(body as string);
    };
    const { close } = await startKafkaApp({
      group,
      handlers: { [topic]: handle },
      options: { maxOffsetGap: 1_000 },
    });
    await raw().send(topic, ['stuck', ...range(0, 300).map((n) => `behind-${n}`)], {
      partition: 0,
      key: 'a',
    });
    await raw().send(
      topic,
      range(0, 100).map((n) => `beside-${n}`),
      { partition: 0, key: 'b' },
    );
    await raw().send(
      topic,
      range(0, 100).map((n) => `elsewhere-${n}`),
      { partition: 1 },
    );
    await seen.count(200);
    expect(seen.all.some((body) => body.startsWith('behind'))).toBe(false);
    gate.open();
    await seen.count(500);
    expect(seen.all.filter((body) => body.startsWith('behind'))).toEqual(
      range(0, 300).map((n) => `behind-${n}`),
    );
    await raw().settled(group, topic);
    await close();
    expect(seen.all.length).toBe(500);
  });

  it('that fail are dead-lettered, and their partition continues', async () => {
    const [topic, group] = [await raw().topic(2), uniqueName()];
    const seen = new Seen<number>();
    const handle = (body: unknown): void => {
      if ((body as number) % 50 === 25) throw new Error('poison');
      seen.add(body as number);
    };
    const { state } = await startKafkaApp({ group, handlers: { [topic]: handle } });
    for (const partition of [0, 1]) await raw().send(topic, range(partition * 100, 100), { partition });
    await seen.count(196);
    await raw().settled(group, topic);
    const isPoison = (n: number): boolean => n % 50 === 25;
    for (const partition of [0, 1]) {
      const expected = range(partition * 100, 100).filter((n) => !isPoison(n));
      expect(seen.all.filter((n) => Math.floor(n / 100) === partition)).toEqual(expected);
    }
    expect((await raw().deadLetters(topic)).map(Number).toSorted((a, b) => a - b)).toEqual([
      25, 75, 125, 175,
    ]);
    expect(state().counts).toMatchObject({ received: 200, handled: 196, failed: 4, 'dead-lettered': 4 });
  });
});
