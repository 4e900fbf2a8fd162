import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { storkMicroservice } from 'nestjs-stork';
import { AppModule } from './app.module.js';
import { chooseBroker, type Broker } from './brokers.js';
import { Diary } from './diary.js';
import { Story } from './story.js';

try {
  const broker = await chooseBroker(process.argv.slice(2));
  const diary = new Diary();
  diary.open(broker.description);
  await tellStory(broker, diary);
  // Where a claim did not hold, what lies there is left for a look.
  if (diary.isTrue) await broker.cleanUp();
  else process.exitCode = 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

async function tellStory({ transport }: Broker, diary: Diary): Promise<void> {
  const app = await NestFactory.createMicroservice(AppModule.over(transport, diary), {
    ...storkMicroservice(),
    // Retries and dead letters are in the log too; here the diary tells of them.
    logger: ['fatal'],
    abortOnError: false,
  });
  try {
    await app.listen();
    await app.get(Story).tell();
  } finally {
    await app.close();
  }
}
