import { Controller, Logger, UseInterceptors } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest';
import {
  Consume,
  Idempotent,
  IdempotencyInterceptor,
  memoryIdempotencyStore,
  storkMicroservice,
  StorkService,
  type IdempotencyStore,
  type IdempotentOptions,
  type StorkModuleOptions,
} from 'nestjs-stork';
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

/** A store that counts its `close()` calls. */
function newClosable() {
  const closed: number[] = [];
  const store: IdempotencyStore = Object.assign(memoryIdempotencyStore(), {
    close: async () => void closed.push(1),
  });
  return { store, closed };
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
    'transports.main.idempotency.store: expected a store with begin, renew, complete and release, given an object',
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
  const shared = newClosable();
  const own = newClosable();
  const { close } = await start(newOrders(Idempotent()), {
    idempotency: { store: shared.store },
    transports: {
      main: shop.transport(),
      other: shop.transport({ queue: `${shop.queue}.other`, idempotency: { store: shared.store } }),
      third: shop.transport({ queue: `${shop.queue}.third`, idempotency: { store: own.store } }),
    },
  });
  expect([shared.closed, own.closed]).toEqual([[], []]);
  await close();
  await close();
  expect([shared.closed, own.closed]).toEqual([[1], [1]]);
});

it('shuts down and logs a warning if a store cannot be closed', async () => {
  const store: IdempotencyStore = Object.assign(memoryIdempotencyStore(), {
    close: () => Promise.reject(new Error('gone')),
  });
  const { close } = await start(newOrders(Idempotent()), { idempotency: { store } });
  await close();
  expect(log.containing('the idempotency store did not close: gone').length).toBe(1);
});
