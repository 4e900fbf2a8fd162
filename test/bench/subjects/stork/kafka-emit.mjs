import { getClientToken } from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { order } from '../../order.mjs';
import { pump } from '../../pump.mjs';
import { keyOf, Topic } from '../../topics.mjs';
import { startApp } from './app.mjs';

export async function open({ brokers, messages, partitions, inFlight }) {
  const topic = await Topic.open(brokers, 'stork', partitions);
  const app = await startApp(kafka({ brokers, clientId: topic.name, handlers: 'none' }));
  const client = app.get(getClientToken('main'));
  const publish = (i) => client.publish(topic.name, order(i), { key: keyOf(i) });
  return {
    async round() {
      const ms = await pump(messages, inFlight, publish);
      await topic.expect(messages);
      return ms;
    },
    async close() {
      await app.close();
      await topic.delete();
    },
  };
}
