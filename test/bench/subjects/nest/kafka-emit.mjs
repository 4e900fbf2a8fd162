import { ClientKafka } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import { order } from '../../order.mjs';
import { pump } from '../../pump.mjs';
import { keyOf, Topic } from '../../topics.mjs';
import { kafka } from './kafka-options.mjs';

export async function open({ brokers, messages, partitions, inFlight }) {
  const topic = await Topic.open(brokers, 'nest', partitions);
  const client = new ClientKafka(kafka(brokers, topic.name, { producerOnlyMode: true }).options);
  await client.connect();
  const emit = (i) => firstValueFrom(client.emit(topic.name, { key: keyOf(i), value: order(i) }));
  return {
    async round() {
      const ms = await pump(messages, inFlight, emit);
      await topic.expect(messages);
      return ms;
    },
    async close() {
      await client.close();
      await topic.delete();
    },
  };
}
