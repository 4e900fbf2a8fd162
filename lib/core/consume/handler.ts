import type { HandlerAttempt } from './handler-attempt.js';
import type { DeadLetterPolicy } from '../dead-letter/dead-letter-options.js';
import type { IdempotencyPolicy } from '../idempotency/idempotency-options.js';
import type { Pattern } from '../message/pattern.js';
import type { DeliveryMode } from '../port/delivery.js';
import type { DeliveryOrder } from '../port/driver.js';
import type { RetryPolicy } from '../retry/retry-options.js';
import type { Failure } from '../runtime/failure.js';

/** How a handler consumes its messages. */
export interface ConsumeSettings {
  readonly order?: DeliveryOrder | undefined;
  readonly delivery?: DeliveryMode | undefined;
  /**
   * Messages that the handler may process at the same time. @defaultValue the `concurrency` of the
   * transport
   */
  readonly concurrency?: number | undefined;
  /** Time limit of one attempt in milliseconds. @defaultValue none */
  readonly timeoutMs?: number | undefined;
}

/**
 * A handler of one transport. Hides what surrounds the user's method, e.g. guards, pipes and interceptors.
 */
export interface Handler {
  /**
   * `<Class>.<method>` or the user's own id. Unique and stable across restarts, because dead letters and
   * redeliveries name it.
   */
  readonly id: string;
  readonly kind: 'event' | 'message';
  readonly patterns: readonly Pattern[];
  readonly consume?: ConsumeSettings;
  /** Undefined: one attempt. */
  readonly retry?: RetryPolicy;
  /** Undefined: every failed event is dead-lettered. */
  readonly deadLetter?: DeadLetterPolicy;
  /** Undefined: a message that is delivered twice is processed twice. */
  readonly idempotency?: IdempotencyPolicy;
  /**
   * Calls the handler once. Resolves when it has ended, with the failure if it has failed. Never rejects.
   */
  run(attempt: HandlerAttempt): Promise<Failure | undefined>;
}
