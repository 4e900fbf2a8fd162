import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern } from '@nestjs/microservices';
import { decorate } from '../../decorate.mjs';
import { pattern } from '../../order.mjs';
import { rmq } from './options.mjs';

const [url, queue] = process.argv.slice(2);
let handled;
const first = new Promise((resolve) => {
  handled = resolve;
});
class Orders {
  created(context) {
    context.getChannelRef().ack(context.getMessage());
    console.log('handled');
    handled();
  }
}
decorate(Orders, [Controller()], { created: { on: [EventPattern(pattern)], parameters: [Ctx()] } });
const App = decorate(class App {}, [Module({ controllers: [Orders] })]);
const options = rmq(url, queue, { noAck: false });
const app = await NestFactory.createMicroservice(App, { ...options, logger: ['error'] });
await app.listen();
await first;
await app.close();
