import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { storkMicroservice, StorkModule } from 'nestjs-stork';
import { decorate } from '../../decorate.mjs';

/** A worker with the one transport `main`. */
export async function startApp(transport, controllers = [], options = {}) {
  const imports = [StorkModule.forRoot({ transports: { main: transport }, ...options })];
  const App = decorate(class App {}, [Module({ imports, controllers })]);
  const app = await NestFactory.createMicroservice(App, { ...storkMicroservice(), logger: ['error'] });
  await app.listen();
  return app;
}
