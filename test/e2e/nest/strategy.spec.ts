import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { expect, it, onTestFinished } from 'vitest';
import { connectStork, getClientToken, StorkClient, StorkModule, storkMicroservice } from 'nestjs-stork';
import { Seen } from '../../contract/app.js';
import { LogLines, Shop } from '../support.js';

const quiet = { logger: false as const, abortOnError: false };

@Controller()
class Echo {
  @MessagePattern('echo')
  echo(@Payload() data: unknown): unknown {
    return data;
  }
}

it('serves a worker made by NestFactory.createMicroservice', async () => {
  @Module({ imports: [new Shop().stork()], controllers: [Echo] })
  class AppModule {}
  const app = await NestFactory.createMicroservice(AppModule, storkMicroservice({ logger: false }));
  onTestFinished(() => app.close());
  await app.listen();
  expect(await app.get(StorkClient).request('echo', 'worker')).toBe('worker');
});

it('passes the options of Nest on to the worker', async () => {
  @Module({ imports: [new Shop().stork()], controllers: [Echo] })
  class AppModule {}
  const logger = new LogLines();
  const options = { logger, bufferLogs: true, autoFlushLogs: false };
  const app = await NestFactory.createMicroservice(AppModule, storkMicroservice(options));
  onTestFinished(() => app.close());
  await app.listen();
  expect(logger.lines).toEqual([]);
  app.flushLogs();
  expect(logger.containing('main: consuming')).toHaveLength(1);
});

it('leaves the process alone where abortOnError says so', async () => {
  class Broken {
    constructor() {
      throw new Error('no database');
    }
  }
  @Module({ imports: [new Shop().stork()], providers: [Broken] })
  class AppModule {}
  await expect(NestFactory.createMicroservice(AppModule, storkMicroservice(quiet))).rejects.toThrow(
    'no database',
  );
});

it('serves a testing module by createNestMicroservice', async () => {
  const testing = await new Shop().compile([Echo]);
  const app = testing.createNestMicroservice(storkMicroservice());
  onTestFinished(() => app.close());
  await app.listen();
  expect(await app.get(StorkClient).request('echo', 'testing')).toBe('testing');
});

it("serves a hybrid application by Nest's own connectMicroservice", async () => {
  const testing = await new Shop().compile([Echo]);
  const app = testing.createNestApplication();
  onTestFinished(() => app.close());
  app.connectMicroservice(storkMicroservice());
  await app.startAllMicroservices();
  await app.init();
  expect(await app.get(StorkClient).request('echo', 'plain hybrid')).toBe('plain hybrid');
});

it.each([true, false])(
  'serves a hybrid application by connectStork, inheritAppConfig %s',
  async (inheritAppConfig) => {
    const testing = await new Shop().compile([Echo]);
    const app = testing.createNestApplication();
    onTestFinished(() => app.close());
    connectStork(app, { inheritAppConfig });
    await app.startAllMicroservices();
    await app.listen(0, '127.0.0.1');
    expect(await app.get(StorkClient).request('echo', 'hybrid')).toBe('hybrid');
  },
);

it('takes options from forRootAsync: a factory, a class, an existing provider', async () => {
  const shop = new Shop();
  class Settings {
    createStorkOptions() {
      return { transports: { main: shop.transport() } };
    }
  }
  @Module({ providers: [Settings], exports: [Settings] })
  class SettingsModule {}
  const useFactory = (settings: Settings) => settings.createStorkOptions();
  for (const how of [{ useFactory, inject: [Settings] }, { useClass: Settings }, { useExisting: Settings }]) {
    @Module({
      imports: [StorkModule.forRootAsync({ transports: ['main'], imports: [SettingsModule], ...how })],
      controllers: [Echo],
    })
    class AppModule {}
    const app = await NestFactory.createMicroservice(AppModule, { ...storkMicroservice(), logger: false });
    await app.listen();
    expect(await app.get<StorkClient>(getClientToken('main')).request('echo', 'async')).toBe('async');
    await app.close();
  }
});

it('keeps two applications of one process apart', async () => {
  const seen = new Seen<string>();
  const start = async (name: string) => {
    @Controller()
    class Listens {
      @EventPattern<string>('event')
      event(): void {
        seen.add(name);
      }
    }
    @Module({ imports: [new Shop().stork()], controllers: [Listens] })
    class AppModule {}
    const app = await NestFactory.createMicroservice(AppModule, { ...storkMicroservice(), logger: false });
    onTestFinished(() => app.close());
    await app.listen();
    return app;
  };
  const [first] = [await start('first'), await start('second')];
  await first.get(StorkClient).publish('event', 1);
  expect(await seen.count(1)).toEqual(['first']);
});

it.each([
  ['storkMicroservice', () => NestFactory.createMicroservice(class {}, storkMicroservice(quiet))],
  ['connectStork', async () => connectStork(await NestFactory.create(class {}, quiet))],
  [
    'connectStork, with the settings of the application',
    async () => connectStork(await NestFactory.create(class {}, quiet), { inheritAppConfig: true }),
  ],
])('says that StorkModule is not imported: %s', async (_, connect) => {
  await expect(connect()).rejects.toThrow('the application does not import StorkModule.forRoot');
});
