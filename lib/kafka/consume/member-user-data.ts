import type { TopicPartition } from '../client/client.js';

// User data of each JoinGroup for the sticky assignor: the partitions that the member has owned.

/** Keeps a JoinGroup request small in a group of thousands of partitions. */
const maxUserDataBytes = 64_000;

/** As JSON, e.g. `{"orders":[0,1]}`, of at most 64 kB. Partitions that do not fit are omitted. */
export function encodeOwnedPartitions(owned: readonly TopicPartition[]): Buffer {
  const topics = new Map<string, number[]>();
  let bytes = 2;
  for (const { topic, partition } of owned) {
    const partitions = topics.get(topic);
    const text = partitions === undefined ? `${JSON.stringify(topic)}:[${partition}],` : `,${partition}`;
    bytes += Buffer.byteLength(text);
    if (bytes > maxUserDataBytes) break;
    if (partitions === undefined) topics.set(topic, [partition]);
    else partitions.push(partition);
  }
  return Buffer.from(JSON.stringify(Object.fromEntries(topics)));
}

/** No partitions if the user data is another assignor's, or any part of it is invalid. */
export function decodeOwnedPartitions(userData: Buffer | undefined): readonly TopicPartition[] {
  const topics = userData === undefined || userData.length > maxUserDataBytes ? undefined : parse(userData);
  if (!isPartitionsByTopic(topics)) return [];
  return Object.entries(topics).flatMap(([topic, partitions]) =>
    partitions.map((partition) => ({ topic, partition })),
  );
}

function parse(json: Buffer): unknown {
  try {
    return JSON.parse(json.toString());
  } catch {
    return undefined;
  }
}

function isPartitionsByTopic(value: unknown): value is Readonly<Record<string, readonly number[]>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((list: unknown) => Array.isArray(list) && list.every(isPartition));
}

function isPartition(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
