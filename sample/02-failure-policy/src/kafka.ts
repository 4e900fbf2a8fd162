import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Admin } from 'kafkajs';
import { kafka } from 'nestjs-stork/kafka';
import type { Broker } from './brokers.js';

/** The brokers at `KAFKA_BROKERS`, or the one on this machine; with new topics for each run. */
export function onKafka(): Broker {
  const brokers = (process.env['KAFKA_BROKERS'] ?? '127.0.0.1:9092').split(',');
  const topic = `stork-failure-policy.${randomUUID().slice(0, 8)}`;
  const patternHeader = 'stork-pattern';
  return {
    transport: kafka({ brokers, topic, groupId: topic, patternHeader, fromBeginning: true, partitions: 1 }),
    description: `kafka, topic ${topic}`,
    cleanUp: () => deleteTopics(brokers, topic),
  };
}

/** Deletes the topic and its dead letter, retry and reply topics. */
async function deleteTopics(brokers: string[], topic: string): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    const topics = (await admin.listTopics()).filter((name) => name.startsWith(topic));
    await admin.deleteTopics({ topics });
    const { groups } = await admin.listGroups();
    const created = groups.map(({ groupId }) => groupId).filter((id) => id.startsWith(topic));
    await deleteGroups(admin, created);
  } finally {
    await admin.disconnect();
  }
}

/** A group whose members have just left may not be empty yet, so a refused deletion is repeated. */
async function deleteGroups(admin: Admin, groups: readonly string[]): Promise<void> {
  let left = [...groups];
  for (const until = Date.now() + 60_000; ; await sleep(200)) {
    try {
      await admin.deleteGroups(left);
      return;
    } catch (error) {
      if (!(error instanceof kafkajs.KafkaJSDeleteGroupsError) || Date.now() > until) throw error;
      left = error.groups.map(({ groupId }) => groupId);
    }
  }
}
