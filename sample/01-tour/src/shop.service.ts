import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { euros, goodsBySku, type Goods } from './goods.js';
import type { OrderCreated, OrderPaid, Quote, QuoteRequest } from './order.dto.js';
import {
  CardDeclinedError,
  OrderNotPlacedError,
  OutOfStockError,
  TillBusyError,
  UnknownSkuError,
} from './shop-errors.js';

/** Asking the warehouse or the till takes a moment, as it would anywhere. */
const momentMs = 2;
/** The till takes every card but the one that ends so. */
const declinedCard = '0002';
/** The till is busy when it is first asked about every thirtieth order, and once more about every sixtieth. */
const busyOnceEvery = 30;
const busyTwiceEvery = 60;

/**
 * The shop's own business; it knows nothing of messages. It looks up by order number whether it has seen an order before, which is
 * safe although many handlers run at once: messages of one key come one after another.
 */
@Injectable()
export class ShopService {
  readonly #placed = new Set<string>();
  readonly #paid = new Set<string>();
  /** How often the till was asked about an order. */
  readonly #asked = new Map<string, number>();

  /** What was done before this process began. */
  restore(deed: 'placed' | 'paid', order: string): void {
    (deed === 'placed' ? this.#placed : this.#paid).add(order);
  }

  quote({ sku, quantity }: QuoteRequest): Quote {
    const goods = findGoods(sku);
    return { goods: goods.name, quantity, cents: goods.cents * quantity };
  }

  /** False: the order was placed before, and nothing was done. */
  async place({ order, sku, quantity }: OrderCreated): Promise<boolean> {
    if (this.#placed.has(order)) return false;
    const goods = findGoods(sku);
    await sleep(momentMs);
    if (!goods.isInStock) throw new OutOfStockError(`the warehouse has no ${goods.name}, ${quantity} wanted`);
    this.#placed.add(order);
    return true;
  }

  /** False: the order was paid before, and nothing was done. */
  async pay({ order, card, cents }: OrderPaid): Promise<boolean> {
    if (this.#paid.has(order)) return false;
    // The file pays no order before it is placed. Seen here, a payment would have overtaken its order.
    if (!this.#placed.has(order)) throw new OrderNotPlacedError(`${order} is paid and was never placed`);
    await sleep(momentMs);
    if (this.#isTillBusy(order)) throw new TillBusyError(`the till has no time for ${order}`);
    if (card === declinedCard) {
      throw new CardDeclinedError(`the till declined the card ending in ${card} for ${euros(cents)}`);
    }
    this.#paid.add(order);
    return true;
  }

  #isTillBusy(order: string): boolean {
    const before = this.#asked.get(order) ?? 0;
    this.#asked.set(order, before + 1);
    const number = Number(order.slice(-5));
    return (before === 0 && number % busyOnceEvery === 0) || (before === 1 && number % busyTwiceEvery === 0);
  }

  nameOf(sku: string): string {
    return findGoods(sku).name;
  }
}

function findGoods(sku: string): Goods {
  const goods = goodsBySku.get(sku);
  if (goods === undefined) throw new UnknownSkuError(`the shop has never sold ${JSON.stringify(sku)}`);
  return goods;
}
