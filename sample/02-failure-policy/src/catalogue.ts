import { Injectable } from '@nestjs/common';

export class UnknownGoodsError extends Error {
  override readonly name = 'UnknownGoodsError';
}

/** What the shop sells. The globe is missing until the last chapter. */
@Injectable()
export class Catalogue {
  readonly #goods = new Set(['tea']);

  find(goods: string): void {
    if (!this.#goods.has(goods)) throw new UnknownGoodsError(`the catalogue has no ${goods}`);
  }

  add(goods: string): void {
    this.#goods.add(goods);
  }
}
