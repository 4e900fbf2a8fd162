import { Controller, Inject, Injectable, type Type } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { BaseRpcExceptionFilter, Ctx, EventPattern } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import * as stork from 'nestjs-stork';
import { memory, MemoryBroker } from 'nestjs-stork/memory';
import type { StorkContext } from 'nestjs-stork';
import { currentCorrelation } from '../../../lib/core/publish/correlation-context.js';
import { eventually, Gate, Seen } from '../../contract/app.js';

/** One copy of the package, as one `import` loads it. */
interface Copy {
  readonly stork: typeof stork;
  readonly memory: typeof memory;
  readonly MemoryBroker: typeof MemoryBroker;
}

const thisCopy: Copy = { stork, memory, MemoryBroker };

/** Another copy, as a second version in `node_modules` would be. Nest is the same. */
async function loadAnotherCopy(): Promise<Copy> {
  vi.resetModules();
  const another = { stork: await import('nestjs-stork'), ...(await import('nestjs-stork/memory')) };
  expect(another.stork.StorkModule).not.toBe(stork.StorkModule);
  return another;
}

class NoStockError extends Error {
  override readonly name = 'NoStockError';
}

/** An application with a queue of its own. */
async function start(copy: Copy, controllers: readonly Type[], providers: readonly Type[] = []) {
  const broker = new copy.MemoryBroker();
  const transports = { main: copy.memory({ queue: 'orders', broker }) };
  const testing = await Test.createTestingModule({
    imports: [copy.stork.StorkModule.forRoot({ transports, retry: { maxRetries: 0 } })],
    controllers: [...controllers],
    providers: [...providers],
  }).compile();
  const app = testing.createNestMicroservice({ ...copy.stork.storkMicroservice(), logger: false });
  onTestFinished(async () => {
    await app.close();
    broker.close();
  });
  await app.listen();
  const publish = (pattern: string, messageId: string, correlationId?: string): void => {
    const headers = correlationId === undefined ? {} : { 'stork-correlation-id': correlationId };
    const properties = { type: pattern, messageId, contentType: 'application/json' };
    broker.publish('', 'orders', { body: Buffer.from('1'), headers, properties });
  };
  const errorOfDeadLetter = (): Promise<unknown> =>
    eventually(async () => {
      const [first] = broker.queue('orders.dlq')?.peek() ?? [];
      return first === undefined
        ? undefined
        : [first.headers['stork-error-name'], first.headers['stork-error-message']];
    }, 'a dead letter');
  return { app, publish, errorOfDeadLetter };
}

/** A service whose handler sends an event, waits, and sends another. */
async function startShop(copy: Copy, name: string) {
  const gate = new Gate();
  const started = new Seen<string>();
  const seen = new Seen<readonly (string | undefined)[]>();
  @Controller()
  class Orders {
    readonly #client: stork.StorkClient;
    constructor(@copy.stork.InjectClient('main') client: stork.StorkClient) {
      this.#client = client;
    }
    @EventPattern<string>('order')
    async order(): Promise<void> {
      await this.#client.publish('shipped', 1);
      started.add(name);
      await gate.opened;
      await this.#client.publish('shipped', 2);
    }
    @EventPattern<string>('shipped')
    shipped(@Ctx() { correlationId, causationId }: StorkContext): void {
      seen.add([correlationId, causationId]);
    }
    @EventPattern<string>('fails')
    fails(): never {
      throw new NoStockError(`nothing left in ${name}`);
    }
  }
  return { ...(await start(copy, [Orders])), gate, started, seen };
}

describe.each([
  ['two applications', async () => thisCopy],
  ['two copies of the package', loadAnotherCopy],
])('%s in one process', (_, loadOther) => {
  it('keep the correlation contexts of their handlers apart', async () => {
    const one = await startShop(thisCopy, 'one');
    const other = await startShop(await loadOther(), 'other');
    one.publish('order', 'm-1', 'talk-1');
    other.publish('order', 'm-2', 'talk-2');
    await Promise.all([one.started.count(1), other.started.count(1)]);
    one.gate.open();
    other.gate.open();
    const both = ['talk-1', 'm-1'];
    expect(await one.seen.count(2)).toEqual([both, both]);
    const otherBoth = ['talk-2', 'm-2'];
    expect(await other.seen.count(2)).toEqual([otherBoth, otherBoth]);
  });

  it('record the original error of a handler, each in its dead letter, by one patched filter', async () => {
    const one = await startShop(thisCopy, 'one');
    const patched = catchOfFilter();
    const other = await startShop(await loadOther(), 'other');
    expect(catchOfFilter()).toBe(patched);
    one.publish('fails', 'm-1');
    other.publish('fails', 'm-2');
    expect(await one.errorOfDeadLetter()).toEqual(['NoStockError', 'nothing left in one']);
    expect(await other.errorOfDeadLetter()).toEqual(['NoStockError', 'nothing left in other']);
  });

  it('record errors in the remaining one after the other has closed', async () => {
    const one = await startShop(thisCopy, 'one');
    const other = await startShop(await loadOther(), 'other');
    await one.app.close();
    other.publish('fails', 'm-1');
    expect(await other.errorOfDeadLetter()).toEqual(['NoStockError', 'nothing left in other']);
  });
});

it('an application that only receives opens no correlation context beside one that sends', async () => {
  const seen = new Seen<unknown>();
  @Controller()
  class Reader {
    @EventPattern<string>('order')
    order(): void {
      seen.add(currentCorrelation());
    }
  }
  const sender = await startShop(thisCopy, 'sender');
  const reader = await start(thisCopy, [Reader]);
  sender.gate.open();
  sender.publish('order', 'm-1');
  await sender.seen.count(2);
  reader.publish('order', 'm-2');
  expect(await seen.count(1)).toEqual([undefined]);
});

describe('a client that a handler gets by ModuleRef', () => {
  const shipped = new Seen<readonly (string | undefined)[]>();
  class Base {
    readonly modules: ModuleRef;
    constructor(@Inject(ModuleRef) modules: ModuleRef) {
      this.modules = modules;
    }
    async send(token: unknown): Promise<void> {
      await Promise.resolve();
      await this.modules.get<stork.StorkClient>(token as symbol, { strict: false }).publish('shipped', 1);
    }
  }
  @Controller()
  class ByConstructor extends Base {
    @EventPattern<string>('order')
    order(): Promise<void> {
      return this.send(stork.getClientToken('main'));
    }
  }
  @Controller()
  class ByClass extends Base {
    @EventPattern<string>('order')
    order(): Promise<void> {
      return this.send(stork.StorkClient);
    }
  }
  @Controller()
  class ByProperty {
    @Inject(ModuleRef)
    readonly modules!: ModuleRef;
    @EventPattern<string>('order')
    async order(): Promise<void> {
      const client = this.modules.get<stork.StorkClient>(stork.getClientToken('main'), { strict: false });
      await client.publish('shipped', 1);
    }
  }
  @Injectable()
  class Sender extends Base {}
  @Controller()
  class ByProvider {
    @Inject(Sender)
    readonly sender!: Sender;
    @EventPattern<string>('order')
    order(): Promise<void> {
      return this.sender.send(stork.getClientToken('main'));
    }
  }
  @Controller()
  class Reader {
    @EventPattern<string>('shipped')
    shipped(@Ctx() { correlationId, causationId }: StorkContext): void {
      shipped.add([correlationId, causationId]);
    }
  }

  it.each<[string, Type, Type[]]>([
    ['by its token', ByConstructor, []],
    ['by its class', ByClass, []],
    ['of a property', ByProperty, []],
    ['of a provider', ByProvider, [Sender]],
  ])('%s sends the ids of the message from the first one on', async (_, controller, providers) => {
    const { publish } = await start(thisCopy, [controller, Reader], providers);
    const before = shipped.all.length;
    publish('order', 'm-1', 'talk-1');
    expect((await shipped.count(before + 1)).at(-1)).toEqual(['talk-1', 'm-1']);
  });
});

function catchOfFilter(): unknown {
  return Object.getOwnPropertyDescriptor(BaseRpcExceptionFilter.prototype, 'catch')!.value;
}
