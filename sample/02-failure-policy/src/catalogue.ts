import { Injectable } from '@nestjs/common';

export class UnknownGoodsError extends Error {
  override readonly name = 'UnknownGoodsError';
}

/** What the shop sells. Somebody has forgotten the globe. */
@Injectable()
export class Catalogue {
  readonly #goods = new Set(['tea']);

  find(goods: string): void {
    if (!this.#goods.has(goods)) throw new UnknownGoodsError(`nobody sells a ${goods} here`);
  }

  add(goods: string): void {
    this.#goods.add(goods);
  }
}
