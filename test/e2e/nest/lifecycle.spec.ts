import { Controller, Global, Injectable, Logger, Module, type OnModuleDestroy } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  connectStork,
  getClientToken,
  StorkClient,
  StorkConfigError,
  StorkModule,
  storkMicroservice,
  StorkService,
  via,
  type StorkModuleOptions,
  type TransportDefinition,
} from 'nestjs-stork';
import { memory, VirtualClock } from 'nestjs-stork/memory';
import { withTimeout } from '../../../lib/core/runtime/with-timeout.js';
import { STORK_CLOCK } from '../../../lib/nest/stork.constants.js';
import { Gate, Seen } from '../../contract/app.js';
import { closeBySignal, LogLines, Shop } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

describe('start', () => {
  const makeShop = () => {
    const seen = new Seen<unknown>();
    @Controller()
    class Orders {
      @EventPattern<string>('order.created')
      created(@Payload() order: unknown): void {
        seen.add(order);
      }
    }
    return { shop: new Shop(), seen, Orders };
  };

  it('consumes in a hybrid application only once it has bootstrapped', async () => {
    const { shop, seen, Orders } = makeShop();
    const app = (await shop.compile([Orders])).createNestApplication({ logger: false });
    onTestFinished(() => app.close());
    connectStork(app);
    await app.startAllMicroservices();
    await app.get(StorkClient).publish('order.created', 1);
    await new Promise(setImmediate);
    expect(shop.broker.queue(shop.queue)!.ready).toBe(1);
    await app.init();
    expect(await seen.count(1)).toEqual([1]);
  });

  it('consumes at once where the microservices are started after the bootstrap', async () => {
    const { shop, seen, Orders } = makeShop();
    const app = (await shop.compile([Orders])).createNestApplication({ logger: false });
    onTestFinished(() => app.close());
    connectStork(app);
    await app.init();
    await app.startAllMicroservices();
    await app.get(StorkClient).publish('order.created', 1);
    expect(await seen.count(1)).toEqual([1]);
  });

  it('warns when the application has not bootstrapped after 30 s', async () => {
    const { shop, Orders } = makeShop();
    const clock = new VirtualClock();
    const logs = new LogLines();
    const testing = await Test.createTestingModule({ imports: [shop.stork()], controllers: [Orders] })
      .overrideProvider(STORK_CLOCK)
      .useValue(clock)
      .compile();
    const app = testing.createNestApplication({ logger: logs });
    onTestFinished(() => app.close());
    connectStork(app);
    await app.startAllMicroservices();
    await clock.advance(29_000);
    expect(logs.containing('has not bootstrapped')).toEqual([]);
    await clock.advance(1_000);
    expect(logs.containing('has not bootstrapped')).toHaveLength(1);
  });

  it('warns when the microservices were connected but not started', async () => {
    const { shop, Orders } = makeShop();
    const clock = new VirtualClock();
    const logs = new LogLines();
    const testing = await Test.createTestingModule({ imports: [shop.stork()], controllers: [Orders] })
      .overrideProvider(STORK_CLOCK)
      .useValue(clock)
      .compile();
    const app = testing.createNestApplication({ logger: logs });
    onTestFinished(() => app.close());
    connectStork(app);
    await app.init();
    await clock.advance(30_000);
    expect(logs.containing('call app.startAllMicroservices()')).toHaveLength(1);
  });

  /** A worker whose broker does not answer until the gate opens. */
  const buildWaiting = async (
    further: Readonly<Record<string, TransportDefinition>> = {},
    declare: () => void = () => {},
  ) => {
    const { shop, Orders } = makeShop();
    const [clock, logs, gate] = [new VirtualClock(), new LogLines(), new Gate()];
    const connecting = new Seen<true>();
    const reachable = shop.transport();
    const unreachable: TransportDefinition = {
      ...reachable,
      createDriver: (environment) => {
        const driver = reachable.createDriver(environment);
        const connect = driver.connect.bind(driver);
        driver.connect = async (signal) => {
          connecting.add(true);
          await withTimeout(gate.opened, { signal });
          return connect(signal);
        };
        return driver;
      },
    };
    const refusing = Object.entries(further).map(([name, definition]) => [
      name,
      {
        ...definition,
        createDriver: (environment: Parameters<TransportDefinition['createDriver']>[0]) =>
          Object.assign(definition.createDriver(environment), { declare: async () => declare() }),
      },
    ]);
    const transports = { main: unreachable, ...Object.fromEntries(refusing) } as Record<
      string,
      TransportDefinition
    >;
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports })],
      controllers: [Orders],
    })
      .overrideProvider(STORK_CLOCK)
      .useValue(clock)
      .compile();
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: logs });
    return { app, clock, logs, gate, connecting };
  };

  it('does not warn that it was not started while it waits for its broker', async () => {
    const { app, clock, logs, gate, connecting } = await buildWaiting();
    onTestFinished(() => app.close());
    const listening = app.listen();
    await connecting.count(1);
    await clock.advance(59_000);
    expect(logs.containing('receive nothing')).toEqual([]);
    gate.open();
    await listening;
  });

  it('rejects with CLOSED at once when it is closed meanwhile, and warns of nothing later', async () => {
    const { app, clock, logs, connecting } = await buildWaiting();
    const listening = app.listen().catch((error: unknown) => error);
    await connecting.count(1);
    await app.close();
    expect(await listening).toMatchObject({ code: 'CLOSED' });
    await clock.advance(120_000);
    expect(logs.containing('receive nothing')).toEqual([]);
    expect(logs.containing('not consuming')).toEqual([]);
  });

  it('rejects with CLOSED when it was closed before', async () => {
    const { app, clock, logs, connecting } = await buildWaiting();
    await app.close();
    await expect(app.listen()).rejects.toMatchObject({ code: 'CLOSED' });
    await clock.advance(120_000);
    expect(logs.containing('receive nothing')).toEqual([]);
    expect(connecting.all).toEqual([]);
  });

  it('ends at once with the error of one transport, though another still waits for its broker', async () => {
    const { app, clock, logs, connecting } = await buildWaiting({ other: new Shop().transport() }, () => {
      throw new StorkConfigError('the queue differs');
    });
    onTestFinished(() => app.close());
    await expect(app.listen()).rejects.toThrow('the queue differs');
    await connecting.count(1);
    await new Promise(setImmediate);
    // A timer would keep the process alive.
    expect(clock.pendingTimers).toBe(0);
    await clock.advance(120_000);
    expect(logs.containing('receive nothing')).toEqual([]);
    expect(logs.containing('not consuming')).toEqual([]);
  });

  it.each<[string, (shop: Shop) => Partial<StorkModuleOptions>]>([
    ['a handler names a transport that does not exist', () => ({})],
    ['an option is wrong', () => ({ drainTimeoutMs: -1 })],
  ])('leaves no timer behind and gives no other advice if %s', async (_, options) => {
    const { shop } = makeShop();
    const [clock, logs] = [new VirtualClock(), new LogLines()];
    @Controller()
    class Orders {
      @EventPattern('order.created', via('nope'))
      created(): void {}
    }
    for (const shape of ['worker', 'hybrid'] as const) {
      const testing = await Test.createTestingModule({
        imports: [shop.stork(options(shop))],
        controllers: [Orders],
      })
        .overrideProvider(STORK_CLOCK)
        .useValue(clock)
        .compile();
      if (shape === 'worker') {
        const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: logs });
        await expect(app.listen()).rejects.toThrow(StorkConfigError);
      } else {
        const app = testing.createNestApplication({ logger: logs });
        connectStork(app);
        await expect(app.startAllMicroservices()).rejects.toThrow(StorkConfigError);
        // An application that goes on without its microservices.
        await app.init().catch(() => {});
      }
      expect(clock.pendingTimers).toBe(0);
      await clock.advance(120_000);
      expect(logs.containing('call app.')).toEqual([]);
    }
  });

  it('can be started again after a start that has failed', async () => {
    let isDown = true;
    const { app, gate } = await buildWaiting({ other: new Shop().transport() }, () => {
      if (isDown) throw new Error('refused');
    });
    onTestFinished(() => app.close());
    gate.open();
    await expect(app.listen()).rejects.toThrow('refused');
    isDown = false;
    await app.listen();
    expect(Object.values(app.get(StorkService).state()).map(({ connection }) => connection.value)).toEqual([
      'ready',
      'ready',
    ]);
  });

  it('refuses to be connected twice', async () => {
    const { shop, Orders } = makeShop();
    const app = (await shop.compile([Orders])).createNestApplication({ logger: false });
    connectStork(app);
    connectStork(app);
    await expect(app.startAllMicroservices()).rejects.toThrow('used twice in one application');
  });

  it('rejects the start of a worker with every wrong option at once', async () => {
    const transports = {
      orders: memory({
        queue: undefined,
        concurrency: 0,
        maxWaiting: 0,
        prefetch: 1.5,
        ...({ retries: 3 } as object),
      }),
      audit: memory({ mode: 'log', queue: 'audit' }),
    };
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports, drainTimeoutMs: -1 })],
    }).compile();
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    const error = await app.listen().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(StorkConfigError);
    expect((error as StorkConfigError).problems.map(({ name }) => name).toSorted()).toEqual([
      'StorkModule.drainTimeoutMs',
      'transports.audit.queue',
      'transports.orders.concurrency',
      'transports.orders.maxWaiting',
      'transports.orders.prefetch',
      'transports.orders.queue',
      'transports.orders.retries',
    ]);
    expect((error as StorkConfigError).message).toContain(
      'transports.orders.concurrency: expected an integer from 1 to 100000, given 0 (number)',
    );
  });

  it('rejects startAllMicroservices() of a hybrid application with wrong options', async () => {
    const transports = { main: memory({ queue: '' }) };
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports })],
    }).compile();
    const app = testing.createNestApplication({ logger: false });
    connectStork(app);
    await expect(app.startAllMicroservices()).rejects.toThrow(
      'transports.main.queue: expected the name of the queue',
    );
  });

  it('rejects if forRootAsync returns other transports than declared', async () => {
    const testing = await Test.createTestingModule({
      imports: [
        StorkModule.forRootAsync({
          transports: ['orders'],
          useFactory: () => ({ transports: { order: memory({ queue: 'q' }) } }),
        }),
      ],
    }).compile();
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    await expect(app.listen()).rejects.toThrow(
      'expected the names given to forRootAsync (orders), given order',
    );
  });

  it('refuses a pattern that the transport cannot carry', async () => {
    @Controller()
    class Orders {
      @MessagePattern({ cmd: 'quote' })
      quote(): void {}
    }
    const transports = { audit: memory({ mode: 'log' }) };
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports })],
      controllers: [Orders],
    }).compile();
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    await expect(app.listen()).rejects.toThrow(
      /pattern {"cmd":"quote"} of Orders.quote on the transport "audit".*patternHeader.*via\(\)/,
    );
  });

  it('lets a provider send while others still initialise, and a module without handlers consume nothing', async () => {
    const shop = new Shop();
    const app = (await shop.compile([])).createNestMicroservice({ ...storkMicroservice(), logger: false });
    onTestFinished(() => app.close());
    shop.broker.declareQueue(shop.queue);
    await app.get<StorkClient>(getClientToken('main')).publish('early', 1);
    await app.listen();
    expect(shop.broker.queue(shop.queue)).toMatchObject({ ready: 1, consumers: 0 });
  });
});

describe('stop', () => {
  /** Builds an application whose handler needs a database that `onModuleDestroy` closes. */
  const databases = ['root', 'sibling', 'global'] as const;

  const build = async (where: (typeof databases)[number], isStorkGlobal: boolean, storkFirst: boolean) => {
    const shop = new Shop();
    const gate = new Gate();
    const events: string[] = [];
    const begun = new Seen<string>();
    @Injectable()
    class Database implements OnModuleDestroy {
      onModuleDestroy(): void {
        events.push('database closed');
      }
    }
    @Module({ providers: [Database], exports: [Database] })
    class DatabaseModule {}
    @Global()
    @Module({ providers: [Database], exports: [Database] })
    class GlobalDatabaseModule {}
    @Controller()
    class Orders {
      @EventPattern<string>('order.created')
      async created(): Promise<void> {
        begun.add('begun');
        await gate.opened;
        events.push('handler done');
      }
    }
    const stork = shop.stork({ isGlobal: isStorkGlobal });
    const database =
      where === 'sibling' ? [DatabaseModule] : where === 'global' ? [GlobalDatabaseModule] : [];
    const testing = await Test.createTestingModule({
      imports: storkFirst ? [stork, ...database] : [...database, stork],
      providers: where === 'root' ? [Database] : [],
      controllers: [Orders],
    }).compile();
    return { testing, shop, gate, events, begun };
  };

  const combinations = databases.flatMap((where) =>
    [true, false].flatMap((isGlobal) => [true, false].map((first) => [where, isGlobal, first] as const)),
  );

  it.each(combinations)(
    'drains before the database of a %s module is closed (stork global: %s, imported first: %s)',
    async (where, isGlobal, first) => {
      for (const shape of ['worker', 'signal', 'hybrid'] as const) {
        const { testing, shop, gate, events, begun } = await build(where, isGlobal, first);
        const app =
          shape === 'hybrid'
            ? testing.createNestApplication({ logger: false })
            : testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
        if ('startAllMicroservices' in app) {
          connectStork(app);
          await app.startAllMicroservices();
          await app.init();
        } else {
          await app.listen();
        }
        await app.get<StorkClient>(getClientToken('main'), { strict: false }).publish('order.created', 1);
        await begun.count(1);
        // A process signal runs the hooks of a worker without its close().
        const closed = shape === 'signal' ? closeBySignal(app) : app.close();
        await new Promise(setImmediate);
        expect(events).toEqual([]);
        gate.open();
        await closed;
        expect(events).toEqual(['handler done', 'database closed']);
        expect(shop.broker.queue(shop.queue)).toMatchObject({ ready: 0, unacked: 0 });
      }
    },
  );

  it('lets providers send in their onModuleDestroy hooks', async () => {
    const shop = new Shop();
    @Injectable()
    class SaysGoodbye implements OnModuleDestroy {
      constructor(private readonly client: StorkClient) {}
      async onModuleDestroy(): Promise<void> {
        await this.client.publish('goodbye', 1);
      }
    }
    @Controller()
    class Orders {
      @EventPattern<string>('order.created')
      created(): void {}
    }
    const testing = await shop.compile([Orders], { providers: [SaysGoodbye] });
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    await app.listen();
    await app.close();
    expect(shop.broker.queue(shop.queue)!.ready).toBe(1);
  });

  it('shortens a running drain by StorkService.drain({ timeoutMs: 0 })', async () => {
    const { testing, shop, gate, begun } = await build('root', true, true);
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    await app.listen();
    await app.get<StorkClient>(getClientToken('main')).publish('order.created', 1);
    await begun.count(1);
    const closed = app.close();
    await app.get(StorkService).drain({ timeoutMs: 0 });
    expect(shop.broker.queue(shop.queue)).toMatchObject({ ready: 1, unacked: 0 });
    gate.open();
    await closed;
  });

  it('can be closed twice and at once', async () => {
    const { testing } = await build('root', true, true);
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    await app.listen();
    await Promise.all([app.close(), app.close()]);
    await app.close();
  });
});
