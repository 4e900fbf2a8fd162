import 'reflect-metadata';
import { Controller, Get, Injectable, UseInterceptors, type Type } from '@nestjs/common';
import { EventPattern, Transport } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  Consume,
  CorrelationInterceptor,
  DeadLetter,
  Idempotent,
  IdempotencyInterceptor,
  Retry,
  RetryInterceptor,
  storkMicroservice,
} from 'nestjs-stork';
import { Shop } from '../support.js';

let shop: Shop;
beforeEach(() => {
  shop = new Shop();
});
afterEach(() => shop.broker.close());

async function bootWith(controllers: readonly Type[], providers: readonly Type[] = []): Promise<void> {
  const testing = await Test.createTestingModule({
    imports: [shop.stork()],
    controllers: [...controllers],
    providers: [...providers],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  try {
    await app.listen();
  } finally {
    await app.close();
  }
}

const expected = 'expected a handler: a method of a controller with @EventPattern() or @MessagePattern()';

it('refuses a policy on a method that receives no messages', async () => {
  @Injectable()
  @Idempotent()
  class Mailer {
    @Retry({ maxRetries: 5 })
    send(): void {}

    @EventPattern<string>('sent')
    @DeadLetter()
    sent(): void {}
  }
  @Controller()
  class Orders {
    @EventPattern<string>('created')
    created(): void {}

    @Get()
    @Consume({ concurrency: 1 })
    @UseInterceptors(new RetryInterceptor())
    list(): void {}

    @Get('all')
    @UseInterceptors(RetryInterceptor)
    listAll(): void {}

    @Get('traced')
    @UseInterceptors(CorrelationInterceptor)
    traced(): void {}

    @EventPattern<string>('foreign', Transport.TCP)
    @Retry({})
    foreign(): void {}
  }
  const refusal = await bootWith([Orders], [Mailer]).then(
    () => 'none',
    (error: unknown) => (error as Error).message,
  );
  for (const problem of [
    `@Idempotent() of Mailer: ${expected}, given a class without handlers`,
    `@Retry() of Mailer.send: ${expected}, given a method that receives no messages`,
    `@DeadLetter() of Mailer.sent: ${expected}, given a method of a provider, where Nest looks for no handlers`,
    `new RetryInterceptor() of Orders.list: ${expected}, given a method that receives no messages`,
    `RetryInterceptor() of Orders.listAll: ${expected}, given a method that receives no messages`,
    `@Consume() of Orders.list: ${expected}, given a method that receives no messages`,
    `@Retry() of Orders.foreign: ${expected}, given a handler of a transport that is not of this library`,
  ])
    expect(refusal).toContain(problem);
  expect(refusal).not.toContain('Orders.traced');
});

it('accepts a policy on a class with a handler, whatever other methods it has', async () => {
  @Controller()
  @Retry({ maxRetries: 1 })
  @UseInterceptors(new IdempotencyInterceptor())
  class Orders {
    @EventPattern<string>('created')
    created(): void {}

    @Get()
    list(): void {}
  }
  await expect(bootWith([Orders])).resolves.toBeUndefined();
});

it('accepts policies on controllers, their base classes and providers that are controllers', async () => {
  @Retry({ maxRetries: 1 })
  abstract class Base {
    @EventPattern<string>('created')
    @Consume({ concurrency: 1 })
    created(): void {}
  }
  @Controller()
  class Orders extends Base {}
  @Retry({ maxRetries: 1 })
  abstract class PolicyBase {}
  @Controller()
  class Pages extends PolicyBase {
    @Get()
    list(): void {}
  }
  @Injectable()
  class Standing extends Base {}
  @Controller()
  class Walking extends Standing {
    @EventPattern<string>('walked')
    @Retry({ maxRetries: 1 })
    walked(): void {}
  }
  const providers = [Orders, Standing, Walking];
  await expect(bootWith([Orders, Pages, Walking], providers)).resolves.toBeUndefined();
});
