import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { storkMicroservice } from 'nestjs-stork';
import { AppModule } from './app.module.js';
import { chooseBroker, type Broker } from './brokers.js';
import { EventLog } from './event-log.js';
import { Report } from './report.js';

try {
  const broker = await chooseBroker(process.argv.slice(2));
  const log = new EventLog();
  log.open(broker.description);
  await runChapters(broker, log);
  // After a failed claim the queues stay, so that they can be inspected.
  if (log.allHold) await broker.cleanUp();
  else process.exitCode = 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

async function runChapters({ transport }: Broker, log: EventLog): Promise<void> {
  // Nest's log has retries and dead letters too; the sample prints its own lines.
  const options = storkMicroservice({ logger: ['fatal'], abortOnError: false });
  const app = await NestFactory.createMicroservice(AppModule.register(transport, log), options);
  app.enableShutdownHooks();
  try {
    await app.listen();
    await app.get(Report).run();
  } finally {
    await app.close();
  }
}
