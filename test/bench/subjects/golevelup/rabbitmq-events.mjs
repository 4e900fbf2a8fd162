import 'reflect-metadata';
import { RabbitMQModule, RabbitSubscribe } from '@golevelup/nestjs-rabbitmq';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { decorate } from '../../decorate.mjs';
import { pattern } from '../../order.mjs';
import { prefetch, Queue, quorum } from '../../queues.mjs';
import { Tally } from '../../tally.mjs';

export async function open({ url, messages }) {
  const queue = await Queue.open(url, 'golevelup');
  await queue.declare();
  const exchange = `${queue.name}.exchange`;
  let tally;
  class Orders {
    async created(order) {
      tally.handled(order);
    }
  }
  const subscribe = RabbitSubscribe({
    exchange,
    routingKey: pattern,
    queue: queue.name,
    queueOptions: quorum,
  });
  decorate(Orders, [Injectable()], { created: { on: [subscribe] } });
  const rabbit = RabbitMQModule.forRoot({
    uri: url,
    exchanges: [{ name: exchange, type: 'direct' }],
    prefetchCount: prefetch,
    connectionManagerOptions: { connectionOptions: { noDelay: true } },
  });
  const App = decorate(class App {}, [Module({ imports: [rabbit], providers: [Orders] })]);
  return {
    async round() {
      tally = new Tally(messages);
      await queue.fill(messages);
      const app = await NestFactory.createApplicationContext(App, { logger: ['error'] });
      await tally.complete;
      await queue.settled();
      await app.close();
      await queue.expect(0);
      return tally.elapsed();
    },
    close: () => queue.delete({ exchange }),
  };
}
