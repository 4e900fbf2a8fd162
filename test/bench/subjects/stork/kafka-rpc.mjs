import { Controller } from '@nestjs/common';
import { MessagePattern, Payload } from '@nestjs/microservices';
import { getClientToken } from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { decorate } from '../../decorate.mjs';
import { roundOfRequests } from '../../requests.mjs';
import { Topic } from '../../topics.mjs';
import { startApp } from './app.mjs';

export async function open({ brokers, messages, partitions, inFlight }) {
  const topic = await Topic.open(brokers, 'stork', partitions);
  const groupId = `${topic.name}.group`;
  let tally;
  class Orders {
    echo(order) {
      tally.handled(order);
      return order;
    }
  }
  decorate(Orders, [Controller()], { echo: { on: [MessagePattern(topic.name)], parameters: [Payload()] } });
  const app = await startApp(kafka({ brokers, groupId, fromBeginning: true, concurrency: 100 }), [Orders]);
  const client = app.get(getClientToken('main'));
  return {
    async round() {
      const ms = await roundOfRequests({
        messages,
        inFlight,
        begin: (fresh) => (tally = fresh),
        request: (order) => client.request(topic.name, order),
      });
      await topic.expect(messages);
      return ms;
    },
    async close() {
      await topic.settled(groupId);
      await app.close();
      await topic.expectNone('.dlq');
      await topic.delete();
    },
  };
}
