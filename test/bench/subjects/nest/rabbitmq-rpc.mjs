import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, MessagePattern, Payload } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import { decorate } from '../../decorate.mjs';
import { pattern } from '../../order.mjs';
import { Queue } from '../../queues.mjs';
import { roundOfRequests } from '../../requests.mjs';
import { rmq } from './options.mjs';

export async function open({ url, messages, inFlight }) {
  const queue = await Queue.open(url, 'nest');
  await queue.declare();
  let tally;
  class Orders {
    echo(order) {
      tally.handled(order);
      return order;
    }
  }
  decorate(Orders, [Controller()], { echo: { on: [MessagePattern(pattern)], parameters: [Payload()] } });
  const App = decorate(class App {}, [Module({ controllers: [Orders] })]);
  const app = await NestFactory.createMicroservice(App, { ...rmq(url, queue.name), logger: ['error'] });
  await app.listen();
  const client = ClientProxyFactory.create(rmq(url, queue.name));
  await client.connect();
  return {
    round: () =>
      roundOfRequests({
        messages,
        inFlight,
        begin: (fresh) => (tally = fresh),
        request: (order) => firstValueFrom(client.send(pattern, order)),
      }),
    async close() {
      client.close();
      await app.close();
      await queue.delete();
    },
  };
}
