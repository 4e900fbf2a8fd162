import { Controller, Get } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { connectStork, StorkClient, StorkModule, StorkService } from 'nestjs-stork';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { Seen } from '../../contract/app.js';
import { startProxy } from '../../support/tcp-proxy.js';
import { activeResources, expectNothingLeft, LogLines } from '../support.js';
import { reconnect, url, useRaw } from './support.js';

/** A broker that can go away. */
async function startBroker() {
  const address = new URL(url!);
  const proxy = await startProxy({ host: address.hostname, port: Number(address.port || 5672) });
  onTestFinished(() => proxy.close());
  address.hostname = '127.0.0.1';
  address.port = String(proxy.port);
  return { proxy, through: address.href };
}

/** An HTTP application with the transport `main`, which it does not require. */
async function startHttp(queue: string, through: string, startTimeoutMs = 60_000) {
  const seen = new Seen<unknown>();
  const logs = new LogLines();
  @Controller()
  class Orders {
    @Get('health')
    health(): string {
      return 'serving';
    }
    @EventPattern<string>('order.created')
    created(@Payload() order: unknown): void {
      seen.add(order);
    }
  }
  const transports = { main: rabbitmq({ url: through, queue, reconnect, required: false }) };
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports, startTimeoutMs })],
    controllers: [Orders],
  }).compile();
  const app = testing.createNestApplication({ logger: logs });
  onTestFinished(() => app.close());
  connectStork(app);
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
  const serves = async () => (await fetch(`${await app.getUrl()}/health`)).text();
  const state = () => app.get(StorkService).state()['main']!;
  return { app, client: app.get(StorkClient), seen, logs, serves, state };
}

/** On a busy machine timers are late; handlers are waited for 30 s, an attempt to start takes a minute. */
const promptMs = 15_000;

describe.skipIf(url === undefined)('RabbitMQ: required: false', () => {
  const raw = useRaw();

  it.each([
    ['in its first attempt to start', 60_000],
    ['after attempts that failed', 500],
  ])('serves HTTP while the broker is away, and consumes once it is back: %s', async (_, startTimeoutMs) => {
    const { proxy, through } = await startBroker();
    proxy.breakOff();
    const queue = raw().queue();
    const { client, seen, serves, state } = await startHttp(queue, through, startTimeoutMs);
    expect(await serves()).toBe('serving');
    await expect.poll(() => state().connection.value).toBe('backoff');
    if (startTimeoutMs < 1_000)
      await expect.poll(() => state().startError).toMatchObject({ code: 'CONNECTION_LOST' });
    expect(state()).toMatchObject({ required: false, started: false });
    proxy.restore();
    await expect.poll(() => state().started).toBe(true);
    await client.publish('order.created', 1);
    expect(await seen.count(1)).toEqual([1]);
    proxy.cut();
    raw().channel.sendToQueue(queue, Buffer.from('2'), { type: 'order.created' });
    await expect.poll(() => seen.all).toContain(2);
    expect(await serves()).toBe('serving');
  });

  it('logs a queue of other properties as an error, and consumes when it is gone', async () => {
    const queue = raw().queue();
    await raw().channel.assertQueue(queue, { arguments: { 'x-queue-type': 'classic' } });
    const { client, seen, logs, state } = await startHttp(queue, url!);
    await expect.poll(() => state().startError).toMatchObject({ code: 'CONFIG' });
    expect(logs.containing('main: not started, the application runs without it')).toHaveLength(1);
    await raw().channel.deleteQueue(queue);
    await expect.poll(() => state()).toMatchObject({ started: true, startError: undefined });
    await client.publish('order.created', 1);
    expect(await seen.count(1)).toEqual([1]);
  });

  it('logs wrong credentials as an error, and serves HTTP', async () => {
    const address = new URL(url!);
    address.password = 'wr0ng';
    const { logs, serves, state } = await startHttp(raw().queue(), address.href);
    await expect.poll(() => state().startError).toMatchObject({ code: 'CONFIG' });
    expect(await serves()).toBe('serving');
    expect(logs.containing('main: not started')).toHaveLength(1);
    expect(logs.containing('wr0ng')).toEqual([]);
  });

  it.each([60_000, 500])(
    'leaves nothing behind when it is closed meanwhile (start: %i ms)',
    async (limitMs) => {
      const { proxy, through } = await startBroker();
      proxy.breakOff();
      const before = activeResources();
      const { app, state } = await startHttp(raw().queue(), through, limitMs);
      await expect.poll(() => state().connection.value).toBe('backoff');
      if (limitMs < 1_000) await expect.poll(() => state().startError).toBeDefined();
      const beganAt = performance.now();
      await app.close();
      expect(performance.now() - beganAt).toBeLessThan(promptMs);
      await expectNothingLeft(before);
    },
  );
});
