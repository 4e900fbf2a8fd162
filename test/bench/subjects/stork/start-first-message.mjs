import { Controller } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { decorate } from '../../decorate.mjs';
import { pattern } from '../../order.mjs';
import { timeToFirstLine } from '../../processes.mjs';
import { Queue } from '../../queues.mjs';
import { startApp } from './app.mjs';

const program = new URL('start-first-message.program.mjs', import.meta.url);

class Orders {
  created() {}
}
decorate(Orders, [Controller()], { created: { on: [EventPattern(pattern)] } });

export async function open({ url }) {
  const queue = await Queue.open(url, 'stork');
  // Declares the queue and its dead letter queue.
  await (await startApp(rabbitmq({ url, queue: queue.name }), [Orders])).close();
  return {
    async round() {
      await queue.fill(1);
      return timeToFirstLine(program, [url, queue.name]);
    },
    close: () => queue.delete(),
  };
}
