import type { DeliveryMetadata } from '../message/delivery-metadata.js';
import type { Delivery } from '../port/delivery.js';

/** One attempt as its handler sees it. */
export interface HandlerAttempt {
  readonly handler: { readonly id: string };
  readonly pattern: string;
  readonly value: unknown;
  readonly delivery: Delivery;
  readonly metadata: DeliveryMetadata;
  /** Number of the attempt, from 1, counted across in-process retries and redeliveries. */
  readonly number: number;
  /** Largest number of attempts that the retry policy allows. */
  readonly maxAttempts: number;
  /** When the first attempt failed, in milliseconds since the Unix epoch. */
  readonly firstFailedAt: number | undefined;
  /** Aborts when the outcome of the attempt is ignored. */
  readonly signal: AbortSignal;
  /** Calls `listener` when `signal` aborts, immediately if it has aborted. */
  onAbort(listener: () => void): void;
  /**
   * Accepts a value of the handler's result. False: further values are ignored, so a stream may stop. A
   * promise if the codec encodes asynchronously; the next value must wait for it.
   */
  emit(value: unknown): boolean | Promise<boolean>;
  /**
   * Decides how the message is settled: `ctx.ack()`, `ctx.nack()` or `ctx.retry()`. Only the first decision
   * counts. Returns false for a later one, and if the message is already settled or its source lost.
   */
  decide(decision: HandlerDecision): boolean;
}

/**
 * A decision of the handler. `ack`: the message is handled. `requeue`: it is delivered again. `reject`: it
 * is dead-lettered. `retry`: the next attempt follows after `delayMs`, or after the delay of the retry
 * policy.
 */
export type HandlerDecision =
  | { readonly kind: 'ack' | 'requeue' }
  | { readonly kind: 'reject'; readonly why?: string }
  | { readonly kind: 'retry'; readonly delayMs?: number | undefined };
