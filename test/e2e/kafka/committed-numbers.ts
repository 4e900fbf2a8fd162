import { eventually, uniqueName, type Raw } from './support.js';

/** The numbers that a read_committed consumer reads from a topic up to its current end, sorted. */
export async function committedNumbers(raw: Raw, topic: string): Promise<number[]> {
  const ends = await raw.admin.fetchTopicOffsets(topic);
  const open = new Map(
    ends.filter(({ low, high }) => low !== high).map(({ partition, high }) => [partition, Number(high)]),
  );
  const found: number[] = [];
  const consumer = raw.kafka.consumer({ groupId: uniqueName(), maxWaitTimeInMs: 50 });
  await consumer.connect();
  try {
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    consumer.on('consumer.end_batch_process', ({ payload: { partition, lastOffset } }) => {
      if (Number(lastOffset) + 1 >= (open.get(partition) ?? 0)) open.delete(partition);
    });
    await consumer.run({
      eachMessage: async ({ message }) => void found.push(Number(message.value)),
    });
    await eventually(() => (open.size === 0 ? true : undefined), `all of ${topic}`);
  } finally {
    await consumer.disconnect();
  }
  return found.toSorted((a, b) => a - b);
}
