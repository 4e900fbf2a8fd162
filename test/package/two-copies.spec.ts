import 'reflect-metadata';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Controller, Module, UseInterceptors } from '@nestjs/common';
import { EventPattern, MessagePattern } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { describe, expect, it, onTestFinished } from 'vitest';

type Library = typeof import('nestjs-stork');
type Memory = typeof import('nestjs-stork/memory');

// A bundler may resolve `import` to the ESM build and `require()` to the CommonJS build.
const dist = fileURLToPath(new URL('../../dist/', import.meta.url));
const esm = (await import(`${dist}esm/index.js`)) as Library;
const esmMemory = ((await import(`${dist}esm/memory/index.js`)) as Memory).memory;
const require = createRequire(import.meta.url);
const cjs = require(`${dist}cjs/index.js`) as Library;
const cjsMemory = (require(`${dist}cjs/memory/index.js`) as Memory).memory;

/** Applies decorators of a method as compiled TypeScript does. */
function decorate(type: object, name: string, ...decorators: readonly unknown[]): void {
  const descriptor = Reflect.getOwnPropertyDescriptor(type, name);
  Reflect.decorate(decorators as MethodDecorator[], type, name, descriptor);
}

class Orders {
  readonly seen: string[] = [];

  created(): never {
    this.seen.push('created');
    throw Object.assign(new Error('no such order'), { code: 'NO_ORDER' });
  }

  quote(): never {
    this.seen.push('quote');
    throw new RangeError('out of stock');
  }

  paid(): void {
    this.seen.push('paid');
  }
}

const deadLettered: string[] = [];
decorate(
  Orders.prototype,
  'created',
  EventPattern('created', cjs.via('orders')),
  cjs.Retry({ maxRetries: 0 }),
  cjs.DeadLetter({
    onDeadLetter: ({ error }) => void deadLettered.push((error as Error).message),
  }),
  cjs.Consume({ id: 'orders.created' }),
);
decorate(
  Orders.prototype,
  'quote',
  MessagePattern('quote'),
  UseInterceptors(new cjs.RetryInterceptor({ maxRetries: 1, delayMs: 1 })),
);
decorate(Orders.prototype, 'paid', EventPattern('paid'), cjs.Idempotent());
cjs.Via('orders')(Orders);
Controller()(Orders);

const transports = { orders: cjsMemory({ queue: 'orders', retry: { delayMs: 1 } }) };

async function startWorker() {
  class AppModule {}
  Module({ imports: [esm.StorkModule.forRoot({ transports })], controllers: [Orders] })(AppModule);
  const testing = await Test.createTestingModule({ imports: [AppModule] }).compile();
  const app = testing.createNestMicroservice({ ...cjs.storkMicroservice(), logger: false });
  await app.listen();
  return app;
}

async function startHybrid() {
  class AppModule {}
  Module({ imports: [esm.StorkModule.forRoot({ transports })], controllers: [Orders] })(AppModule);
  const testing = await Test.createTestingModule({ imports: [AppModule] }).compile();
  const app = testing.createNestApplication({ logger: false });
  cjs.connectStork(app);
  await app.startAllMicroservices();
  await app.init();
  return app;
}

const envelope = { name: 'Error', message: 'refused', code: 'REFUSED', retryable: false };
const errors = (library: Library) => ({
  NoRouteError: new library.NoRouteError('no queue'),
  ConnectionLostError: new library.ConnectionLostError('lost'),
  RemoteError: new library.RemoteError(envelope),
  StorkConfigError: new library.StorkConfigError('wrong'),
});

describe('two copies of the package in one process', () => {
  it('have different classes', () => {
    expect(cjs.StorkError).not.toBe(esm.StorkError);
  });

  it.each(Object.keys(errors(esm)) as (keyof ReturnType<typeof errors>)[])(
    "recognise each other's %s, and no other error",
    (name) => {
      const mine = errors(esm)[name];
      const other = errors(cjs)[name];
      expect([other instanceof esm[name], mine instanceof cjs[name]]).toEqual([true, true]);
      expect([other instanceof esm.StorkError, esm.isStorkError(other)]).toEqual([true, true]);
      expect([other instanceof esm.RequestTimeoutError, new Error('x') instanceof esm[name]]).toEqual([
        false,
        false,
      ]);
      class Special extends esm.RequestTimeoutError {}
      expect([other instanceof Special, new Special('x') instanceof cjs.RequestTimeoutError]).toEqual([
        false,
        true,
      ]);
      expect([other.name, new Special('x').name]).toEqual([name, 'Special']);
    },
  );

  it.each([
    ['worker', startWorker],
    ['hybrid application', startHybrid],
  ])('share the tokens, decorators, interceptors and records of a %s', async (_, start) => {
    deadLettered.length = 0;
    const app = await start();
    onTestFinished(() => app.close());
    const { seen } = app.get(Orders);
    const client = app.get<InstanceType<Library['StorkClient']>>(cjs.getClientToken('orders'));

    const refusal = await client.request('quote', {}).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(cjs.RemoteError);
    expect(refusal).toMatchObject({ remoteName: 'RangeError', message: 'out of stock' });
    expect(seen).toEqual(['quote', 'quote']);

    const record = new cjs.StorkRecordBuilder({}).setMessageId('1').build();
    await client.publish('created', record as never);
    for (let i = 0; i < 2; i++) await client.publish('paid', {}, { messageId: 'p', key: 'k' });
    // Replies come back in the order of the queue: both messages have been handled.
    await client.request('quote', {}, { key: 'k' }).catch(() => undefined);
    await expect.poll(() => deadLettered).toEqual(['no such order']);
    expect(seen.filter((name) => name === 'paid')).toHaveLength(1);
  });

  it.each([
    [
      'the memory broker',
      [esm.StorkModule.forRoot({ transports: { ...transports, other: esmMemory({ queue: 'other' }) } })],
      'the application loads two copies of nestjs-stork/memory',
    ],
    [
      'an application with a StorkModule of each',
      [esm.StorkModule.forRoot({ transports }), cjs.StorkModule.forRoot({ transports })],
      'StorkModule: expected one forRoot() in an application; feature modules add transports by forFeature(), given 2, imported by AppModule',
    ],
  ])('cannot share %s: the start rejects', async (_, imports, message) => {
    class AppModule {}
    Module({ imports })(AppModule);
    const testing = await Test.createTestingModule({ imports: [AppModule] }).compile();
    const app = testing.createNestMicroservice({ ...esm.storkMicroservice(), logger: false });
    onTestFinished(() => app.close());
    await expect(app.listen()).rejects.toThrow(message);
  });
});
