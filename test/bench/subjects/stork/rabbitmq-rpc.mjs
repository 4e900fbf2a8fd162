import { Controller } from '@nestjs/common';
import { MessagePattern, Payload } from '@nestjs/microservices';
import { getClientToken } from 'nestjs-stork';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { decorate } from '../../decorate.mjs';
import { pattern } from '../../order.mjs';
import { prefetch, Queue } from '../../queues.mjs';
import { roundOfRequests } from '../../requests.mjs';
import { startApp } from './app.mjs';

export async function open({ url, messages, inFlight }) {
  const queue = await Queue.open(url, 'stork');
  let tally;
  class Orders {
    echo(order) {
      tally.handled(order);
      return order;
    }
  }
  decorate(Orders, [Controller()], { echo: { on: [MessagePattern(pattern)], parameters: [Payload()] } });
  const app = await startApp(rabbitmq({ url, queue: queue.name, prefetch, concurrency: 100 }), [Orders]);
  const client = app.get(getClientToken('main'));
  return {
    round: () =>
      roundOfRequests({
        messages,
        inFlight,
        begin: (fresh) => (tally = fresh),
        request: (order) => client.request(pattern, order),
      }),
    async close() {
      await queue.settled();
      await app.close();
      await queue.expect(0);
      await queue.delete();
    },
  };
}
