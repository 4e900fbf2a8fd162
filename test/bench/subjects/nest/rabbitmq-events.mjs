import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { decorate } from '../../decorate.mjs';
import { pattern } from '../../order.mjs';
import { Queue } from '../../queues.mjs';
import { Tally } from '../../tally.mjs';
import { rmq } from './options.mjs';

export async function open({ url, messages }) {
  const queue = await Queue.open(url, 'nest');
  await queue.declare();
  let tally;
  class Orders {
    created(order, context) {
      tally.handled(order);
      context.getChannelRef().ack(context.getMessage());
    }
  }
  const created = { on: [EventPattern(pattern)], parameters: [Payload(), Ctx()] };
  decorate(Orders, [Controller()], { created });
  const App = decorate(class App {}, [Module({ controllers: [Orders] })]);
  return {
    async round() {
      tally = new Tally(messages);
      // Nest reads the pattern from the body.
      await queue.fill(messages, (data) => ({ pattern, data }));
      const options = rmq(url, queue.name, { noAck: false });
      const app = await NestFactory.createMicroservice(App, { ...options, logger: ['error'] });
      await app.listen();
      await tally.complete;
      await queue.settled();
      await app.close();
      await queue.expect(0);
      return tally.elapsed();
    },
    close: () => queue.delete(),
  };
}
