import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { KafkaContext } from 'nestjs-stork/kafka';
import { throwAwayCluster, type ClusterNode, type ThrowAwayCluster } from '../../support/brokers/index.mjs';
import { createTopic, untilKnown } from '../../support/kafka-topics.js';
import { Foreign, refusal, startKafkaApp, uniqueTopic } from './kafka-app.js';
import { brokers, PublishLog, startSender } from './support-produce.js';

interface Handled {
  readonly n: number;
  readonly partition: number;
  readonly offset: number;
}

const partitions = 6;
/** Longer than the cluster takes to notice the loss of a node. */
const timeoutMs = 90_000;
const limitMs = 300_000;
const config = [
  // A killed node is fenced after this time; a busy node must not be.
  'broker.session.timeout.ms=7000',
  // Leaders move only when the test moves them.
  'auto.leader.rebalance.enable=false',
];

describe.skipIf(brokers === undefined)('Kafka: three brokers', () => {
  let cluster: ThrowAwayCluster | undefined;
  let beside: Foreign;

  beforeAll(async () => {
    cluster = await throwAwayCluster('kafka', { brokers: 3, version: inject('kafkaVersion'), config });
    beside = new Foreign(cluster.brokers);
    await beside.open();
  }, 120_000);
  afterAll(() => cluster?.remove(), 30_000);

  async function newTopic(): Promise<string> {
    const topic = uniqueTopic();
    await createTopic(beside.admin, topic, partitions);
    await inSync(topic);
    await Promise.all(cluster!.nodes.map(({ address }) => knownTo(address, topic)));
    return topic;
  }

  async function knownTo(address: string, topic: string): Promise<void> {
    // Without metadata a client sends its requests to the seed node.
    const { admin } = new Foreign([address]);
    await admin.connect();
    try {
      await untilKnown(admin, topic);
    } finally {
      await admin.disconnect();
    }
  }

  /** Resolves when every replica of the topic is in sync. */
  async function inSync(topic: string): Promise<void> {
    const isWhole = async (): Promise<boolean> => {
      const { topics } = await beside.admin
        .fetchTopicMetadata({ topics: [topic] })
        .catch(() => ({ topics: [] }));
      return topics.length > 0 && topics.every((one) => one.partitions.every(({ isr }) => isr.length === 3));
    };
    await expect.poll(isWhole, { timeout: timeoutMs, interval: 100 }).toBe(true);
  }

  async function leaderOf(topic: string, partition: number): Promise<ClusterNode> {
    const { topics } = await beside.admin.fetchTopicMetadata({ topics: [topic] });
    const { leader } = topics[0]!.partitions.find(({ partitionId }) => partitionId === partition)!;
    return cluster!.nodes.find(({ id }) => id === leader)!;
  }

  /** A log is read afterwards without cached metadata of its former leader. */
  async function recordsOf(topic: string, count: number) {
    const reader = new Foreign(cluster!.brokers);
    await reader.reader.connect();
    try {
      return await reader.records(topic, count);
    } finally {
      await reader.reader.close();
    }
  }

  it.each([
    ['stopped in good order', false],
    ['killed', true],
  ] as const)(
    'a partition’s leader is %s under load: what was confirmed is in the log, in order, and once if so (idempotent: %s)',
    async (way, idempotent) => {
      const topic = await newTopic();
      const { client, connection } = await startSender({ brokers: cluster!.brokers, idempotent });
      // Sequentially within a partition, all partitions in parallel.
      const publishLog = new PublishLog(client, topic, (n) => ({ partition: n % partitions }));
      const load = publishLog.load(60);
      await expect.poll(() => publishLog.confirmed.length).toBeGreaterThan(500);
      const node = await leaderOf(topic, 0);
      await (way === 'killed' ? node.kill() : node.stop());
      const last = publishLog.count;
      const isThrough = (): boolean => {
        const after = publishLog.confirmed.filter((n) => n > last + 60);
        return new Set(after.map((n) => n % partitions)).size === partitions;
      };
      await expect.poll(isThrough, { timeout: timeoutMs, interval: 100 }).toBe(true);
      await load.stop();
      await node.start();
      const { confirmed, ...failures } = publishLog.outcomes;
      console.log(
        `leader ${way}: longest wait for a confirmation ${Math.round(publishLog.longestGapMs)} ms, ` +
          `${confirmed} confirmed, ${JSON.stringify(failures)}`,
      );
      expect(Object.keys(failures).filter((code) => code !== 'PUBLISH_UNCONFIRMED')).toEqual([]);
      expect(publishLog.lies(await recordsOf(topic, confirmed!), idempotent ? 0 : 1)).toEqual([]);
      expect(connection().value).toBe('ready');
    },
    limitMs,
  );

  it.each(['leader', 'coordinator'] as const)(
    'a %s is killed while messages are consumed and produced: nothing is lost, only uncommitted records are redelivered',
    async (who) => {
      const topic = await newTopic();
      const handled: Handled[] = [];
      let longestMs = 0;
      let lastAt: number | undefined;
      @Controller()
      class Consumer {
        @EventPattern<string>(topic)
        handle(@Payload() n: number, @Ctx() context: KafkaContext): void {
          const now = performance.now();
          if (lastAt !== undefined) longestMs = Math.max(longestMs, now - lastAt);
          lastAt = now;
          handled.push({ n, partition: context.partition, offset: Number(context.offset) });
        }
      }
      const { client, groupId } = await startKafkaApp({
        controllers: [Consumer],
        options: { brokers: cluster!.brokers, partitions, sessionTimeoutMs: 6_000, heartbeatIntervalMs: 500 },
      });
      const publishLog = new PublishLog(client, topic, (n) => ({ partition: n % partitions }));
      const load = publishLog.load(30);
      await expect.poll(() => handled.length).toBeGreaterThan(1_000);
      const node = await (who === 'leader' ? leaderOf(topic, 0) : coordinatorOf(groupId));
      const committed = await beside.admin.fetchOffsets({ groupId, topics: [topic] });
      await node.kill();
      lastAt = performance.now();
      longestMs = 0;
      const after = publishLog.count + 300;
      await expect
        .poll(() => handled.filter(({ n }) => n > after).length, { timeout: timeoutMs, interval: 100 })
        .toBeGreaterThan(300);
      await load.stop();
      const seen = (): ReadonlySet<number> => new Set(handled.map(({ n }) => n));
      const missing = (): readonly number[] => {
        const known = seen();
        return publishLog.confirmed.filter((n) => !known.has(n));
      };
      await expect.poll(missing, { timeout: timeoutMs, interval: 100 }).toEqual([]);
      const again = comesAgain(handled);
      console.log(
        `${who} killed: longest wait for a message ${Math.round(longestMs)} ms, for a confirmation ` +
          `${Math.round(publishLog.longestGapMs)} ms; ${handled.length} handled, ${again.length} of them again; ` +
          JSON.stringify(publishLog.outcomes),
      );
      const offsets = new Map(committed[0]!.partitions.map((one) => [one.partition, Number(one.offset)]));
      expect(again.filter(({ partition, offset }) => offset < offsets.get(partition)!)).toEqual([]);
      expect(overtakings(handled)).toEqual([]);
      await node.start();
      expect(publishLog.lies(await recordsOf(topic, publishLog.confirmed.length), 1)).toEqual([]);
    },
    limitMs,
  );

  async function coordinatorOf(groupId: string): Promise<ClusterNode> {
    // The coordinator is the leader of the group's partition of __consumer_offsets.
    const { topics } = await beside.admin.fetchTopicMetadata({ topics: ['__consumer_offsets'] });
    const count = topics[0]!.partitions.length;
    return leaderOf('__consumer_offsets', Math.abs(javaHash(groupId)) % count);
  }

  it('does not start on a cluster other than the configured one', async () => {
    const { clusterId } = await beside.admin.describeCluster();
    const other = 'AAAAAAAAAAAAAAAAAAAAAA';
    const { error } = await refusal({ options: { brokers: cluster!.brokers, clusterId: other } });
    expect(error).toMatchObject({
      code: 'CONFIG',
      problems: [{ name: 'transports.main.clusterId', expected: other, given: clusterId }],
    });
    const { client } = await startSender({ brokers: cluster!.brokers, clusterId });
    await client.publish(await newTopic(), 1);
    await beside.close();
  }, 180_000);
});

/** Every attempt of a record except the first. */
function comesAgain(handled: readonly Handled[]): readonly Handled[] {
  const seen = new Set<string>();
  return handled.filter(({ partition, offset }) => {
    const place = `${partition}/${offset}`;
    if (seen.has(place)) return true;
    seen.add(place);
    return false;
  });
}

/** First attempts that came after a later record of their partition. */
function overtakings(handled: readonly Handled[]): readonly Handled[] {
  const last = new Map<number, number>();
  const again = new Set(comesAgain(handled));
  return handled.filter((one) => {
    if (again.has(one)) return false;
    const isLate = one.offset < (last.get(one.partition) ?? -1);
    last.set(one.partition, one.offset);
    return isLate;
  });
}

/** The hash by which Kafka chooses the partition of a group. */
function javaHash(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return hash;
}
