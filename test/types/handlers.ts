import {
  Ctx,
  EventPattern,
  MessagePattern,
  Payload,
  type AsyncMicroserviceOptions,
} from '@nestjs/microservices';
import { NestFactory } from '@nestjs/core';
import {
  Consume,
  StorkModule,
  storkMicroservice,
  via,
  type StorkClient,
  type StorkContext,
} from 'nestjs-stork';
import { memory } from 'nestjs-stork/memory';

/** Compiled under `strict` by `npm run types`; lines that must not compile carry `@ts-expect-error`. */
class Order {
  id!: string;
}

export class Handlers {
  @EventPattern('via', via('orders'))
  @Consume({ id: 'typed' })
  typedContext(@Payload() _order: Order, @Ctx() _context: StorkContext): void {}

  @EventPattern('via', via('orders', 'billing'))
  noParameters(): void {}

  @EventPattern<string>('without via')
  typedContextToo(@Payload() _order: Order, @Ctx() _context: StorkContext): void {}

  @MessagePattern('request')
  request(@Payload() order: Order, @Ctx() _context: StorkContext): string {
    return order.id;
  }

  // Nest's overload for typed events: the reason why `via()` returns `symbol | undefined`, and why samples
  // without `via()` write `@EventPattern<string>`.
  // @ts-expect-error -- parameters after the first are `unknown` there
  @EventPattern('plain')
  typedContextPlain(@Payload() _order: Order, @Ctx() _context: StorkContext): void {}

  // @ts-expect-error -- via() names at least one transport
  @EventPattern('nothing named', via())
  nothingNamed(): void {}
}

interface Shop {
  'order.created': { request: Order };
  'order.quote': { request: { sku: string }; reply: { cents: number } };
}

export async function useTypedClient(client: StorkClient<Shop>): Promise<number> {
  await client.publish('order.created', { id: '1' });
  // @ts-expect-error -- the contract's data
  client.publish('order.created', { sku: 'x' });
  // @ts-expect-error -- no pattern of the contract
  client.publish('order.made', { id: '1' });
  const quote = await client.request('order.quote', { sku: 'x' });
  return quote.cents;
}

export async function useUntypedClient(client: StorkClient): Promise<number> {
  await client.publish('anything', { at: 'all' });
  await client.publish({ cmd: 'sum' }, [1, 2]);
  const sum = await client.request<number>({ cmd: 'sum' }, [1, 2]);
  return sum + (await client.request<number>('sum', [1, 2]));
}

export const module = StorkModule.forRootAsync({
  transports: ['orders'],
  inject: [Order],
  useFactory: (order: Order) => ({ transports: {}, drainTimeoutMs: order.id.length }),
});

export const feature = StorkModule.forFeature({ billing: memory({ queue: 'billing' }) });
// @ts-expect-error -- options are no transport
export const notATransport = StorkModule.forFeature({ billing: { queue: 'billing' } });
export const withoutTransports = StorkModule.forRoot({ retry: { maxRetries: 1 } });

export const untyped = StorkModule.forRootAsync({
  transports: ['orders'],
  // @ts-expect-error -- the parameters are unknown unless they are annotated
  useFactory: (order) => ({ transports: {}, drainTimeoutMs: order.id.length }),
});

/** Options of Nest need neither a spread nor a cast. */
export async function createWorkers(): Promise<void> {
  await NestFactory.createMicroservice(Order, storkMicroservice());
  await NestFactory.createMicroservice(Order, storkMicroservice({ logger: false, abortOnError: false }));
  await NestFactory.createMicroservice<AsyncMicroserviceOptions>(
    Order,
    storkMicroservice({ logger: ['error'], bufferLogs: true, autoFlushLogs: false }),
  );
  // @ts-expect-error -- the transports are options of StorkModule
  storkMicroservice({ transport: 0 });
}
