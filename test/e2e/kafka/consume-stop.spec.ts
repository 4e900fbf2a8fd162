import { describe, expect, it, onTestFinished } from 'vitest';
import { startProxiedKafka } from '../../support/proxied-kafka.js';
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

describe.skipIf(brokers === undefined)('Kafka: stopping', () => {
  const raw = useRaw();

  async function sendKeyed(topic: string, numbers: readonly number[]): Promise<void> {
    const messages = numbers.map((n) => ({ key: `k${n}`, value: String(n) }));
    await raw().producer.send({ topic, messages });
  }

  it('waits for running handlers; what they settled is committed and nothing is redelivered', async () => {
    const [topic, group] = [await raw().topic(3), uniqueName()];
    const begun = new Seen<number>();
    const gate = new Gate();
    const ended = new Seen<number>();
    const handle = async (body: unknown): Promise<void> => {
      begun.add(body as number);
      await gate.opened;
      await later(200);
      ended.add(body as number);
    };
    const first = await startKafkaApp({
      group,
      handlers: { [topic]: handle },
      options: { concurrency: 50 },
      module: { drainTimeoutMs: 10_000 },
    });
    await sendKeyed(topic, range(0, 120));
    await begun.count(50);
    const closing = first.close();
    gate.open();
    await closing;
    expect(begun.all.length).toBe(50);
    expect(ended.all.length).toBe(50);
    const again = new Seen<number>();
    await startKafkaApp({ group, handlers: { [topic]: (body) => again.add(body as number) } });
    await again.count(70);
    await raw().settled(group, topic);
    expect([...ended.all, ...again.all].toSorted((a, b) => a - b)).toEqual(range(0, 120));
  });

  it('aborts handlers that exceed the drain timeout; only their records are redelivered, not later settled ones', async () => {
    const [topic, group] = [await raw().topic(1), uniqueName()];
    const gate = new Gate();
    const settled = new Seen<number>();
    const handle = async (body: unknown): Promise<void> => {
      const n = body as number;
      if (n % 100 === 3) await gate.opened;
      else settled.add(n);
    };
    const first = await startKafkaApp({
      group,
      handlers: { [topic]: handle },
      // Part of it is for the last commit.
      module: { drainTimeoutMs: 4_000 },
    });
    await sendKeyed(topic, range(0, 500));
    await settled.count(495);
    await first.close();
    gate.open();
    const again = new Seen<number>();
    await startKafkaApp({ group, handlers: { [topic]: (body) => again.add(body as number) } });
    await raw().settled(group, topic);
    expect(again.all.toSorted((a, b) => a - b)).toEqual([3, 103, 203, 303, 403]);
  });

  it('of a member without a partition, or before its first assignment, leaves the group', async () => {
    const [topic, group] = [await raw().topic(1), uniqueName()];
    const seen = new Seen<number>();
    const handlers = { [topic]: (body: unknown) => seen.add(body as number) };
    // A member that did not leave would stay in the group for longer than the test waits.
    const options = { sessionTimeoutMs: 60_000 };
    const members = await Promise.all(range(0, 3).map(() => startKafkaApp({ group, handlers, options })));
    await Promise.all(members.map(({ close }) => close()));
    await eventually(async () => {
      const { groups } = await raw().admin.describeGroups([group]);
      return groups[0]!.members.length === 0 ? true : undefined;
    }, 'all members to have left');
    await raw().send(topic, [1]);
    await startKafkaApp({ group, handlers });
    expect(await seen.count(1)).toEqual([1]);
  });

  it('ends within drainTimeoutMs while Kafka cannot be reached; the message comes again', async () => {
    const own = await startProxiedKafka();
    onTestFinished(() => own.close());
    const [topic, group] = [`stop.${uniqueName()}`, uniqueName()];
    const gate = new Gate();
    onTestFinished(() => gate.open());
    const seen = new Seen<number>();
    const drainTimeoutMs = 2_000;
    const options = { fromBeginning: true, partitions: 1 };
    const first = await startKafkaApp({
      group,
      handlers: {
        [topic]: async (body) => {
          seen.add(body as number);
          await gate.opened;
        },
      },
      options: { ...options, brokers: own.proxied },
      module: { drainTimeoutMs },
    });
    await first.client.publish(topic, 1);
    await seen.count(1);
    own.proxy.breakOff();
    const beganAt = performance.now();
    await first.close();
    // Timers of a busy machine are late.
    expect(performance.now() - beganAt).toBeLessThan(drainTimeoutMs + 3_000);
    const handlers = { [topic]: (body: unknown) => seen.add(body as number) };
    await startKafkaApp({ group, handlers, options: { ...options, brokers: own.server.brokers } });
    expect(await seen.count(2)).toEqual([1, 1]);
  });
});
