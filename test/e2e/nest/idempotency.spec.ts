import { Controller, Logger, UseInterceptors } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  Consume,
  Idempotent,
  IdempotencyInterceptor,
  memoryIdempotencyStore,
  StorkConfigError,
  storkMicroservice,
  StorkService,
  type IdempotencyStore,
  type IdempotencyStoreDefinition,
  type IdempotencyStoreEnvironment,
  type IdempotentOptions,
  type StorkModuleOptions,
} from 'nestjs-stork';
import { systemClock } from '../../../lib/core/runtime/clock.js';
import { LogLines, Shop } from '../support.js';

let shop: Shop;
let log: LogLines;
beforeEach(() => {
  shop = new Shop();
  log = new LogLines();
});
afterEach(() => Logger.overrideLogger(true));

function newOrders(...decorators: readonly MethodDecorator[]) {
  @Controller()
  class Orders {
    readonly handled: number[] = [];
    @EventPattern<string>('created')
    created(n: number): void {
      this.handled.push(n);
    }
  }
  const descriptor = Object.getOwnPropertyDescriptor(Orders.prototype, 'created')!;
  for (const decorate of decorators) decorate(Orders.prototype, 'created', descriptor);
  return Orders;
}

async function start(
  Orders: ReturnType<typeof newOrders>,
  options: Partial<StorkModuleOptions> = {},
  interceptors: readonly IdempotencyInterceptor[] = [],
) {
  // vitest calls `onTestFinished` callbacks in reverse order: the broker closes after the application.
  onTestFinished(() => shop.broker.close());
  const testing = await Test.createTestingModule({
    imports: [shop.stork(options)],
    controllers: [Orders],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: log });
  app.useGlobalInterceptors(...interceptors);
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => (closing ??= app.close());
  onTestFinished(close);
  await app.listen();
  return { app, close };
}

/** A definition that records each store that it makes, and the calls of their `close()`. */
function newDefinition(close: () => Promise<void> = async () => {}) {
  const made: IdempotencyStore[] = [];
  const closed: IdempotencyStore[] = [];
  const definition: IdempotencyStoreDefinition = {
    validate: () => [],
    createStore(environment) {
      const store: IdempotencyStore = Object.assign(memoryIdempotencyStore().createStore(environment), {
        close: () => {
          closed.push(store);
          return close();
        },
      });
      made.push(store);
      return store;
    },
  };
  return { definition, made, closed };
}

it.each<[string, object, string]>([
  [
    'a lease of 0 ms',
    { leaseMs: 0 },
    '@Idempotent({ leaseMs }) of Orders.created: expected an integer from 100 up, given 0',
  ],
  ['text', { ttlMs: '1d' }, '@Idempotent({ ttlMs }) of Orders.created: expected an integer from 1 up'],
  [
    'an unknown value',
    { onStoreError: 'ignore' },
    "@Idempotent({ onStoreError }) of Orders.created: expected one of 'fail', 'process'",
  ],
  [
    'a key that is not a function',
    { key: 'id' },
    '@Idempotent({ key }) of Orders.created: expected a function',
  ],
  [
    'a store, which belongs to the module',
    { store: {} },
    '@Idempotent({ store }) of Orders.created: expected no such option',
  ],
])('refuses at boot, by handler and option: %s', async (_, options, problem) => {
  await expect(start(newOrders(Idempotent(options as IdempotentOptions)))).rejects.toThrow(problem);
  const withInterceptor = UseInterceptors(new IdempotencyInterceptor(options));
  const seenIds = problem.replace('@Idempotent(', 'new IdempotencyInterceptor(');
  await expect(start(newOrders(withInterceptor))).rejects.toThrow(seenIds);
});

it("refuses it together with delivery 'manual', by name", async () => {
  const manual = Consume({ delivery: 'manual' });
  const problem = "@Idempotent() of Orders.created: expected delivery 'at-least-once' or 'at-most-once'";
  await expect(start(newOrders(Idempotent(), manual))).rejects.toThrow(problem);
  await expect(start(newOrders(manual), {}, [new IdempotencyInterceptor()])).rejects.toThrow(problem);
});

it("names the module and the transport if their options are invalid, the store's own checks included", async () => {
  const idempotency = { store: memoryIdempotencyStore({ maxKeys: 0 }), leaseMs: -1 };
  await expect(start(newOrders(), { idempotency })).rejects.toThrow(
    'StorkModule.idempotency.store.maxKeys: expected an integer from 1 up',
  );
  await expect(start(newOrders(), { idempotency })).rejects.toThrow(
    'StorkModule.idempotency.leaseMs: expected an integer from 100 up',
  );
  const transports = { main: shop.transport({ idempotency: { store: { begin: () => {} } as never } }) };
  await expect(start(newOrders(), { transports })).rejects.toThrow(
    'transports.main.idempotency.store: expected redisIdempotencyStore(), memoryIdempotencyStore(), or a store with begin, renew, complete and release, given an object',
  );
});

it('warns once if idempotent handlers have no store, and only then', async () => {
  const { close } = await start(newOrders(Idempotent()));
  expect(log.containing('idempotent handlers have no store').length).toBe(1);
  await close();
  log.lines.length = 0;
  await (await start(newOrders(Idempotent()), { idempotency: { store: memoryIdempotencyStore() } })).close();
  await (await start(newOrders())).close();
  expect(log.containing('no store')).toEqual([]);
});

it('is idempotent by a global interceptor', async () => {
  const Orders = newOrders();
  const { app } = await start(Orders, {}, [new IdempotencyInterceptor()]);
  for (let time = 1; time <= 2; time++) {
    shop.broker.publish('', shop.queue, {
      body: Buffer.from('1'),
      headers: {},
      properties: { type: 'created', messageId: 'm-1' },
    });
    await shop.settled();
  }
  expect(app.get(Orders).handled).toEqual([1]);
  expect(app.get(StorkService).state()['main']!.counts).toMatchObject({ handled: 1, duplicate: 1 });
});

it('closes a store once, after the last handler, also if several transports share it', async () => {
  const shared = newDefinition();
  const own = newDefinition();
  const { close } = await start(newOrders(Idempotent()), {
    idempotency: { store: shared.definition },
    transports: {
      main: shop.transport(),
      other: shop.transport({ queue: `${shop.queue}.other`, idempotency: { store: shared.definition } }),
      third: shop.transport({ queue: `${shop.queue}.third`, idempotency: { store: own.definition } }),
    },
  });
  expect([shared.made.length, own.made.length]).toEqual([1, 1]);
  expect([shared.closed, own.closed]).toEqual([[], []]);
  await close();
  await close();
  expect([shared.closed, own.closed]).toEqual([shared.made, own.made]);
});

it('shuts down and logs a warning if a store cannot be closed', async () => {
  const store = newDefinition(() => Promise.reject(new Error('gone')));
  const { close } = await start(newOrders(Idempotent()), { idempotency: { store: store.definition } });
  await close();
  expect(log.containing('the idempotency store did not close: gone').length).toBe(1);
});

describe('applications from one module class', () => {
  /** The key of every message is the same, so that an application that remembers it skips all later ones. */
  const publish = async (): Promise<void> => {
    shop.broker.publish('', shop.queue, {
      body: Buffer.from('1'),
      headers: {},
      properties: { type: 'created', messageId: 'm-1' },
    });
    await shop.settled();
  };

  /** Starts an application of the same dynamic module each time, as the decorator of a module class does. */
  const newStart = (
    store: IdempotencyStoreDefinition | IdempotencyStore,
    Orders = newOrders(Idempotent()),
  ) => {
    const stork = shop.stork({ idempotency: { store } });
    return async () => {
      const testing = await Test.createTestingModule({ imports: [stork], controllers: [Orders] }).compile();
      const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: log });
      let closing: Promise<void> | undefined;
      const close = (): Promise<void> => (closing ??= app.close());
      onTestFinished(close);
      await app.listen();
      return { close, handled: app.get(Orders).handled };
    };
  };

  /** A store that rejects every call once it is closed, like one that has lost its connection. */
  const mortal = (environment: IdempotencyStoreEnvironment): IdempotencyStore => {
    const inner = memoryIdempotencyStore().createStore(environment);
    let isClosed = false;
    const call = async <T>(forward: () => T | Promise<T>): Promise<T> => {
      if (isClosed) throw new Error('the store is closed');
      return forward();
    };
    return {
      begin: (...args) => call(() => inner.begin(...args)),
      renew: (...args) => call(() => inner.renew(...args)),
      complete: (...args) => call(() => inner.complete(...args)),
      release: (...args) => call(() => inner.release(...args)),
      close: async () => void (isClosed = true),
    };
  };

  it.each<[string, () => IdempotencyStoreDefinition | IdempotencyStore]>([
    ['a definition', () => ({ validate: () => [], createStore: mortal })],
    ['a store of the user', () => mortal({ clock: systemClock })],
    ['memoryIdempotencyStore()', () => memoryIdempotencyStore()],
  ])('do not share the life of %s, one after the other and at once', async (name, newStore) => {
    onTestFinished(() => shop.broker.close());
    const start = newStart(newStore());
    const first = await start();
    await publish();
    await first.close();
    const second = await start();
    const third = await start();
    await second.close();
    await publish();
    await third.close();
    expect(first.handled).toEqual([1]);
    // What the user made is one store, which remembers the first message.
    expect(third.handled).toEqual(name === 'a store of the user' ? [] : [1]);
  });

  it('report a definition that makes no store, by what it does', async () => {
    const returning = (made: unknown): IdempotencyStoreDefinition => ({
      validate: () => [],
      createStore: () => made as IdempotencyStore,
    });
    await expect(newStart(returning({ begin: () => {} }))()).rejects.toThrow(
      'idempotency.store: expected createStore() to return a store with begin, renew, complete and release, given an object',
    );
    await expect(newStart(returning(Promise.resolve()))()).rejects.toThrow(StorkConfigError);
    const throwing = { ...returning(undefined), createStore: () => raise('no database') };
    await expect(newStart(throwing)()).rejects.toThrow(
      'idempotency.store: createStore() failed: no database',
    );
  });
});

function raise(message: string): never {
  throw new Error(message);
}
