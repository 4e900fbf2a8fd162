import { Controller, Logger, Module } from '@nestjs/common';
import { EventPattern, MessagePattern, Transport } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { afterEach, expect, it, onTestFinished } from 'vitest';
import {
  Consume,
  getClientToken,
  StorkModule,
  storkMicroservice,
  Via,
  via,
  type StorkClient,
} from 'nestjs-stork';
import { memory, MemoryBroker, type MemoryOptions } from 'nestjs-stork/memory';
import { Seen } from '../../contract/app.js';
import { LogLines, Shop } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

/** An application with the transports `a` and `b` on queues of the same names. */
async function startTwo(
  controllers: (new () => object)[],
  options: Partial<Record<'a' | 'b', Partial<MemoryOptions>>> = {},
) {
  const broker = new MemoryBroker();
  const transports = {
    a: memory({ queue: 'a', broker, ...options.a }),
    b: memory({ queue: 'b', broker, ...options.b }),
  };
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports })],
    controllers,
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  const client = (name: 'a' | 'b'): StorkClient => app.get(getClientToken(name));
  return { app, broker, client };
}

it('binds a handler to the transports in via() or @Via(), and to all without', async () => {
  const seen = new Seen<string>();
  @Controller()
  class Handlers {
    @EventPattern('only.a', via('a'))
    onlyA(): void {
      seen.add('only.a');
    }
    @EventPattern('both', via('a', 'b'))
    both(): void {
      seen.add('both');
    }
    @EventPattern<string>('everywhere')
    everywhere(): void {
      seen.add('everywhere');
    }
  }
  @Via('b')
  @Controller()
  class OnB {
    @EventPattern<string>('class.b')
    classB(): void {
      seen.add('class.b');
    }
    @EventPattern('method.a', via('a'))
    methodA(): void {
      seen.add('method.a');
    }
  }
  const { app, client } = await startTwo([Handlers, OnB]);
  await app.listen();
  const patterns = ['only.a', 'both', 'everywhere', 'class.b', 'method.a'];
  for (const name of ['a', 'b'] as const) {
    for (const pattern of patterns) {
      await client(name).publish(pattern, 1);
    }
  }
  expect([...(await seen.count(7))].toSorted()).toEqual(
    ['only.a', 'both', 'both', 'everywhere', 'everywhere', 'class.b', 'method.a'].toSorted(),
  );
});

it("consumes nothing with handlers 'none', and without via() nothing with 'explicit'", async () => {
  @Controller()
  class Handlers {
    @EventPattern<string>('anywhere')
    anywhere(): void {}
  }
  const { app, broker } = await startTwo([Handlers], {
    a: { handlers: 'none' },
    b: { handlers: 'explicit' },
  });
  await app.listen();
  expect(broker.queueNames).toEqual([]);
});

it("ignores handlers of Nest's own and of foreign transports", async () => {
  @Controller()
  class Foreign {
    @EventPattern('tcp', Transport.TCP)
    tcp(_data: unknown): void {}
    @MessagePattern('symbol', Symbol('foreign'))
    symbol(): void {}
  }
  const { app, broker } = await startTwo([Foreign]);
  await app.listen();
  expect(broker.queueNames).toEqual([]);
});

it('refuses an unknown transport name and lists the known ones', async () => {
  @Controller()
  class Handlers {
    @EventPattern('x', via('ordres'))
    x(): void {}
  }
  const { app } = await startTwo([Handlers]);
  await expect(app.listen()).rejects.toMatchObject({
    code: 'CONFIG',
    message: 'via() of Handlers.x: expected one of the transports a, b, given "ordres"',
  });
});

it('keeps RegExp patterns, which Nest would normalise to {}', async () => {
  const seen = new Seen<string>();
  @Controller()
  class Handlers {
    @EventPattern(/^a\d$/, via('a'))
    digits(): void {
      seen.add('digits');
    }
    @EventPattern(/^b\d$/, via('a'))
    others(): void {
      seen.add('others');
    }
  }
  const { app, client } = await startTwo([Handlers]);
  await app.listen();
  await client('a').publish('b7', 1);
  expect(await seen.count(1)).toEqual(['others']);
});

it('distinguishes the controllers that inherit a method', async () => {
  const seen = new Seen<string>();
  abstract class Base {
    @MessagePattern('who', via('a'))
    who(): void {
      seen.add(this.constructor.name);
    }
  }
  @Controller()
  class One extends Base {}
  @Controller()
  class Two extends Base {}
  const { app } = await startTwo([One, Two]);
  // Both controllers would answer the same request, so the error names both.
  await expect(app.listen()).rejects.toThrow('Two.who: expected one message handler');
});

it('refuses two methods with the same id and names @Consume({ id })', async () => {
  const make = () => {
    @Controller()
    class Orders {
      @EventPattern<string>('x')
      created(): void {}
    }
    return Orders;
  };
  const { app } = await startTwo([make(), make()]);
  await expect(app.listen()).rejects.toThrow(
    'handler id of Orders.created: expected an id of its own; @Consume({ id }) sets one',
  );
});

it('uses the id of @Consume', async () => {
  const make = (id: string) => {
    @Controller()
    class Orders {
      @EventPattern('x', via('a'))
      @Consume({ id })
      created(): never {
        throw new Error('fails');
      }
    }
    return Orders;
  };
  const shop = new Shop();
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports: { a: shop.transport() } })],
    controllers: [make('first'), make('second')],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  await app.listen();
  await app.get<StorkClient>(getClientToken('a')).publish('x', 1);
  const deadLetters = await shop.deadLetters(2);
  expect(deadLetters.map((deadLetter) => deadLetter['stork-handler']).toSorted()).toEqual([
    'first',
    'second',
  ]);
});

it('refuses two StorkModules in one application and names their importers', async () => {
  const shop = new Shop();
  @Module({ imports: [shop.stork()] })
  class BillingModule {}
  @Module({ imports: [shop.stork()] })
  class ShippingModule {}
  const testing = await Test.createTestingModule({ imports: [BillingModule, ShippingModule] }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  await expect(app.listen()).rejects.toThrow('given 2, imported by BillingModule and ShippingModule');
});

it('warns if handlers need a strategy and none is connected', async () => {
  @Controller()
  class Orders {
    @EventPattern('x', via('main'))
    created(): void {}
  }
  const logs = new LogLines();
  const testing = await new Shop().compile([Orders]);
  testing.useLogger(logs);
  const app = testing.createNestApplication();
  onTestFinished(() => app.close());
  await app.init();
  expect(logs.containing('no strategy is connected')[0]).toContain('Orders.created');
});
