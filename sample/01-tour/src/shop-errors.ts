import { RpcException } from '@nestjs/microservices';

/** The caller of a request gets all of an `RpcException`, the code too. */
export class UnknownSkuError extends RpcException {
  override readonly name = 'UnknownSkuError';

  constructor(message: string) {
    super({ code: 'UNKNOWN_SKU', message });
  }
}

/** Errors of events. A dead letter has their name, message and stack. */
abstract class ShopError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

export class OutOfStockError extends ShopError {}

/** Temporary, unlike the others. */
export class TillBusyError extends ShopError {}

export class CardDeclinedError extends ShopError {}

export class OrderNotPlacedError extends ShopError {}
