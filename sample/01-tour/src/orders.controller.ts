import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { Retry, StorkContext, via } from 'nestjs-stork';
import { euros } from './goods.js';
import { ResultLog } from './result-log.js';
import { OrderCreated, OrderPaid, QuoteRequest, type Quote } from './order.dto.js';
import { TillBusyError } from './shop-errors.js';
import { ShopService } from './shop.service.js';

/**
 * Plain Nest: patterns, DTOs, a service, no try/catch. A message whose handler throws becomes a dead letter,
 * which the DeadLettersController consumes. After a crash a handled message may be redelivered: the result
 * log recognises its id. The shop finds duplicates itself instead of by `@Idempotent()`, because the report
 * lists each of them and an idempotent handler does not run for them.
 */
@Controller()
export class OrdersController {
  constructor(
    private readonly shop: ShopService,
    private readonly results: ResultLog,
  ) {}

  @EventPattern('order.created', via('shop'))
  async created(@Payload() order: OrderCreated, @Ctx() ctx: StorkContext): Promise<void> {
    if (this.results.isRepeat(ctx.messageId)) return;
    if (await this.shop.place(order)) {
      const goods = `${order.quantity} x ${this.shop.nameOf(order.sku)}`;
      this.results.record(ctx, 'handled', `${goods} for ${order.customer}, ${euros(order.cents)}`);
    } else {
      this.results.record(ctx, 'duplicate', 'placed before, so not sent a second time');
    }
  }

  /** A busy till is retried a moment later; a declined card is not. */
  @EventPattern('order.paid', via('shop'))
  @Retry({ maxRetries: 2, delayMs: 20, retryOn: [TillBusyError] })
  async paid(@Payload() payment: OrderPaid, @Ctx() ctx: StorkContext): Promise<void> {
    if (this.results.isRepeat(ctx.messageId)) return;
    if (await this.shop.pay(payment)) {
      const money = `${euros(payment.cents)} by the card ending in ${payment.card}`;
      this.results.record(ctx, 'handled', `paid, ${money}`);
    } else {
      this.results.record(ctx, 'duplicate', 'paid before, so not charged a second time');
    }
  }

  /** A request: the result is the reply, an error reaches the caller as a RemoteError. */
  @MessagePattern('order.quote', via('shop'))
  quote(@Payload() request: QuoteRequest): Quote {
    return this.shop.quote(request);
  }
}
