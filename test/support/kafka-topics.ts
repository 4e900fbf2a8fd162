import type { Admin, IResourceConfigEntry } from 'kafkajs';
import { setTimeout as sleep } from 'node:timers/promises';

const limitMs = 30_000;

/**
 * Creates the topic unless it exists, and resolves when its leaders respond: brokers may learn of it, and of
 * the partitions that they lead, only after the controller has confirmed it.
 */
export async function createTopic(
  admin: Admin,
  topic: string,
  numPartitions: number,
  configEntries: IResourceConfigEntry[] = [],
): Promise<void> {
  const topics = [{ topic, numPartitions, configEntries }];
  await admin.createTopics({ topics, timeout: limitMs, waitForLeaders: false });
  await untilKnown(admin, topic);
  await untilDone(() => admin.fetchTopicOffsets(topic), isLeaderUnknown);
}

/** Resolves when the broker's metadata contains the topic. */
export async function untilKnown(admin: Admin, topic: string): Promise<void> {
  await untilDone(() => admin.fetchTopicMetadata({ topics: [topic] }));
}

/** The committed offsets of the group, by partition; partitions without one are left out. */
export async function committedOffsets(
  admin: Admin,
  groupId: string,
  topic: string,
): Promise<ReadonlyMap<number, number>> {
  const fetched = await untilDone(() => admin.fetchOffsets({ groupId, topics: [topic] }));
  const entries = fetched
    .flatMap(({ partitions }) => partitions)
    .map(({ partition, offset }) => [partition, Number(offset)] as const);
  return new Map(entries.filter(([, offset]) => offset >= 0));
}

/**
 * A new broker, topic or group fails with a retriable error for a moment, which kafkajs does not wait for.
 */
export async function untilDone<T>(
  ask: () => Promise<T>,
  isRefusal: (error: unknown) => boolean = isRetriable,
): Promise<T> {
  for (const until = Date.now() + limitMs; ; await sleep(20)) {
    try {
      return await ask();
    } catch (error) {
      if (!isRefusal(error) || Date.now() > until) throw error;
    }
  }
}

function isRetriable(error: unknown): boolean {
  return (error as { retriable?: unknown }).retriable === true;
}

/** `fetchTopicOffsets` of kafkajs throws a TypeError while the metadata names no leader of a partition. */
function isLeaderUnknown(error: unknown): boolean {
  return error instanceof TypeError || isRetriable(error);
}
