import { Controller, Injectable, Module, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Payload } from '@nestjs/microservices';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  StorkModule,
  storkMicroservice,
  StorkClient,
  type StorkModuleOptions,
  type StorkOptionsFactory,
} from 'nestjs-stork';
import { rabbitmq, type RabbitMqOptions } from 'nestjs-stork/rabbitmq';
import { Seen } from '../../contract/app.js';
import { LogLines } from '../support.js';
import { reconnect, refusal, url, useRaw } from '../rabbitmq/support.js';
import { limits, uniqueSource } from './support.js';

const seen = new Seen<unknown>();

@Controller()
class Subscriber {
  @EventPattern<string>('route')
  handle(@Payload() data: unknown): void {
    seen.add(data);
  }
}

describe.skipIf(url === undefined)('golevelup: configuration', () => {
  const raw = useRaw();

  const exchangeOf = (name: string) => ({ name, type: 'topic' }) as const;
  const sending = (exchange: string) =>
    ({ url, exchange: exchangeOf(exchange), reconnect, handlers: 'none' }) as const;
  const moduleOptions = (options: RabbitMqOptions): StorkModuleOptions => ({
    ...limits,
    transports: { main: rabbitmq(options) },
  });

  async function start(stork: DynamicModule, logger = new LogLines()): Promise<StorkClient> {
    @Module({ imports: [stork], controllers: [Subscriber] })
    class Root {}
    const app = await NestFactory.createMicroservice(Root, { ...storkMicroservice(), logger });
    onTestFinished(() => app.close());
    await app.listen();
    return app.get(StorkClient);
  }

  const exists = (exchange: string): Promise<boolean> =>
    raw()
      .with((channel) => channel.checkExchange(exchange))
      .then(
        () => true,
        () => false,
      );

  describe.each([
    ['forRoot()', (options: StorkModuleOptions) => StorkModule.forRoot(options)],
    [
      'forRootAsync() with a factory',
      (options: StorkModuleOptions) =>
        StorkModule.forRootAsync({ transports: ['main'], useFactory: async () => options }),
    ],
    [
      'forRootAsync() with a class',
      (options: StorkModuleOptions) => {
        @Injectable()
        class Settings implements StorkOptionsFactory {
          createStorkOptions(): StorkModuleOptions {
            return options;
          }
        }
        return StorkModule.forRootAsync({ transports: ['main'], useClass: Settings });
      },
    ],
  ])('by %s', (_, moduleOf) => {
    it('the application connects, declares queue and exchange, and logs it', async () => {
      const [queue, exchange] = [raw().queue(uniqueSource()), raw().exchange()];
      const logs = new LogLines();
      const before = seen.all.length;
      const options = { url, queue, exchange: exchangeOf(exchange), reconnect };
      const client = await start(moduleOf(moduleOptions(options)), logs);
      await client.publish('route', 1);
      expect((await seen.count(before + 1)).at(-1)).toBe(1);
      expect(await exists(exchange)).toBe(true);
      expect(logs.containing('main').length).toBeGreaterThan(0);
    });

    it('an exchange that exists is used', async () => {
      const exchange = raw().exchange();
      await raw().channel.assertExchange(exchange, 'topic', { durable: true });
      const options = { url, queue: raw().queue(uniqueSource()), exchange: exchangeOf(exchange), reconnect };
      await start(moduleOf(moduleOptions(options)));
      expect(await exists(exchange)).toBe(true);
    });
  });

  it('exchanges are declared before queues are bound to them', async () => {
    const [queue, exchange] = [raw().queue(uniqueSource()), raw().exchange()];
    expect(await exists(exchange)).toBe(false);
    const options = { url, queue, exchange: exchangeOf(exchange), reconnect };
    const client = await start(StorkModule.forRoot(moduleOptions(options)));
    const before = seen.all.length;
    await client.publish('route', 2);
    expect((await seen.count(before + 1)).at(-1)).toBe(2);
  });

  it('a transport without handlers and without a queue declares none', async () => {
    const exchange = raw().exchange();
    const client = await start(StorkModule.forRoot(moduleOptions(sending(exchange))));
    await expect(client.publish('route', 3)).rejects.toMatchObject({ code: 'NO_ROUTE' });
  });

  it('a queue with an empty name is refused', async () => {
    const { error } = await refusal({ controllers: [Subscriber], options: { queue: '' } });
    expect(error.message).toContain('queue');
  });

  describe('that waits for a later version is refused by name:', () => {
    it.each([
      ['an address as an object', 'url', { url: { protocol: 'amqp', hostname: 'localhost' } }],
      ['an exchange that must exist', 'createExchangeIfNotExists', { createExchangeIfNotExists: false }],
      ['a queue that must exist', 'createQueueIfNotExists', { createQueueIfNotExists: false }],
      ['a binding between exchanges', 'exchangeBindings', { exchangeBindings: [{ source: 'a' }] }],
    ])('%s', async (_, name, given) => {
      const options = given as unknown as Partial<RabbitMqOptions>;
      const { error } = await refusal({ controllers: [Subscriber], options });
      expect(error).toMatchObject({ code: 'CONFIG' });
      expect(error.message).toContain(name);
    });
  });
});
