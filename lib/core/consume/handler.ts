import type { HandlerAttempt } from './handler-attempt.js';
import type { DeadLetterPolicy } from '../dead-letter/dead-letter-options.js';
import type { IdempotencyPolicy } from '../idempotency/idempotency-options.js';
import type { Pattern } from '../message/pattern.js';
import type { DeliveryMode } from '../port/delivery.js';
import type { DeliveryOrder } from '../port/driver.js';
import type { RetryPolicy } from '../retry/retry-options.js';
import type { Failure } from '../runtime/failure.js';

/** How a handler wants its messages; what it does not say is the default. */
export interface ConsumeSettings {
  readonly order?: DeliveryOrder | undefined;
  readonly delivery?: DeliveryMode | undefined;
  /** Runs of the handler at once. @defaultValue as many as the subscription's */
  readonly concurrency?: number | undefined;
  /** How long a run may take. @defaultValue as long as it likes */
  readonly timeoutMs?: number | undefined;
}

/** One handler of one transport, whatever lies between core and the user's method. */
export interface Handler {
  /** `<Class>.<method>` or the user's own; unique, stable over restarts: dead letters name it. */
  readonly id: string;
  readonly kind: 'event' | 'message';
  readonly patterns: readonly Pattern[];
  readonly consume?: ConsumeSettings;
  /** Undefined: one run. */
  readonly retry?: RetryPolicy;
  /** Undefined: every failure of an event is kept. */
  readonly deadLetter?: DeadLetterPolicy;
  /** Undefined: a message that comes twice runs twice. */
  readonly idempotency?: IdempotencyPolicy;
  /** Runs it once, with everything that wraps it. Resolves when it has completed; never rejects: a failure is a result. */
  run(run: HandlerAttempt): Promise<Failure | undefined>;
}
