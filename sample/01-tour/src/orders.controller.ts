import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { Retry, StorkContext, via } from 'nestjs-stork';
import { euros } from './goods.js';
import { Ledger } from './ledger.js';
import { OrderCreated, OrderPaid, QuoteRequest, type Quote } from './order.dto.js';
import { TillBusyError } from './shop-errors.js';
import { ShopService } from './shop.service.js';

/**
 * Plain Nest: patterns, DTOs, a service. Nothing here catches anything: a message whose handler throws becomes a dead letter, which
 * the LettersController reads. A message may come again after a crash, also when it was handled: the ledger knows by its id.
 * Duplicates are found by the shop and not by `@Idempotent()`: a handler that is not run could not tell of each of them.
 */
@Controller()
export class OrdersController {
  constructor(
    private readonly shop: ShopService,
    private readonly ledger: Ledger,
  ) {}

  @EventPattern('order.created', via('shop'))
  async created(@Payload() order: OrderCreated, @Ctx() ctx: StorkContext): Promise<void> {
    if (this.ledger.isRepeat(ctx.messageId)) return;
    if (await this.shop.place(order)) {
      const goods = `${order.quantity} x ${this.shop.nameOf(order.sku)}`;
      this.ledger.record(ctx, 'handled', `${goods} for ${order.customer}, ${euros(order.cents)}`);
    } else {
      this.ledger.record(ctx, 'duplicate', 'placed before, so not sent a second time');
    }
  }

  /** A busy till is asked again a moment later; that a card is declined stays so. */
  @EventPattern('order.paid', via('shop'))
  @Retry({ maxRetries: 2, delayMs: 20, retryOn: [TillBusyError] })
  async paid(@Payload() payment: OrderPaid, @Ctx() ctx: StorkContext): Promise<void> {
    if (this.ledger.isRepeat(ctx.messageId)) return;
    if (await this.shop.pay(payment)) {
      const money = `${euros(payment.cents)} by the card ending in ${payment.card}`;
      this.ledger.record(ctx, 'handled', `paid, ${money}`);
    } else {
      this.ledger.record(ctx, 'duplicate', 'paid before, so not charged a second time');
    }
  }

  /** A request: what it returns is the answer, what it throws reaches the caller as a RemoteError. */
  @MessagePattern('order.quote', via('shop'))
  quote(@Payload() request: QuoteRequest): Quote {
    return this.shop.quote(request);
  }
}
