import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { RpcException } from '@nestjs/microservices';
import { lastValueFrom, toArray } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  getClientToken,
  StorkModule,
  storkMicroservice,
  type StorkClient,
  type StorkModuleOptions,
  type StorkOptionsFactory,
} from 'nestjs-stork';
import { failsWithRpcException, notifications, SumRoutes, Sums } from './sums.js';
import { limits, manyLists, startHybrid, transports, uniqueSource, type Hybrid } from './support.js';

/** An application that sends only, and whose options come from a class. */
async function startSender(
  options: StorkModuleOptions,
): Promise<{ client: StorkClient; close: () => Promise<void> }> {
  @Injectable()
  class Settings implements StorkOptionsFactory {
    createStorkOptions(): StorkModuleOptions {
      return options;
    }
  }
  @Module({ imports: [StorkModule.forRootAsync({ transports: ['main'], useClass: Settings })] })
  class Sender {}
  const app = await NestFactory.createApplicationContext(Sender, { logger: false });
  return { client: app.get<StorkClient>(getClientToken('main')), close: () => app.close() };
}

/** A worker whose options come from a provider that another module exports. */
async function startWorker(
  options: StorkModuleOptions,
): Promise<{ client: StorkClient; close: () => Promise<void> }> {
  @Injectable()
  class Settings {
    readonly stork = options;
  }
  @Module({ providers: [Settings], exports: [Settings] })
  class SettingsModule {}
  @Module({
    imports: [
      StorkModule.forRootAsync({
        transports: ['main'],
        imports: [SettingsModule],
        inject: [Settings],
        useFactory: (settings: unknown) => (settings as Settings).stork,
      }),
    ],
    controllers: [Sums],
  })
  class Worker {}
  const app = await NestFactory.createMicroservice(Worker, { ...storkMicroservice(), logger: false });
  await app.listen();
  return { client: app.get<StorkClient>(getClientToken('main')), close: () => app.close() };
}

describe.each(transports)('Nest: sums over $name', ({ isSkipped, use }) => {
  describe.skipIf(isSkipped)('in a hybrid application', () => {
    const define = use();
    const numbers = [1, 2, 3, 4, 5];
    let hybrid: Hybrid;
    let sender: Awaited<ReturnType<typeof startSender>>;
    let worker: Awaited<ReturnType<typeof startWorker>>;

    beforeAll(async () => {
      const source = uniqueSource();
      const sending = define(source, { handlers: 'none' });
      const stork = { ...limits, transports: { main: define(source), custom: sending } };
      [hybrid, sender, worker] = await Promise.all([
        startHybrid({
          imports: [StorkModule.forRootAsync({ transports: ['main', 'custom'], useFactory: () => stork })],
          controllers: [Sums, SumRoutes],
        }),
        startSender({ ...limits, transports: { main: sending } }),
        startWorker({ ...limits, transports: { main: define(uniqueSource()) } }),
      ]);
    });
    afterAll(() => Promise.all([hybrid.app.close(), sender.close(), worker.close()]));

    it.each(['sum', 'asyncSum', 'streamSum'])(
      'a request is answered by the value of %s()',
      async (command) => {
        expect(await hybrid.post(`/?command=${command}`, numbers)).toEqual({ status: 200, text: '15' });
      },
    );

    it('a client whose options come from a factory sends', async () => {
      expect(await lastValueFrom(hybrid.client().send({ cmd: 'sum' }, numbers))).toBe(15);
    });

    it('a client whose options come from a class sends', async () => {
      expect(await lastValueFrom(sender.client.send({ cmd: 'sum' }, numbers))).toBe(15);
    });

    it('concurrent requests get their own replies', async () => {
      expect(await hybrid.post('/concurrent', manyLists)).toEqual({ status: 200, text: 'true' });
    });

    it('each value of a handler that streams is received', async () => {
      expect(await hybrid.post('/stream', numbers)).toEqual({ status: 200, text: '15' });
    });

    it('a request for an unknown pattern is an internal error of the route', async () => {
      expect(await hybrid.post('/?command=unknown', numbers)).toMatchObject({ status: 500 });
    });

    it('an emitted event reaches its handler', async () => {
      const before = notifications.all.length;
      await hybrid.post('/notify', numbers);
      expect((await notifications.count(before + 1)).at(-1)).toBe(true);
    });

    it("a client's own serializeError() makes the caller's error", async () => {
      const custom = Object.assign(hybrid.client('custom'), {
        serializeError: (error: object) => new RpcException(error),
      });
      expect(await failsWithRpcException(custom)).toBe(true);
    });

    it('without one the error is no RpcException', async () => {
      expect(await failsWithRpcException(hybrid.client())).toBe(false);
    });

    it('a worker whose options come from an injected provider answers', async () => {
      expect(await lastValueFrom(worker.client.send({ cmd: 'sum' }, numbers).pipe(toArray()))).toEqual([15]);
    });
  });
});
