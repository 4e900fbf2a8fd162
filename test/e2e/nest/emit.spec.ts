import { Controller, Logger } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import { afterEach, expect, it, onTestFinished } from 'vitest';
import { StorkClient, StorkModule, storkMicroservice, StorkService } from 'nestjs-stork';
import { memory, MemoryBroker } from 'nestjs-stork/memory';
import { Test } from '@nestjs/testing';
import { LogLines } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

@Controller()
class Orders {
  @EventPattern<string>('created')
  created(): void {}
}

async function start() {
  const logs = new LogLines();
  const transport = memory({
    queue: 'orders',
    broker: new MemoryBroker(),
    exchange: { name: 'shop', type: 'topic' },
  });
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports: { main: transport } })],
    controllers: [Orders],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: logs });
  onTestFinished(() => app.close());
  await app.listen();
  const failed = () => app.get(StorkService).state()['main']!.counts['emit-failed'] ?? 0;
  return { client: app.get(StorkClient), logs, failed };
}

it.each([
  ['is not routed', 'nobody.bound', { id: 1 }, 'emit("nobody.bound") failed: '],
  [
    'cannot be encoded',
    'created',
    { n: 1n },
    'emit("created") failed: the data for pattern "created" cannot',
  ],
  ['has no pattern', undefined, {}, 'emit(undefined) failed: '],
])('an emit() that nobody subscribes to is logged and counted if it %s', async (_, pattern, data, line) => {
  const { client, logs, failed } = await start();
  client.emit(pattern, data);
  await expect.poll(failed).toBe(1);
  expect(logs.containing(line)).toHaveLength(1);
});

it('tells its subscriber instead', async () => {
  const { client, logs, failed } = await start();
  await expect(firstValueFrom(client.emit('nobody.bound', {}))).rejects.toMatchObject({ code: 'NO_ROUTE' });
  await expect(firstValueFrom(client.emit(undefined, {}))).rejects.toThrow();
  await new Promise(setImmediate);
  expect([failed(), logs.containing('emit(')]).toEqual([0, []]);
});

it('sends once, whoever subscribes', async () => {
  const { client, failed } = await start();
  const emitted = client.emit('created', { id: 1 });
  await Promise.all([
    firstValueFrom(emitted, { defaultValue: undefined }),
    firstValueFrom(emitted, { defaultValue: 0 }),
  ]);
  expect(failed()).toBe(0);
});
