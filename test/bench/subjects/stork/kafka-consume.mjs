import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { kafka } from 'nestjs-stork/kafka';
import { decorate } from '../../decorate.mjs';
import { Tally } from '../../tally.mjs';
import { Topic } from '../../topics.mjs';
import { startApp } from './app.mjs';

/** A topic that is filled and then consumed by one event handler, `handle(tally, order)`. */
export async function openConsumer({ brokers, messages, partitions }, handle) {
  const topic = await Topic.open(brokers, 'stork', partitions);
  const groupId = `${topic.name}.group`;
  let tally;
  class Orders {
    created(order) {
      return handle(tally, order);
    }
  }
  decorate(Orders, [Controller()], { created: { on: [EventPattern(topic.name)], parameters: [Payload()] } });
  return {
    async round() {
      tally = new Tally(messages);
      await topic.fill(messages);
      const app = await startApp(kafka({ brokers, groupId, fromBeginning: true, concurrency: 100 }), [
        Orders,
      ]);
      await tally.complete;
      await topic.settled(groupId);
      await app.close();
      await topic.expectNone('.dlq');
      return tally.elapsed();
    },
    close: () => topic.delete(),
  };
}
