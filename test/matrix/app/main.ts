import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { connectStork, storkMicroservice } from 'nestjs-stork';
import { AppModule } from './app.module.js';
import { check } from './check.js';

async function worker(): Promise<void> {
  const options = storkMicroservice({ logger: ['fatal'], abortOnError: false });
  const app = await NestFactory.createMicroservice(AppModule, options);
  await app.listen();
  await check(app, 'worker');
  await app.close();
}

async function hybrid(): Promise<void> {
  const app = await NestFactory.create(AppModule, { logger: ['fatal'], abortOnError: false });
  connectStork(app);
  await app.startAllMicroservices();
  await app.init();
  await check(app, 'hybrid');
  await app.close();
}

async function main(): Promise<void> {
  await worker();
  await hybrid();
  console.log('worker and hybrid work');
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
