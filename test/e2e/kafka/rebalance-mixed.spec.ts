import { Controller, type INestMicroservice } from '@nestjs/common';
import {
  KafkaContext as NestKafkaContext,
  Ctx,
  EventPattern,
  Payload,
  Transport,
} from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  brokers,
  eventually,
  range,
  Seen,
  startKafkaApp,
  uniqueName,
  useRaw,
  type Place,
} from './support.js';

/** Which member handled which record. */
interface Sighting extends Omit<Place, 'offset'> {
  readonly member: string;
}

const shortTimeouts = { sessionTimeout: 15_000, heartbeatInterval: 500, maxWaitTimeInMs: 250 };

describe.skipIf(brokers === undefined)('Kafka: a group of different members', () => {
  const raw = useRaw();

  async function sendToAll(topic: string, partitions: number, each = 5): Promise<number> {
    for (const partition of range(0, partitions)) await raw().send(topic, range(0, each), { partition });
    return partitions * each;
  }

  /** The member that reads each partition, by the records that it handled; fails where two members do. */
  function readers(seen: readonly Sighting[], topic: string): ReadonlyMap<number, string> {
    const found = new Map<number, string>();
    for (const { member, partition } of seen.filter((one) => one.topic === topic)) {
      expect(found.get(partition) ?? member, `reader of ${topic}/${partition}`).toBe(member);
      found.set(partition, member);
    }
    return found;
  }

  // Members start at the earliest offset: kafkajs resolves the latest one at its first fetch, which may be
  // after the test has sent.
  const stork = (member: string, group: string, topics: readonly string[], seen: Seen<Sighting>) =>
    startKafkaApp({
      group,
      handlers: Object.fromEntries(
        topics.map((topic) => [
          topic,
          (_body: unknown, { partition }: { readonly partition: number }) =>
            seen.add({ member, topic, partition }),
        ]),
      ),
      options: { fromBeginning: true },
    });

  const membersOf = async (group: string): Promise<number> => {
    const { groups } = await raw().admin.describeGroups([group]);
    return groups[0]!.state === 'Stable' ? groups[0]!.members.length : 0;
  };
  const stable = (group: string, members: number): Promise<true> =>
    eventually(async () => ((await membersOf(group)) === members ? true : undefined), `${members} members`);

  it('reads a topic that only new members subscribe to while an old member leads', async () => {
    const [a, b, group] = [await raw().topic(6), await raw().topic(6), uniqueName()];
    const seen = new Seen<Sighting>();
    // The first member leads the group.
    await stork('old', group, [a], seen);
    await stork('new 1', group, [a, b], seen);
    await stork('new 2', group, [a, b], seen);
    await stable(group, 3);
    const count = (await sendToAll(a, 6)) + (await sendToAll(b, 6));
    await seen.count(count);
    await raw().settled(group, a);
    await raw().settled(group, b);
    expect(seen.all.length).toBe(count);
    const [ofA, ofB] = [readers(seen.all, a), readers(seen.all, b)];
    expect([...ofA.keys()].toSorted()).toEqual(range(0, 6));
    expect([...ofB.keys()].toSorted()).toEqual(range(0, 6));
    expect(new Set(ofA.values())).toEqual(new Set(['old', 'new 1', 'new 2']));
    expect(new Set(ofB.values())).toEqual(new Set(['new 1', 'new 2']));
  });

  it('does not wait for a message in back-off: the rebalance is over long before revokeTimeoutMs', async () => {
    const [topic, group] = [await raw().topic(2), uniqueName()];
    const [failed, seen] = [new Seen<number>(), new Seen<Sighting>()];
    const revokeTimeoutMs = 40_000;
    await startKafkaApp({
      group,
      handlers: {
        [topic]: (_body, { partition }) => {
          failed.add(partition);
          throw new Error('its dependency is away');
        },
      },
      options: { fromBeginning: true, sessionTimeoutMs: 45_000, revokeTimeoutMs },
      module: { retry: { maxRetries: 1, delayMs: 3_600_000, maxDelayMs: 3_600_000, jitter: 'none' } },
    });
    for (const partition of [0, 1]) await raw().send(topic, [0], { partition });
    await failed.count(2);
    const joinedAt = performance.now();
    await stork('new', group, [topic], seen);
    await stable(group, 2);
    // The record of the partition that moved was interrupted and is not settled.
    await seen.count(1);
    expect(performance.now() - joinedAt).toBeLessThan(revokeTimeoutMs - 10_000);
  });

  async function kafkajsMember(group: string, topic: string, seen: Seen<Sighting>): Promise<void> {
    const consumer = raw().kafka.consumer({ groupId: group, ...shortTimeouts });
    onTestFinished(() => consumer.disconnect());
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      eachMessage: async ({ partition }) => seen.add({ member: 'kafkajs', topic, partition }),
    });
  }

  async function nestMember(group: string, topic: string, seen: Seen<Sighting>): Promise<void> {
    @Controller()
    class Reader {
      @EventPattern<string>(topic)
      read(@Payload() _body: unknown, @Ctx() context: NestKafkaContext): void {
        seen.add({ member: 'nest', topic, partition: context.getPartition() });
      }
    }
    const testing = await Test.createTestingModule({ controllers: [Reader] }).compile();
    const app: INestMicroservice = testing.createNestMicroservice({
      transport: Transport.KAFKA,
      logger: false,
      options: {
        client: { brokers: [...brokers!], logLevel: 0 },
        // Nest adds `-server` to the name.
        consumer: { groupId: group.replace(/-server$/, ''), ...shortTimeouts },
        subscribe: { fromBeginning: true },
      },
    });
    onTestFinished(() => app.close());
    await app.listen();
  }

  it.each([
    ["a member of kafkajs's own, which came first", kafkajsMember, 'before'],
    ["a member of kafkajs's own, which came later", kafkajsMember, 'after'],
    ["a member of Nest's own transport, which came first", nestMember, 'before'],
    ["a member of Nest's own transport, which came later", nestMember, 'after'],
  ] as const)('shares its partitions with %s', async (_who, join, when) => {
    const [topic, group] = [await raw().topic(6), `${uniqueName()}-server`];
    const seen = new Seen<Sighting>();
    if (when === 'before') await join(group, topic, seen);
    await stork('stork', group, [topic], seen);
    if (when === 'after') await join(group, topic, seen);
    await stable(group, 2);
    const count = await sendToAll(topic, 6);
    await seen.count(count);
    await raw().settled(group, topic);
    expect(seen.all.length).toBe(count);
    const found = readers(seen.all, topic);
    expect([...found.keys()].toSorted()).toEqual(range(0, 6));
    expect(new Set(found.values()).size).toBe(2);
  });
});
