import { Controller, UseInterceptors } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import {
  CorrelationInterceptor,
  DeadLetterInterceptor,
  IdempotencyInterceptor,
  Idempotent,
  Retry,
  RetryInterceptor,
  StorkContext,
} from 'nestjs-stork';
import { Catalogue, UnknownGoodsError } from './catalogue.js';

export interface Order {
  readonly order: string;
}

/** Each handler fails in its own way; its comment says what happens then. */
@Controller()
export class OrdersController {
  #invoices = 0;

  constructor(private readonly catalogue: Catalogue) {}

  /** A short outage: two retries in process, after 100 and 200 ms. Messages of the same key wait. */
  @EventPattern<string>('order.paid')
  @Retry({ maxRetries: 2, delayMs: 100, jitter: 'none' })
  paid(@Ctx() ctx: StorkContext): void {
    if (ctx.attempt < 3) throw new Error('the till is busy');
  }

  /**
   * A longer outage: one redelivery through the broker. No other message waits for it, and it survives a
   * restart.
   */
  @EventPattern<string>('order.shipped')
  @Retry({ maxRetries: 0, redeliverDelaysMs: [2_000] })
  shipped(@Payload() parcel: Order & { readonly isHeavy: boolean }, @Ctx() ctx: StorkContext): void {
    if (parcel.isHeavy && ctx.attempt === 1) throw new Error('the carrier is out');
  }

  /** A permanent error: no retry can help, so there is none. */
  @EventPattern<string>('order.created')
  @Retry({ failOn: [UnknownGoodsError] })
  created(@Payload() order: Order & { readonly goods: string }): void {
    this.catalogue.find(order.goods);
  }

  /**
   * Every policy, as interceptors with the options of the module. The key is the message id: a duplicate is
   * not handled again.
   */
  @EventPattern<string>('points.earned')
  @UseInterceptors(RetryInterceptor, IdempotencyInterceptor, DeadLetterInterceptor, CorrelationInterceptor)
  earned(): void {}

  /** The key is the order: the second request gets the first one's reply. */
  @MessagePattern<string>('invoice.make')
  @Idempotent({ key: ({ order }: Order) => order })
  invoice(): string {
    return `invoice no. ${++this.#invoices}`;
  }
}
