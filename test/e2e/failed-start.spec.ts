import { expect, it, onTestFinished } from 'vitest';
import { useWorkerFile } from '../support/worker-file.js';
import { run } from './tour-support.js';

// Workers whose start fails and whose programs only log it: nothing of the library may keep such a process.

const startTimeoutMs = 1_000;
/** On a busy machine timers are late; without `startTimeoutMs` a start takes a minute. */
const promptMs = 15_000;

const program = (transports: string): string => `
import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern } from '@nestjs/microservices';
import { StorkModule, storkMicroservice, via } from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { rabbitmq } from 'nestjs-stork/rabbitmq';

@Controller()
class Orders {
  @EventPattern('created', via('orders'))
  created() {}
}
@Module({
  imports: [StorkModule.forRoot({ startTimeoutMs: ${startTimeoutMs}, transports: ${transports} })],
  controllers: [Orders],
})
class AppModule {}

const app = await NestFactory.createMicroservice(AppModule, { ...storkMicroservice(), logger: ['warn', 'error'] });
const began = Date.now();
app.listen().catch((error) => console.log('failed', error.code, Date.now() - began));
`;

const rabbit = "rabbitmq({ url: 'amqp://127.0.0.1:1', queue: 'orders' })";
const kafka = "kafka({ brokers: ['127.0.0.1:1'], groupId: 'orders' })";
const cases = [
  { name: 'RabbitMQ away', code: 'CONNECTION_LOST', transports: `{ orders: ${rabbit} }` },
  { name: 'Kafka away', code: 'CONNECTION_LOST', transports: `{ orders: ${kafka} }` },
  { name: 'both away', code: 'CONNECTION_LOST', transports: `{ orders: ${rabbit}, billing: ${kafka} }` },
  { name: 'a wrong name in via()', code: 'CONFIG', transports: `{ billing: ${rabbit} }` },
].map((one, i) => ({
  ...one,
  file: useWorkerFile(`test/e2e/failed-start-${i}.ts`, false, {
    [`test/e2e/failed-start-${i}.ts`]: program(one.transports),
  }),
}));

it.each(cases)('a process ends at once after a start that has failed: $name', async ({ code, file }) => {
  const { child, ended, shows } = run(process.execPath, [file], { limitMs: 60_000 });
  onTestFinished(() => void child.kill('SIGKILL'));
  await shows('failed ');
  const failedAt = Date.now();
  const { stdout, stderr } = await ended;
  expect(Date.now() - failedAt).toBeLessThan(promptMs);
  expect(child.exitCode).toBe(0);
  const [, given, tookMs] = /failed (\S+) (\d+)/.exec(stdout)!;
  expect(given).toBe(code);
  expect(Number(tookMs)).toBeLessThan(promptMs);
  expect(stdout + stderr).not.toContain('startAllMicroservices');
});
