import { memory, MemoryBroker } from 'nestjs-stork/memory';
import { order, pattern } from '../order.mjs';
import { Tally } from '../tally.mjs';
import { countingController } from './pass-through.mjs';
import { startApp } from './stork/app.mjs';

const queue = 'orders';

/**
 * A stork worker on the memory driver, its queue filled before each round. `on`: decorators of its handler;
 * `module`: creates the options of StorkModule.
 */
export async function openOnMemory({ messages }, { on = [], module = () => ({}) } = {}) {
  const broker = new MemoryBroker();
  let tally;
  let rounds = 0;
  const controllers = [countingController((order) => tally.handled(order), on)];
  const start = () => startApp(memory({ queue, broker, concurrency: 100 }), controllers, module());
  // Declares the queue, so that it can be filled before a consumer starts.
  await (await start()).close();
  const fill = () => {
    rounds++;
    for (let i = 0; i < messages; i++) {
      const properties = {
        contentType: 'application/json',
        type: pattern,
        // New ids in each round: an idempotent handler would skip those of an earlier round.
        messageId: `m-${rounds}-${i}`,
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
