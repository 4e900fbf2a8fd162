import type { ErrorEnvelope } from '../runtime/errors.js';
import type { Delivery } from '../port/delivery.js';
import type { Failure } from '../runtime/failure.js';
import type { Handler } from './handler.js';

/**
 * What becomes of a message, as one of its handlers determines it. `settle` is the only function that turns
 * outcomes into an acknowledgement, a republished message or a requeue.
 */
export type Outcome =
  | HandledOutcome
  | FailedOutcome
  | RedeliverOutcome
  /** The handler has given the message back. */
  | { readonly kind: 'requeue' }
  | InterruptedOutcome
  /** Under `manual`: the handler has returned and decides later. */
  | { readonly kind: 'deferred'; readonly outcome: Promise<Outcome> };

export interface HandledOutcome {
  readonly kind: 'handled';
  /** The handler acknowledged the message and then failed: the caller of a request gets this error. */
  readonly error?: ErrorEnvelope;
  /** An earlier delivery of the message was handled. */
  readonly isDuplicate?: boolean;
}

export interface FailedOutcome {
  readonly kind: 'failed';
  readonly attempt: AttemptFacts;
  readonly failure: Failure;
  /** Milliseconds since the Unix epoch. */
  readonly failedAt: number;
  /**
   * Whether another attempt may follow: as the retry policy says, because the handler has requested it, or
   * not at all.
   */
  readonly retry: 'by-policy' | RetryRequest | 'never';
  /** The handler returned an error to its caller on purpose, e.g. an `RpcException`; the message is valid. */
  readonly isErrorReply: boolean;
}

/** The handler has called `retry`. Without a delay the retry policy decides it. */
export interface RetryRequest {
  readonly delayMs: number | undefined;
  /** The handler has failed too. */
  readonly failure: Failure | undefined;
}

/** The message returns to this handler through the broker. */
export interface RedeliverOutcome {
  readonly kind: 'redeliver';
  readonly attempt: AttemptFacts;
  readonly delayMs: number;
  /** True if the handler has not run: the redelivery is for the same attempt. */
  readonly isDeferral: boolean;
}

/** A shutdown or the loss of the source ended a wait before this attempt, or before its decision. */
export interface InterruptedOutcome {
  readonly kind: 'interrupted';
  readonly attempt: AttemptFacts;
}

/** What dead letters and redeliveries say of an attempt. */
export interface AttemptFacts {
  readonly handler: Handler;
  readonly pattern: string;
  readonly delivery: Delivery;
  /** The name of the transport, for log lines. */
  readonly subscription: string;
  /** From 1, counted across in-process retries and redeliveries. */
  readonly number: number;
  readonly maxAttempts: number;
  /** When the first attempt failed, in milliseconds since the Unix epoch. */
  readonly firstFailedAt: number | undefined;
}

export const handled: HandledOutcome = { kind: 'handled' };
export const requeued: Outcome = { kind: 'requeue' };

export function interrupted(attempt: AttemptFacts): InterruptedOutcome {
  return { kind: 'interrupted', attempt };
}
