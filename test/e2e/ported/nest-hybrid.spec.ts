import { Controller, type ArgumentsHost, type INestMicroservice } from '@nestjs/common';
import { MessagePattern, Payload } from '@nestjs/microservices';
import { EMPTY, lastValueFrom } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { activeResources, expectNothingLeft } from '../support.js';
import { startRabbitApp, url, useRaw } from '../rabbitmq/support.js';
import { SumRoutes, Sums } from './sums.js';
import { startHybrid, transports, uniqueSource, type Hybrid } from './support.js';

const signal = 'SIGTERM';

describe.each(transports)('Nest: a hybrid application with $name', ({ isSkipped, use }) => {
  describe.skipIf(isSkipped)('whose microservice has global enhancers and shutdown hooks', () => {
    const define = use();
    const numbers = [1, 2, 3, 4, 5];
    const called = { guard: vi.fn(), pipe: vi.fn(), interceptor: vi.fn(), filter: vi.fn() };
    const listenersBefore = process.listenerCount(signal);
    let hybrid: Hybrid;

    function prepare(microservice: INestMicroservice): void {
      microservice.useGlobalGuards({
        canActivate: (context) => {
          called.guard(context.getType());
          return true;
        },
      });
      microservice.useGlobalPipes({
        transform: (value: unknown) => {
          called.pipe(value);
          return value;
        },
      });
      microservice.useGlobalInterceptors({
        intercept: (context, next) => {
          called.interceptor(context.getType());
          return next.handle();
        },
      });
      microservice.useGlobalFilters({
        catch: (_: unknown, host: ArgumentsHost) => {
          called.filter(host.getType());
          return EMPTY;
        },
      });
      microservice.enableShutdownHooks([signal]);
    }

    beforeAll(async () => {
      const stork = { transports: { main: define(uniqueSource()) } };
      hybrid = await startHybrid({ stork, controllers: [Sums, SumRoutes], prepare });
    });
    afterAll(() => hybrid.app.close());

    it.each([
      ['guard', 'sum', 'rpc'],
      ['interceptor', 'sum', 'rpc'],
      ['pipe', 'sum', numbers],
      ['filter', 'exception', 'rpc'],
    ] as const)('the %s of the microservice is called for a message', async (enhancer, command, argument) => {
      called[enhancer].mockClear();
      await hybrid.post(`/?command=${command}`, numbers);
      expect(called[enhancer].mock.calls).toEqual([[argument]]);
    });

    it('a close removes the signal listener of the microservice', async () => {
      expect(process.listenerCount(signal)).toBe(listenersBefore + 1);
      await hybrid.app.close();
      expect(process.listenerCount(signal)).toBe(listenersBefore);
    });
  });
});

describe.skipIf(url === undefined)('Nest: the shutdown of a worker', () => {
  const raw = useRaw();

  it('leaves no socket, and no handler is called afterwards', async () => {
    const calls = vi.fn();
    @Controller()
    class Pings {
      @MessagePattern<string>('ping')
      ping(@Payload() id: number): string {
        calls(id);
        return 'pong';
      }
    }
    const before = activeResources();
    const queue = raw().queue(uniqueSource());
    const worker = await startRabbitApp({ controllers: [Pings], options: { queue } });
    expect(await lastValueFrom(worker.client.send<string>('ping', 1))).toBe('pong');

    await worker.close();
    await expectNothingLeft(before);
    raw().channel.sendToQueue(queue, Buffer.from('2'), { type: 'ping', contentType: 'application/json' });
    await raw().confirmed();
    expect(await raw().count(queue)).toBe(1);
    expect(calls.mock.calls).toEqual([[1]]);
  });
});
