import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { Controller } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { StorkConfigError } from 'nestjs-stork';
import { RabbitMqDriver } from '../../../lib/rabbitmq/driver.js';
import { systemClock } from '../../../lib/core/runtime/clock.js';
import { Counters } from '../../../lib/core/runtime/reporting.js';
import { eventually } from '../../contract/app.js';
import {
  buildApp,
  crashesDuring,
  later,
  refusal,
  startRabbitApp,
  uniqueQueue,
  url,
  useRaw,
} from './support.js';
import { activeResources, expectNothingLeft, untilSocketWrites } from '../support.js';
import { startStallingProxy } from './stalling-proxy.js';

@Controller()
class Probe {
  @EventPattern<string>('probe')
  probe(): void {}
}

const controllers = [Probe];
const connectionOpenOk = Buffer.from([0, 10, 0, 41]);

function withUrl(change: (address: URL) => void): string {
  const address = new URL(url!);
  change(address);
  return address.href;
}

describe.skipIf(url === undefined)('RabbitMQ: start', () => {
  const raw = useRaw();

  it('fails on an unreachable broker after startTimeoutMs, naming the address without the password', async () => {
    const closed = createServer().listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = closed.address() as AddressInfo;
    closed.close();
    const before = activeResources();
    const { error, tookMs } = await refusal({
      controllers,
      options: { url: `amqp://me:s3cret@127.0.0.1:${port}`, queue: 'never' },
      module: { startTimeoutMs: 2_000 },
    });
    expect(error).toMatchObject({ code: 'CONNECTION_LOST' });
    expect(error.message).toContain(`127.0.0.1:${port}`);
    expect(error.message).toContain('ECONNREFUSED');
    expect(error.stack).not.toContain('s3cret');
    expect(tookMs).toBeGreaterThanOrEqual(1_990);
    expect(tookMs).toBeLessThan(10_000);
    await expectNothingLeft(before);
  });

  it('fails after startTimeoutMs if the server accepts the connection and never responds', async () => {
    const sockets = new Set<Socket>();
    const mute = createServer((socket) => sockets.add(socket)).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      mute.close();
    });
    const { port } = mute.address() as AddressInfo;
    const { error, tookMs } = await refusal({
      controllers,
      options: { url: `amqp://me:s3cret@127.0.0.1:${port}`, queue: 'never' },
      module: { startTimeoutMs: 300 },
    });
    expect(error).toMatchObject({ code: 'CONNECTION_LOST' });
    expect(tookMs).toBeLessThan(10_000);
  });

  it('fails after startTimeoutMs if the connection stalls after the handshake', async () => {
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    proxy.stallAfter(connectionOpenOk);
    const outcome = await Promise.race([
      refusal({
        controllers,
        options: { url: proxy.url, queue: raw().queue() },
        module: { startTimeoutMs: 300 },
      }),
      later(15_000).then(() => 'listen() still waits'),
    ]);
    expect(outcome).toMatchObject({ error: { code: 'CONNECTION_LOST' } });
  });

  it('survives a handshake that ends after the start has timed out', async () => {
    const proxy = await startStallingProxy(withUrl((address) => (address.search = '?heartbeat=1')));
    onTestFinished(() => proxy.close());
    // A leaked connection would cause failures in other tests.
    const timers = vi.spyOn(globalThis, 'setInterval');
    onTestFinished(() => {
      for (const { value } of timers.mock.results) clearInterval(value);
      timers.mockRestore();
    });
    const crashes = await crashesDuring(async () => {
      const { app, close } = await buildApp({
        controllers,
        options: { url: proxy.url, queue: 'never' },
        module: { startTimeoutMs: 200 },
      });
      onTestFinished(close);
      proxy.stall();
      await expect(app.listen()).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
      const closed = close();
      // Closing waits for the handshake.
      await later(200);
      proxy.resume();
      await closed;
      // Two missed heartbeats.
      await later(3_600);
    });
    expect(crashes).toEqual([]);
  });

  it('rejects with CLOSED at once when it is closed meanwhile, and leaves nothing open', async () => {
    for (let writes = 0; writes <= 16; writes++) {
      const before = activeResources();
      const { app, close } = await buildApp({ controllers, options: { queue: raw().queue() } });
      const written = untilSocketWrites(writes);
      let outcome: { readonly error?: unknown } | undefined;
      const listening = app.listen().then(
        () => (outcome = {}),
        (error: unknown) => (outcome = { error }),
      );
      await Promise.race([written, listening]);
      await close();
      const { error } = await eventually(async () => outcome, `listen() to settle`, 2_000);
      if (error !== undefined) expect(error, `after ${writes} writes`).toMatchObject({ code: 'CLOSED' });
      await expectNothingLeft(before);
    }
  });

  it.each([
    ['password', (address: URL) => (address.password = 's3cret-wrong'), 'ACCESS'],
    ['virtual host', (address: URL) => (address.pathname = '/no-such-vhost'), 'no-such-vhost'],
  ])('refuses a wrong %s at once', async (_what, change, said) => {
    const before = activeResources();
    const { error, tookMs } = await refusal({
      controllers,
      options: { url: withUrl(change), queue: 'never' },
      module: { startTimeoutMs: 30_000 },
    });
    expect(error.message).toContain(said);
    expect(error).toBeInstanceOf(StorkConfigError);
    expect(`${error.message} ${error.stack} ${String((error.cause as Error).stack)}`).not.toMatch(
      /s3cret|guest@/,
    );
    expect(tookMs).toBeLessThan(10_000);
    await expectNothingLeft(before);
  });

  it('connects to the second address if the first is down', async () => {
    const { service } = await startRabbitApp({
      controllers,
      options: { url: ['amqp://guest:guest@127.0.0.1:1', url!], queue: raw().queue() },
    });
    expect(service.state()['main']!.connection.value).toBe('ready');
  });

  it('names every invalid option', async () => {
    const { error } = await refusal({
      controllers,
      options: {
        url: undefined,
        queue: '',
        prefetch: 0,
        deliveryLimit: -1,
        prefetsch: 3,
        queueType: 'stream',
        exchange: { name: 'x', type: 'headers' },
        reconnect: { delayMs: 5 },
        maxPriority: 3,
      } as never,
    });
    expect(error).toBeInstanceOf(StorkConfigError);
    const names = (error as StorkConfigError).problems.map(({ name }) => name);
    for (const name of [
      'url',
      'queue',
      'prefetch',
      'deliveryLimit',
      'prefetsch',
      'queueType',
      'exchange',
      'reconnect',
      'maxPriority',
    ])
      expect(names).toContain(`transports.main.${name}`);
  });

  it('omits the password of an invalid address from the error', async () => {
    const { error } = await refusal({
      controllers,
      options: { url: 'ampq://me:s3cret@host', queue: 'never' },
    });
    expect(error).toBeInstanceOf(StorkConfigError);
    expect(error.message).toContain('transports.main.url');
    expect(error.message).not.toContain('s3cret');
  });

  it.each([
    ['a classic one', { 'x-queue-type': 'classic' }, 'x-'],
    ['one with another delivery limit', { 'x-queue-type': 'quorum', 'x-delivery-limit': 7 }, 'x-'],
  ])('refuses a queue that exists as %s, naming it and the difference', async (_what, given, difference) => {
    const queue = raw().queue();
    await raw().channel.assertQueue(queue, { durable: true, arguments: given });
    const before = activeResources();
    const { error, tookMs } = await refusal({ controllers, options: { queue } });
    expect(error).toBeInstanceOf(StorkConfigError);
    expect(error.message).toContain(queue);
    expect(error.message).toContain(difference);
    expect(tookMs).toBeLessThan(10_000);
    await expectNothingLeft(before);
  });

  it('names the difference where only the delivery limit differs', async () => {
    const first = await startRabbitApp({ controllers, options: { queue: raw().queue() } });
    await first.close();
    const { error } = await refusal({ controllers, options: { queue: first.queue, deliveryLimit: 7 } });
    expect(error).toBeInstanceOf(StorkConfigError);
    expect(error.message).toContain(first.queue);
    expect(error.message).toContain('x-delivery-limit');
  });

  it('refuses an exchange that exists with another type, naming it', async () => {
    const name = raw().exchange();
    await raw().channel.assertExchange(name, 'fanout');
    const { error } = await refusal({
      controllers,
      options: { queue: raw().queue(), exchange: { name, type: 'topic' } },
    });
    expect(error.message).toContain(name);
    expect(error).toBeInstanceOf(StorkConfigError);
  });

  it('refuses a queue that another connection holds exclusively', async () => {
    const queue = raw().queue();
    await raw().channel.assertQueue(queue, { exclusive: true, durable: false });
    const { error } = await refusal({ controllers, options: { queue } });
    expect(error.message).toContain(queue);
    expect(error).toBeInstanceOf(StorkConfigError);
  });

  it('can be connected again after a first failure', async () => {
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    const warned: string[] = [];
    const note = (line: string): void => void warned.push(line);
    const driver = new RabbitMqDriver(
      { url: proxy.url, queue: uniqueQueue(), reconnect: { delayMs: 10, maxDelayMs: 20 } },
      {
        name: 'main',
        clock: systemClock,
        logger: { log: note, warn: note, error: note, debug: note },
        counters: new Counters(),
        shared: new Map(),
      },
    );
    onTestFinished(() => driver.close(1_000));
    const cutting = setInterval(() => proxy.cut(), 1);
    await expect(driver.connect(AbortSignal.timeout(200))).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
    clearInterval(cutting);
    await driver.connect(AbortSignal.timeout(30_000));
    expect(driver.state.current.value).toBe('ready');
  });
});
