import { memory, MemoryBroker } from 'nestjs-stork/memory';
import { order, pattern } from '../../order.mjs';
import { Tally } from '../../tally.mjs';
import { countingController } from '../pass-through.mjs';
import { startApp } from './app.mjs';

const queue = 'orders';

export async function open({ messages }) {
  const broker = new MemoryBroker();
  let tally;
  const controllers = [countingController((order) => tally.handled(order))];
  const start = () => startApp(memory({ queue, broker, concurrency: 100 }), controllers);
  // Declares the queue, so that it can be filled before somebody consumes.
  await (await start()).close();
  const fill = () => {
    for (let i = 0; i < messages; i++) {
      const properties = {
        contentType: 'application/json',
        type: pattern,
        messageId: `m-${i}`,
        timestamp: Date.now(),
      };
      broker.publish('', queue, { body: Buffer.from(JSON.stringify(order(i))), headers: {}, properties });
    }
    globalThis.gc();
  };
  return {
    async round() {
      tally = new Tally(messages);
      fill();
      const app = await start();
      await tally.complete;
      await app.close();
      const left = broker.queue(queue).ready + broker.queue(`${queue}.dlq`).ready;
      if (left > 0) throw new Error(`counts do not add up: ${left} messages left`);
      return tally.elapsed();
    },
    async close() {},
  };
}
