import 'reflect-metadata';
import { Test } from '@nestjs/testing';
import { storkMicroservice } from 'nestjs-stork';
import { AppModule } from './app.module.js';
import { check } from './check.js';

// Jest and Vitest both provide it.
declare const it: (name: string, test: () => Promise<void>) => void;

it('handles, asks, streams and dead-letters', async () => {
  const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
  const app = module.createNestMicroservice({
    ...storkMicroservice(),
    logger: ['fatal'],
    abortOnError: false,
  });
  await app.listen();
  await check(app, 'test');
  await app.close();
});
