import type { DeliveryMetadata } from '../message/delivery-metadata.js';
import type { Delivery } from '../port/delivery.js';

/** What one run of a handler gets. */
export interface HandlerAttempt {
  readonly pattern: string;
  readonly value: unknown;
  readonly delivery: Delivery;
  readonly metadata: DeliveryMetadata;
  /** Its number, from 1, over runs in place and redeliveries. */
  readonly number: number;
  /** How many there can be. */
  readonly maxAttempts: number;
  /** When a run of the message first failed, in milliseconds since the epoch. */
  readonly firstFailedAt: number | undefined;
  /** Aborts when what comes of the run no longer counts. */
  readonly signal: AbortSignal;
  /** What else has to stop then, at once if it has come. */
  onAbort(listener: () => void): void;
  /** Takes a value of the result. False: nobody wants more, a stream may stop. */
  emit(value: unknown): boolean;
  /**
   * What the handler itself says of the message. The first verb decides: false for a later one, and where the message is settled or
   * somebody else's already.
   */
  decide(verb: Verb): boolean;
}

/** `ack`: handled. `requeue`: to come again. `reject`: to the dead letters. `retry`: the next of its runs, then or when its policy says. */
export type Verb =
  | { readonly kind: 'ack' | 'requeue' }
  | { readonly kind: 'reject'; readonly why?: string }
  | { readonly kind: 'retry'; readonly delayMs?: number | undefined };
