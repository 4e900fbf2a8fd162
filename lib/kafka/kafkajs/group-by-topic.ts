import type { TopicPartition } from '../client/client.js';

export function partitionsByTopic(at: readonly TopicPartition[]): { topic: string; partitions: number[] }[] {
  return groupByTopic(at, ({ partition }) => partition);
}

/** Groups partitions as requests of the Kafka protocol list them. */
export function groupByTopic<T extends TopicPartition, R>(
  all: readonly T[],
  entry: (one: T) => R,
): { topic: string; partitions: R[] }[] {
  const topics = new Map<string, R[]>();
  for (const one of all) {
    const partitions = topics.get(one.topic) ?? [];
    topics.set(one.topic, partitions);
    partitions.push(entry(one));
  }
  return [...topics].map(([topic, partitions]) => ({ topic, partitions }));
}
