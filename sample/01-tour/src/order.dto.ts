import { IsInt, IsISO8601, IsNotEmpty, IsString, Matches, Min } from 'class-validator';

const orderNumber = /^SH-\d{5}$/;
const lastFourDigits = /^\d{4}$/;

/** A new order. The validation pipe removes fields that are not listed here. */
export class OrderCreated {
  @Matches(orderNumber, { message: 'order must be a number such as SH-00017' })
  order!: string;

  @IsString()
  @IsNotEmpty()
  customer!: string;

  @IsString()
  sku!: string;

  @IsInt()
  @Min(1)
  quantity!: number;

  @IsInt()
  @Min(0)
  cents!: number;

  @IsISO8601()
  at!: string;
}

/** A payment of an order. */
export class OrderPaid {
  @Matches(orderNumber, { message: 'order must be a number such as SH-00017' })
  order!: string;

  @Matches(lastFourDigits, { message: 'card must be the last four digits' })
  card!: string;

  @IsInt()
  @Min(0)
  cents!: number;

  @IsISO8601()
  at!: string;
}

/** Asks for a price. */
export class QuoteRequest {
  @IsString()
  sku!: string;

  @IsInt()
  @Min(1)
  quantity!: number;
}

/** The reply to a `QuoteRequest`. */
export interface Quote {
  readonly goods: string;
  readonly quantity: number;
  readonly cents: number;
}
