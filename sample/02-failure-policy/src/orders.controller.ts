import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { Idempotent, Retry, StorkContext } from 'nestjs-stork';
import { Catalogue, UnknownGoodsError } from './catalogue.js';

export interface Order {
  readonly order: string;
}

/** What the story is about: each handler has its own way to fail, and above it stands what is to happen then. */
@Controller()
export class OrdersController {
  #invoices = 0;

  constructor(private readonly catalogue: Catalogue) {}

  /** Soon over: two more runs in place, after 100 and 200 ms. The messages of the same key wait. */
  @EventPattern<string>('order.paid')
  @Retry({ maxRetries: 2, delayMs: 100, jitter: 'none' })
  paid(@Ctx() ctx: StorkContext): void {
    if (ctx.attempt < 3) throw new Error('the till is busy');
  }

  /** Takes a while: one more run, by way of the broker. Nobody waits for it, and a restart does not forget it. */
  @EventPattern<string>('order.shipped')
  @Retry({ maxRetries: 0, redeliverDelaysMs: [2_000] })
  shipped(@Payload() parcel: Order & { readonly isHeavy: boolean }, @Ctx() ctx: StorkContext): void {
    if (parcel.isHeavy && ctx.attempt === 1) throw new Error('the carrier is out');
  }

  /** Never over by itself: no run can mend it, so there is no second one. */
  @EventPattern<string>('order.created')
  @Retry({ failOn: [UnknownGoodsError] })
  created(@Payload() order: Order & { readonly goods: string }): void {
    this.catalogue.find(order.goods);
  }

  /** Known by its message id: what comes a second time is not handled a second time. */
  @EventPattern<string>('points.earned')
  @Idempotent()
  earned(): void {}

  /** Known by what it is about: the second request gets the first one's reply. */
  @MessagePattern<string>('invoice.make')
  @Idempotent({ key: ({ order }: Order) => order })
  invoice(): string {
    return `invoice no. ${++this.#invoices}`;
  }
}
