/**
 * Errors of the shop. The caller of a request gets name, message and code; a dead letter has name and
 * message.
 */
abstract class ShopError extends Error {
  abstract readonly code: string;

  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

export class UnknownSkuError extends ShopError {
  readonly code = 'UNKNOWN_SKU';
}

export class OutOfStockError extends ShopError {
  readonly code = 'OUT_OF_STOCK';
}

/** Temporary, unlike the others. */
export class TillBusyError extends ShopError {
  readonly code = 'TILL_BUSY';
}

export class CardDeclinedError extends ShopError {
  readonly code = 'CARD_DECLINED';
}

export class OrderNotPlacedError extends ShopError {
  readonly code = 'ORDER_NOT_PLACED';
}
