import { Controller, Injectable, Logger, Module, type DynamicModule, type Type } from '@nestjs/common';
import { LazyModuleLoader } from '@nestjs/core';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { expect, it, onTestFinished } from 'vitest';
import {
  connectStork,
  getClientToken,
  InjectClient,
  StorkClient,
  StorkContext,
  storkMicroservice,
  StorkModule,
  StorkService,
  via,
  type StorkModuleOptions,
} from 'nestjs-stork';
import { memory, MemoryBroker } from 'nestjs-stork/memory';
import { Seen } from '../../contract/app.js';
import { LogLines, Shop } from '../support.js';

type Imported = Type | DynamicModule;

/** A feature module with a transport, its handlers and a service that sends. */
function billing(broker: MemoryBroker) {
  const handled = new Seen<string>();
  @Injectable()
  class Invoices {
    constructor(@InjectClient('billing') readonly client: StorkClient) {}
  }
  @Controller()
  class BillingController {
    @EventPattern('invoice.sent', via('billing'))
    sent(@Payload() id: string, @Ctx() { transport }: StorkContext): void {
      handled.add(`${transport} ${id}`);
    }
    @EventPattern('invoice.lost', via('billing'))
    lost(): never {
      throw new Error('fails');
    }
  }
  const forFeature = StorkModule.forFeature({ billing: memory({ queue: 'billing', broker }) });
  @Module({ imports: [forFeature], controllers: [BillingController], providers: [Invoices] })
  class BillingModule {}
  return { BillingModule, Invoices, forFeature, handled };
}

async function compile(imports: readonly Imported[], controllers: readonly Type[] = []) {
  const testing = await Test.createTestingModule({
    imports: [...imports],
    controllers: [...controllers],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  return app;
}

function root(broker: MemoryBroker, options: Partial<StorkModuleOptions> = {}): StorkModuleOptions {
  return {
    transports: { orders: memory({ queue: 'orders', broker }) },
    retry: { maxRetries: 2, delayMs: 1 },
    ...options,
  };
}

const ways: readonly [string, (options: StorkModuleOptions) => DynamicModule][] = [
  ['forRoot', (options) => StorkModule.forRoot(options)],
  [
    'forRootAsync',
    (options) =>
      StorkModule.forRootAsync({
        transports: ['orders'],
        useFactory: async () => {
          await new Promise(setImmediate);
          return options;
        },
      }),
  ],
];
const orders = ways.flatMap(([way, forRoot]) => [
  [`before ${way}`, (feature: Imported, options: StorkModuleOptions) => [feature, forRoot(options)]] as const,
  [`after ${way}`, (feature: Imported, options: StorkModuleOptions) => [forRoot(options), feature]] as const,
]);

it.each(orders)('a feature module brings its transport, imported %s', async (_, imports) => {
  const broker = new MemoryBroker();
  const { BillingModule, Invoices, handled } = billing(broker);
  const app = await compile(imports(BillingModule, root(broker)));
  await app.listen();
  const client = app.get<StorkClient>(getClientToken('billing'));
  expect(app.select(BillingModule).get(Invoices).client).toBe(client);
  await client.publish('invoice.sent', 'i-1');
  expect(await handled.count(1)).toEqual(['billing i-1']);
  await client.publish('invoice.lost', 'i-2');
  await expect.poll(() => broker.queue('billing.dlq')?.peek().length).toBe(1);
  const [deadLetter] = broker.queue('billing.dlq')!.peek();
  expect(deadLetter!.headers['stork-attempt']).toBe('3');
  expect(Object.keys(app.get(StorkService).state())).toEqual(['orders', 'billing']);
});

it('handlers of all modules serve it, and its client is injected in all', async () => {
  const broker = new MemoryBroker();
  const { BillingModule } = billing(broker);
  const seen = new Seen<string>();
  @Controller()
  class Everywhere {
    @EventPattern<string>('ping')
    ping(@Ctx() { transport }: StorkContext): void {
      seen.add(transport);
    }
  }
  @Injectable()
  class Reports {
    constructor(@InjectClient('billing') readonly client: StorkClient) {}
  }
  @Module({ providers: [Reports] })
  class ReportsModule {}
  const app = await compile([ReportsModule, StorkModule.forRoot(root(broker)), BillingModule], [Everywhere]);
  await app.listen();
  await app.get<StorkClient>(getClientToken('orders')).publish('ping', 1);
  await app.select(ReportsModule).get(Reports).client.publish('ping', 1);
  expect([...(await seen.count(2))].toSorted()).toEqual(['billing', 'orders']);
  expect(app.get(StorkClient)).toBe(app.get(getClientToken('orders')));
});

it('forRoot needs no transports where features bring several', async () => {
  @Controller()
  class Calculator {
    @MessagePattern('double')
    double(@Payload() n: number): number {
      return n * 2;
    }
  }
  @Module({})
  class QueueModule {
    /** A library's module that makes its transport from an argument. */
    static register(...names: readonly string[]): DynamicModule {
      const transports = Object.fromEntries(names.map((name) => [name, memory({ queue: name })]));
      return { module: QueueModule, imports: [StorkModule.forFeature(transports)] };
    }
  }
  const app = await compile(
    [QueueModule.register('a', 'b'), QueueModule.register('c'), StorkModule.forRoot({})],
    [Calculator],
  );
  await app.listen();
  for (const name of ['a', 'b', 'c'])
    expect(await app.get<StorkClient>(getClientToken(name)).request<number>('double', 2)).toBe(4);
  // They share the broker of the application.
  const to = { queue: 'c' };
  expect(await app.get<StorkClient>(getClientToken('a')).request<number>('double', 3, { to })).toBe(6);
});

it('one forFeature() that two modules import adds its transport once', async () => {
  const broker = new MemoryBroker();
  const { BillingModule, forFeature } = billing(broker);
  @Module({ imports: [forFeature] })
  class AuditModule {}
  const app = await compile([BillingModule, AuditModule, StorkModule.forRoot(root(broker))]);
  await app.listen();
  expect(Object.keys(app.get(StorkService).state())).toEqual(['orders', 'billing']);
});

it('a hybrid application sends by it, and closes it', async () => {
  const broker = new MemoryBroker();
  const { BillingModule, Invoices, handled } = billing(broker);
  const testing = await Test.createTestingModule({
    imports: [BillingModule, StorkModule.forRoot(root(broker))],
  }).compile();
  const app = testing.createNestApplication({ logger: false });
  connectStork(app);
  await app.startAllMicroservices();
  await app.init();
  const { client } = app.get(Invoices, { strict: false });
  await client.publish('invoice.sent', 'i-1');
  await handled.count(1);
  await app.close();
  await expect(client.publish('invoice.sent', 'i-2')).rejects.toMatchObject({ code: 'CLOSED' });
});

it.each<[string, string, (broker: MemoryBroker) => Imported[]]>([
  [
    'forRoot()',
    'transports.billing: expected a name that no other transport of the application has, ' +
      'given one in forRoot() and one in forFeature() in BillingModule',
    (broker) => [
      billing(broker).BillingModule,
      StorkModule.forRoot({ transports: { billing: memory({ queue: 'x', broker }) } }),
    ],
  ],
  [
    'another feature module',
    'given one in forFeature() in BillingModule and one in forFeature() in OtherModule',
    (broker) => {
      @Module({ imports: [StorkModule.forFeature({ billing: memory({ queue: 'x', broker }) })] })
      class OtherModule {}
      return [billing(broker).BillingModule, OtherModule, StorkModule.forRoot(root(broker))];
    },
  ],
])('refuses a name that %s has too', async (_, message, imports) => {
  const app = await compile(imports(new MemoryBroker()));
  const error: unknown = await app.listen().catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'CONFIG', message: expect.stringContaining(message) as string });
});

it.each<[unknown, string]>([
  [undefined, 'StorkModule.forFeature() in RootTestModule: expected transports by name'],
  [{ billing: { queue: 'x' } }, 'StorkModule.forFeature() in RootTestModule: expected transports by name'],
  [[], 'StorkModule.forFeature() in RootTestModule: expected transports by name'],
  [{ 'a b': memory({ queue: 'x' }) }, 'transports.a b: expected a name of letters, digits, _, . and -'],
  [{ billing: memory({ queue: '' }) }, 'transports.billing.queue: expected'],
])('refuses forFeature(%j)', async (given, message) => {
  const app = await compile([
    StorkModule.forFeature(given as Parameters<typeof StorkModule.forFeature>[0]),
    StorkModule.forRoot(root(new MemoryBroker())),
  ]);
  await expect(app.listen()).rejects.toThrow(message);
});

it('refuses an application without any transport', async () => {
  const app = await compile([StorkModule.forFeature({}), StorkModule.forRoot({})]);
  await expect(app.listen()).rejects.toThrow('StorkModule.transports: expected at least one of transports');
});

it.each<[string, (broker: MemoryBroker) => Imported[]]>([
  ['without forRoot()', () => []],
  [
    'beside a forRoot() that is not global',
    (broker) => [StorkModule.forRoot(root(broker, { isGlobal: false }))],
  ],
])('refuses forFeature() %s', async (_, imports) => {
  const broker = new MemoryBroker();
  await expect(compile([billing(broker).BillingModule, ...imports(broker)])).rejects.toMatchObject({
    code: 'CONFIG',
    message:
      'StorkModule.forFeature({ billing }) needs StorkModule.forRoot(…) in the root module, and its isGlobal not false',
  });
});

it('refuses two forRoot() and names their importers, not those of forFeature()', async () => {
  const shop = new Shop();
  @Module({ imports: [shop.stork()] })
  class OrdersModule {}
  @Module({ imports: [shop.stork()] })
  class ShippingModule {}
  const app = await compile([billing(shop.broker).BillingModule, OrdersModule, ShippingModule]);
  await expect(app.listen()).rejects.toThrow(
    'expected one forRoot() in an application; feature modules add transports by forFeature(), ' +
      'given 2, imported by OrdersModule and ShippingModule',
  );
});

it('a module that is loaded lazily cannot add a transport: its client says so', async () => {
  const broker = new MemoryBroker();
  const { BillingModule } = billing(broker);
  const app = await compile([StorkModule.forRoot(root(broker))]);
  await app.listen();
  const loaded = await app.get(LazyModuleLoader).load(() => BillingModule);
  const client = loaded.get<StorkClient>(getClientToken('billing'), { strict: false });
  await expect(client.publish('invoice.sent', 'i-1')).rejects.toMatchObject({
    code: 'CONFIG',
    message: expect.stringContaining('"billing" was added by a forFeature()') as string,
  });
  const logs = new LogLines();
  Logger.overrideLogger(logs);
  onTestFinished(() => Logger.overrideLogger(true));
  client.emit('invoice.sent', 'i-1');
  await expect.poll(() => logs.containing('emit("invoice.sent") failed: ')).toHaveLength(1);
});
