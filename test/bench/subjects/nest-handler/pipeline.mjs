import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BaseRpcContext, Server } from '@nestjs/microservices';
import { isObservable, lastValueFrom } from 'rxjs';
import { decorate } from '../../decorate.mjs';
import { order } from '../../order.mjs';
import { Tally } from '../../tally.mjs';
import { countingController } from '../pass-through.mjs';

/** A transport strategy that exposes the handler that Nest has bound, and receives nothing. */
class Catcher extends Server {
  handler;
  addHandler(_pattern, handler) {
    this.handler = handler;
  }
  listen(callback) {
    callback();
  }
  close() {}
  on() {}
  unwrap() {}
}

/** The bare handler: no broker, no bytes, sequential calls, each awaited. */
export async function open({ messages }) {
  let tally;
  const controllers = [countingController((order) => tally.handled(order))];
  const App = decorate(class App {}, [Module({ controllers })]);
  const strategy = new Catcher();
  const app = await NestFactory.createMicroservice(App, { strategy, logger: ['error'] });
  await app.listen();
  const values = Array.from({ length: messages }, (_, i) => order(i));
  return {
    async round() {
      tally = new Tally(messages);
      globalThis.gc();
      for (const value of values) {
        const result = await strategy.handler(value, new BaseRpcContext([value]));
        if (isObservable(result)) await lastValueFrom(result, { defaultValue: undefined });
      }
      return tally.elapsed();
    },
    close: () => app.close(),
  };
}
