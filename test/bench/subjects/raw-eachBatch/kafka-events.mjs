import { Kafka, logLevel } from 'kafkajs';
import { Tally } from '../../tally.mjs';
import { fetchWaitMs, Topic } from '../../topics.mjs';

/** At least once: kafkajs resolves and commits each batch once it has been handled. */
export async function open({ brokers, messages, partitions }) {
  const topic = await Topic.open(brokers, 'raw', partitions);
  const groupId = `${topic.name}.group`;
  const kafka = new Kafka({ brokers, clientId: groupId, logLevel: logLevel.ERROR });
  return {
    async round() {
      const tally = new Tally(messages);
      await topic.fill(messages);
      const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: fetchWaitMs });
      await consumer.connect();
      await consumer.subscribe({ topic: topic.name, fromBeginning: true });
      await consumer.run({
        eachBatch: async ({ batch }) => {
          for (const { value } of batch.messages) tally.handled(JSON.parse(value.toString()));
        },
      });
      await tally.complete;
      await topic.settled(groupId);
      await consumer.disconnect();
      return tally.elapsed();
    },
    close: () => topic.delete(),
  };
}
