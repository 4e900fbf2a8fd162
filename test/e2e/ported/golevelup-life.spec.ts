import { gunzipSync, gzipSync } from 'node:zlib';
import { Controller, Get, type CallHandler, type ExecutionContext } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { StorkContext, type MessageCodec } from 'nestjs-stork';
import { rabbitmq, type RabbitMqOptions } from 'nestjs-stork/rabbitmq';
import { Gate, Seen } from '../../contract/app.js';
import { buildApp, later, reconnect, startRabbitApp, url, useRaw } from '../rabbitmq/support.js';
import { asJson } from './golevelup-support.js';
import { startHybrid, uniqueSource } from './support.js';

const gzippedJson: MessageCodec = {
  contentType: 'application/json',
  encode: (value) => gzipSync(JSON.stringify(value)),
  decode: (body) => JSON.parse(gunzipSync(body).toString()) as unknown,
};

describe.skipIf(url === undefined)('golevelup: the life of a message and of an application', () => {
  const raw = useRaw();

  /** A controller that records what it gets. */
  function recorder() {
    const seen = new Seen<unknown>();
    @Controller()
    class Subscriber {
      @EventPattern(['route.1', 'route.2'])
      handle(@Payload() data: unknown): void {
        seen.add(data);
      }
    }
    return { seen, controllers: [Subscriber] };
  }

  it('a message that its handler rejects is not handled again', async () => {
    const calls = vi.fn();
    @Controller()
    class Rejecting {
      @EventPattern<string>('route')
      handle(@Ctx() context: StorkContext): void {
        calls();
        context.nack({ requeue: false });
      }
    }
    const queue = raw().queue(uniqueSource());
    const { client } = await startRabbitApp({ controllers: [Rejecting], options: { queue } });
    await client.publish('route', { message: 'nack' });
    await raw().deadLetters(`${queue}.dlq`, 1);
    expect(calls).toHaveBeenCalledTimes(1);
    expect(await raw().count(queue)).toBe(0);
  });

  it('a message that its handler requeues twice and then rejects is handled three times', async () => {
    const calls = vi.fn();
    @Controller()
    class Requeuing {
      @EventPattern<string>('route')
      handle(@Ctx() context: StorkContext): void {
        calls();
        context.nack({ requeue: calls.mock.calls.length < 3 });
      }
    }
    const queue = raw().queue(uniqueSource());
    const { client } = await startRabbitApp({ controllers: [Requeuing], options: { queue } });
    await client.publish('route', { message: 'requeue' });
    await raw().deadLetters(`${queue}.dlq`, 1);
    expect(calls).toHaveBeenCalledTimes(3);
  });

  it('a shutdown waits for a running handler', async () => {
    const [gate, began, ended] = [new Gate(), new Seen<unknown>(), vi.fn()];
    @Controller()
    class Slow {
      @EventPattern<string>('route')
      async handle(@Payload() data: unknown): Promise<void> {
        began.add(data);
        await gate.opened;
        ended(data);
      }
    }
    const queue = raw().queue(uniqueSource());
    const worker = await startRabbitApp({ controllers: [Slow], options: { queue } });
    await worker.client.publish('route', 'message');
    await began.count(1);
    const closed = vi.fn();
    const closing = worker.close().then(closed);
    // In this time an application whose handlers are idle has closed.
    await later(200);
    expect([ended.mock.calls, closed.mock.calls]).toEqual([[], []]);
    gate.open();
    await closing;
    expect(ended.mock.calls).toEqual([['message']]);
    expect(await raw().count(queue)).toBe(0);
  });

  it('a consumer that stops gets nothing, and what waits when it consumes again', async () => {
    const { seen, controllers } = recorder();
    const options = { queue: raw().queue(uniqueSource()) };
    const first = await startRabbitApp({ controllers, options });
    await first.client.publish('route.1', 1);
    expect(await seen.count(1)).toEqual([1]);
    await first.close();

    raw().channel.sendToQueue(options.queue, Buffer.from('2'), { ...asJson, type: 'route.1' });
    await raw().confirmed();
    expect(await raw().count(options.queue)).toBe(1);
    expect(seen.all).toEqual([1]);
    await startRabbitApp({ controllers, options });
    expect(await seen.count(2)).toEqual([1, 2]);
  });

  it('no handler is called where the transport has none', async () => {
    const { seen, controllers } = recorder();
    const exchange = { name: raw().exchange(), type: 'topic' } as const;
    const options: Partial<RabbitMqOptions> = { exchange, handlers: 'none' };
    const { client } = await startRabbitApp({ controllers, options });
    for (const pattern of ['route.1', 'route.2']) {
      await expect(client.publish(pattern, 1)).rejects.toMatchObject({ code: 'NO_ROUTE' });
    }
    expect(seen.all).toEqual([]);
  });

  it.each(['module', 'transport'])('a codec of the %s writes and reads every body', async (level) => {
    const { seen, controllers } = recorder();
    const queue = raw().queue(uniqueSource());
    const codecs = { codecs: [gzippedJson] };
    const { client } = await startRabbitApp({
      controllers,
      options: { queue, ...(level === 'transport' ? codecs : {}) },
      module: level === 'module' ? codecs : {},
    });
    await client.publish('route.1', 'message 1');
    await client.publish('route.2', 'message 2');
    expect((await seen.count(2)).toSorted()).toEqual(['message 1', 'message 2']);
  });

  it('an interceptor that is global in the application can tell a message from a request over HTTP', async () => {
    const { seen, controllers } = recorder();
    const intercepted: unknown[] = [];
    const built = await buildApp({ controllers, options: { queue: raw().queue(uniqueSource()) } });
    onTestFinished(built.close);
    built.app.useGlobalInterceptors({
      intercept(context: ExecutionContext, next: CallHandler) {
        intercepted.push([context.getType(), context.switchToRpc().getContext() instanceof StorkContext]);
        return next.handle();
      },
    });
    await built.app.listen();
    await built.client.publish('route.1', 1);
    await seen.count(1);
    expect(intercepted).toEqual([['rpc', true]]);
  });

  it('HTTP is served although the broker is away, if the transport is not required', async () => {
    @Controller()
    class Routes {
      @Get()
      hello(): string {
        return 'hello';
      }
    }
    const { controllers } = recorder();
    const options = { url: 'amqp://127.0.0.1:1', queue: uniqueSource(), reconnect, required: false };
    const { app } = await startHybrid({
      stork: { transports: { main: rabbitmq(options) }, startTimeoutMs: 300 },
      controllers: [...controllers, Routes],
    });
    onTestFinished(() => app.close());
    const reply = await fetch(await app.getUrl());
    expect([reply.status, await reply.text()]).toEqual([200, 'hello']);
  });
});
