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

/** Simulated latency of the warehouse and the till. */
const momentMs = 2;
/** The till declines the card with these last digits. */
const declinedCard = '0002';
/** The till is busy at the first payment of every thirtieth order, and at the second of every sixtieth. */
const busyOnceEvery = 30;
const busyTwiceEvery = 60;

/**
 * The business logic, without any messaging. The look-up of an order number is safe although many handlers
 * run at once: messages of one key are handled one after another.
 */
@Injectable()
export class ShopService {
  readonly #placed = new Set<string>();
  readonly #paid = new Set<string>();
  /** Payments tried per order. */
  readonly #asked = new Map<string, number>();

  /** Restores what an earlier process did. */
  restore(deed: 'placed' | 'paid', order: string): void {
    (deed === 'placed' ? this.#placed : this.#paid).add(order);
  }

  quote({ sku, quantity }: QuoteRequest): Quote {
    const goods = findGoods(sku);
    return { goods: goods.name, quantity, cents: goods.cents * quantity };
  }

  /** False: the order had been placed already. */
  async place({ order, sku, quantity }: OrderCreated): Promise<boolean> {
    if (this.#placed.has(order)) return false;
    const goods = findGoods(sku);
    await sleep(momentMs);
    if (!goods.isInStock) throw new OutOfStockError(`the warehouse has no ${goods.name}, ${quantity} wanted`);
    this.#placed.add(order);
    return true;
  }

  /** False: the order had been paid already. */
  async pay({ order, card, cents }: OrderPaid): Promise<boolean> {
    if (this.#paid.has(order)) return false;
    // In the file every order precedes its payment, so this error would mean that a payment overtook its
    // order.
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
