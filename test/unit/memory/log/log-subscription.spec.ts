import { describe, expect, it } from 'vitest';
import type { SourceSettings } from '../../../../lib/driver-kit/source-settings.js';
import type { Delivery } from '../../../../lib/core/port/delivery.js';
import { LogSubscription } from '../../../../lib/memory/log/log-subscription.js';
import type { MemoryBroker } from '../../../../lib/memory/broker/memory-broker.js';
import { newBroker, settle } from '../harness.js';

/** A member of the group `g` on the one partition of `t`; it only notes what it gets. */
async function join(broker: MemoryBroker, consume: Partial<SourceSettings> = {}, delayMs?: number) {
  const deliveries: Delivery[] = [];
  const subscription = new LogSubscription({
    broker,
    group: 'g',
    patternHeader: undefined,
    fromBeginning: true,
    sink: {
      deliver: (delivery) => void deliveries.push(delivery),
      quiesce: async () => {},
      resume: () => {},
    },
    topics: () => ['t'],
    sourceSettingsOf: () => ({ order: 'key', delivery: 'at-least-once', ...consume }),
    consumedTopicOf: (source) => ({ source, delayMs }),
    declareManagedTopics: () => {},
    retryTopicFor: (source, delayMs) => `${source}.retry.g.${delayMs}`,
  });
  await subscription.open();
  await settle();
  return { deliveries, subscription, offsets: () => deliveries.map(({ tag }) => tag) };
}

function newLog(records: number) {
  const { broker } = newBroker();
  const topic = broker.createTopic('t', { partitions: 1 });
  const append = (count: number): void => {
    for (let i = 0; i < count; i++) topic.append({ key: `k${i}`, value: null, headers: {}, timestamp: 0 });
  };
  append(records);
  return { broker, append };
}

describe('a partition that is assigned to another member', () => {
  it.each(['ack', 'ackEarly'] as const)(
    'repeats nothing that was settled out of order (%s)',
    async (settling) => {
      const { broker, append } = newLog(6);
      const first = await join(broker);
      for (const index of [1, 3, 4]) await first.deliveries[index]![settling]();
      await first.subscription.close();
      append(1);
      const second = await join(broker);
      expect(second.offsets()).toEqual([0, 2, 5, 6]);
      second.deliveries[0]!.ack();
      await second.subscription.close();
      const third = await join(broker);
      expect(third.offsets()).toEqual([2, 5, 6]);
      for (const delivery of third.deliveries) delivery.ack();
      expect([broker.group('g').lag('t'), broker.group('g').completedAbove('t', 0)]).toEqual([0, []]);
    },
  );

  it('rejects an early ack for a revoked partition', async () => {
    const { broker } = newLog(1);
    const { deliveries, subscription } = await join(broker);
    const source = deliveries[0]!;
    await subscription.close();
    expect(await source.ackEarly()).toBe(false);
    expect((await join(broker)).offsets()).toEqual([0]);
  });
});

it.each([
  ['key', ['t/0/k0', 't/0/k1']],
  ['partition', ['t/0', 't/0']],
  ['none', [undefined, undefined]],
] as const)('the order %s determines the ordering keys', async (order, orderingKeys) => {
  const { broker } = newLog(2);
  const { deliveries } = await join(broker, { order, delivery: 'manual' });
  expect(deliveries.map(({ orderingKey }) => orderingKey)).toEqual(orderingKeys);
  expect(deliveries[0]!.mode).toBe('manual');
});

describe('a retry topic', () => {
  const dayMs = 24 * 60 * 60 * 1_000;
  const waiting = async (delayMs: number, records: readonly { dueIn?: number; writtenIn?: number }[]) => {
    const { broker, clock } = newBroker();
    const topic = broker.createTopic('t', { partitions: 1 });
    const now = clock.now();
    for (const { dueIn, writtenIn = 0 } of records) {
      const headers = dueIn === undefined ? {} : { 'stork-due-at': new Date(now + dueIn).toISOString() };
      topic.append({ key: 'k', value: null, headers, timestamp: now + writtenIn });
    }
    const { offsets } = await join(broker, {}, delayMs);
    return { clock, offsets };
  };

  it('with a delay of more than a day delays its records that long', async () => {
    const { clock, offsets } = await waiting(3 * dayMs, [{ dueIn: 3 * dayMs }]);
    await clock.advance(3 * dayMs - 1);
    expect(offsets()).toEqual([]);
    await clock.advance(1);
    expect(offsets()).toEqual([0]);
  });

  it('delays no record for longer than its delay, whatever its headers say', async () => {
    const { clock, offsets } = await waiting(1_000, [
      { dueIn: 400 * dayMs },
      { writtenIn: 9 * dayMs },
      {},
      { dueIn: 1_000 },
    ]);
    await clock.advance(999);
    expect(offsets()).toEqual([]);
    // The eligible time of a record with a future timestamp is computed when it is the first.
    await clock.advance(1_001);
    expect(offsets()).toEqual([0, 1, 2, 3]);
  });

  it('without delay delivers at once', async () => {
    const { offsets } = await waiting(0, [{ dueIn: dayMs }, { writtenIn: dayMs }]);
    expect(offsets()).toEqual([0, 1]);
  });
});
