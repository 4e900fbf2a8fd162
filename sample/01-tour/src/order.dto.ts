import { IsInt, IsISO8601, IsNotEmpty, IsString, Matches, Min } from 'class-validator';

const orderNumber = /^SH-\d{5}$/;
const lastFourDigits = /^\d{4}$/;

/** Somebody wants something. What a message says beyond these fields is dropped by the validation pipe. */
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

/** The money for an order. */
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

/** What would it cost? */
export class QuoteRequest {
  @IsString()
  sku!: string;

  @IsInt()
  @Min(1)
  quantity!: number;
}

/** The answer to a `QuoteRequest`. */
export interface Quote {
  readonly goods: string;
  readonly quantity: number;
  readonly cents: number;
}
