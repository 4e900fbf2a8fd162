import { getClientToken } from 'nestjs-stork';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { order, pattern } from '../../order.mjs';
import { pump } from '../../pump.mjs';
import { Queue } from '../../queues.mjs';
import { startApp } from './app.mjs';

export async function open({ url, messages, inFlight }) {
  const queue = await Queue.open(url, 'stork');
  await queue.declare();
  const app = await startApp(rabbitmq({ url, handlers: 'none', publishTo: { queue: queue.name } }));
  const client = app.get(getClientToken('main'));
  return {
    async round() {
      const ms = await pump(messages, inFlight, (i) => client.publish(pattern, order(i)));
      await queue.expect(messages);
      await queue.purge();
      return ms;
    },
    async close() {
      await app.close();
      await queue.delete();
    },
  };
}
