import { Controller, Module, type DynamicModule, type Type } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { expect, it, onTestFinished } from 'vitest';
import {
  Consume,
  getClientToken,
  handlerIdPrefix,
  Idempotent,
  Retry,
  storkMicroservice,
  type StorkClient,
  type StorkModuleOptions,
} from 'nestjs-stork';
import { Seen } from '../../contract/app.js';
import { Shop } from '../support.js';

type Imports = readonly (Type | DynamicModule)[];

async function build(shop: Shop, imports: Imports, options: Partial<StorkModuleOptions> = {}) {
  const testing = await Test.createTestingModule({ imports: [shop.stork(options), ...imports] }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  return { app, client: app.get<StorkClient>(getClientToken('main')) };
}

/** Ids of the handlers whose dead letters are in the queue. */
async function failedIds(shop: Shop, count: number): Promise<(string | undefined)[]> {
  const deadLetters = await shop.deadLetters(count);
  return deadLetters.map((deadLetter) => deadLetter['stork-handler']).toSorted();
}

@Controller()
class Stock {
  @EventPattern<string>('stock.counted')
  counted(): never {
    throw new Error('fails');
  }
}

@Module({})
class StockModule {
  static register(prefix?: string): DynamicModule {
    const providers = prefix === undefined ? [] : [handlerIdPrefix(prefix)];
    return { module: StockModule, controllers: [Stock], providers };
  }
}

@Module({ controllers: [Stock] })
class ShopModule {}

@Module({ controllers: [Stock] })
class DepotModule {}

it.each<[string, Imports, readonly string[]]>([
  ['one module', [ShopModule], ['Stock.counted']],
  ['one module with a prefix', [StockModule.register('eu')], ['eu.Stock.counted']],
  ['two modules', [ShopModule, DepotModule], ['DepotModule.Stock.counted', 'ShopModule.Stock.counted']],
  [
    'two imports of a dynamic module with prefixes',
    [StockModule.register('eu'), StockModule.register('us')],
    ['eu.Stock.counted', 'us.Stock.counted'],
  ],
  [
    'two imports, of which the newer has a prefix',
    [StockModule.register(), StockModule.register('us')],
    ['Stock.counted', 'us.Stock.counted'],
  ],
  [
    'a dynamic and a static module',
    [StockModule.register(), DepotModule],
    ['DepotModule.Stock.counted', 'StockModule.Stock.counted'],
  ],
])('a controller in %s handles each event with ids of its own', async (_, imports, ids) => {
  const shop = new Shop();
  const { app, client } = await build(shop, imports);
  await app.listen();
  await client.publish('stock.counted', {});
  expect(await failedIds(shop, ids.length)).toEqual(ids);
});

it.each<[string, Imports]>([
  ['without prefixes', [StockModule.register(), StockModule.register()]],
  ['with the same prefix', [StockModule.register('eu'), StockModule.register('eu')]],
  ['beside another module', [StockModule.register(), DepotModule, StockModule.register()]],
])('refuses two imports of a dynamic module %s', async (_, imports) => {
  const { app } = await build(new Shop(), imports);
  await expect(app.listen()).rejects.toMatchObject({
    code: 'CONFIG',
    message: expect.stringContaining(
      'expected an id for each StockModule that is imported; handlerIdPrefix() among its providers sets one',
    ) as string,
  });
});

it.each([undefined, '', 7])('refuses the prefix %j', async (prefix) => {
  const given: DynamicModule = {
    module: StockModule,
    controllers: [Stock],
    providers: [handlerIdPrefix(prefix as string)],
  };
  const { app } = await build(new Shop(), [given]);
  await expect(app.listen()).rejects.toThrow(
    'handlerIdPrefix() of StockModule: expected text that is not empty',
  );
});

it('two classes of one name have the ids of their modules', async () => {
  const shop = new Shop();
  const imports = ['First', 'Second'].map((name) => {
    @Controller()
    class Stock {
      @EventPattern<string>('stock.counted')
      counted(): never {
        throw new Error('fails');
      }
    }
    const type = { [name]: class {} }[name]!;
    Module({ controllers: [Stock] })(type);
    return type;
  });
  const { app, client } = await build(shop, imports);
  await app.listen();
  await client.publish('stock.counted', {});
  expect(await failedIds(shop, 2)).toEqual(['First.Stock.counted', 'Second.Stock.counted']);
});

it('refuses two methods with one id of @Consume, also in two modules', async () => {
  const imports = ['First', 'Second'].map((name) => {
    @Controller()
    class Orders {
      @EventPattern<string>('x')
      @Consume({ id: 'x' })
      x(): void {}
    }
    const type = { [name]: class {} }[name]!;
    Module({ controllers: [Orders] })(type);
    return type;
  });
  const { app } = await build(new Shop(), imports);
  await expect(app.listen()).rejects.toThrow('expected an id of its own; @Consume({ id }) sets one');
});

it('a retry through the broker comes to the import whose attempt failed, after a restart too', async () => {
  const attempts = new Seen<string>();
  @Controller()
  class Orders {
    @EventPattern<string>('order')
    @Consume({ id: 'order' })
    @Retry({ maxRetries: 0, redeliverDelaysMs: [200] })
    @Idempotent()
    order(@Payload() { failing }: { failing: string }): void {
      attempts.add(regionOf(this));
      if (regionOf(this) === failing) throw new Error('fails');
    }
  }
  const regions = new Map<object, string>();
  const regionOf = (controller: object): string => regions.get(controller)!;
  @Module({})
  class OrdersModule {
    static register(prefix: string): DynamicModule {
      return { module: OrdersModule, controllers: [Orders], providers: [handlerIdPrefix(prefix)] };
    }
  }
  const shop = new Shop();
  const start = async (order: readonly string[]) => {
    const imports = order.map((region) => OrdersModule.register(region));
    const { app, client } = await build(shop, imports);
    imports.forEach((imported, at) =>
      regions.set(app.select(imported).get(Orders, { strict: true }), order[at]!),
    );
    await app.listen();
    return { app, client };
  };
  const first = await start(['eu', 'us']);
  await first.client.publish('order', { failing: 'us' }, { messageId: 'm-1' });
  expect([...(await attempts.count(2))].toSorted()).toEqual(['eu', 'us']);
  await first.app.close();
  await start(['us', 'eu']);
  expect((await attempts.count(3))[2]).toBe('us');
});

it('refuses the message handler of a controller in two modules', async () => {
  @Controller()
  class Quotes {
    @MessagePattern('quote')
    quote(): void {}
  }
  const imports = ['First', 'Second'].map((name) => {
    const type = { [name]: class {} }[name]!;
    Module({ controllers: [Quotes] })(type);
    return type;
  });
  const { app } = await build(new Shop(), imports);
  await expect(app.listen()).rejects.toThrow(
    '@MessagePattern("quote") of Second.Quotes.quote: expected one message handler for a pattern on the ' +
      'transport "main", given First.Quotes.quote handles it too',
  );
});
