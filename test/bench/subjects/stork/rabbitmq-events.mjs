import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { decorate } from '../../decorate.mjs';
import { pattern } from '../../order.mjs';
import { prefetch, Queue } from '../../queues.mjs';
import { Tally } from '../../tally.mjs';
import { startApp } from './app.mjs';

export async function open({ url, messages }) {
  const queue = await Queue.open(url, 'stork');
  let tally;
  class Orders {
    created(order) {
      tally.handled(order);
    }
  }
  decorate(Orders, [Controller()], { created: { on: [EventPattern(pattern)], parameters: [Payload()] } });
  const start = () => startApp(rabbitmq({ url, queue: queue.name, prefetch, concurrency: 100 }), [Orders]);
  // Declares the queue and its dead letter queue, so that it can be filled before a consumer starts.
  await (await start()).close();
  return {
    async round() {
      tally = new Tally(messages);
      await queue.fill(messages);
      const app = await start();
      await tally.complete;
      await queue.settled();
      await app.close();
      await queue.expect(0);
      await queue.expect(0, `${queue.name}.dlq`);
      return tally.elapsed();
    },
    close: () => queue.delete(),
  };
}
