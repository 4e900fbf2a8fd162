import { mergeLayers } from '../runtime/merge-options.js';

/**
 * What happens when a handler fails. A message is attempted once, retried in process up to `maxRetries`
 * times, then once per entry of `redeliverDelaysMs` through the broker. After the last attempt it becomes a
 * dead letter, or its caller gets the error. Options that are not set come from the class, the transport,
 * the module, and finally from these defaults.
 *
 * @publicApi
 */
export interface RetryOptions {
  /**
   * In-process retries, 0 to 100 000. A waiting message occupies no concurrency slot, but later messages of
   * its key wait for it. @defaultValue 3
   */
  readonly maxRetries?: number | undefined;
  /** Wait before the first in-process retry, in milliseconds. @defaultValue 1 000 */
  readonly delayMs?: number | undefined;
  /** Factor by which the wait grows with each in-process retry, from 1. @defaultValue 2 */
  readonly factor?: number | undefined;
  /** Longest wait before an in-process retry, in milliseconds. @defaultValue 30 000 */
  readonly maxDelayMs?: number | undefined;
  /**
   * `full`: each in-process wait is a random part of its full length, so that messages that failed together
   * are not retried together. @defaultValue 'full'
   */
  readonly jitter?: 'full' | 'none' | undefined;
  /**
   * No attempt starts later than this after the first failure, in milliseconds. Redeliveries count, and so do
   * attempts that follow `ctx.retry()`, also under `manual`. @defaultValue none
   */
  readonly maxElapsedMs?: number | undefined;
  /**
   * Only these failures are retried; all others are `fatal`. The `cause` chain of an error is searched too.
   * An error that is listed here is retried even if it is not retryable by default: an `HttpException` that
   * is a reply, or a rejection by a pipe or guard. `Error` itself does not include those.
   *
   * @defaultValue every failure except a deliberate error reply and a rejection by a pipe or guard
   */
  readonly retryOn?: readonly ErrorMatcher[] | undefined;
  /**
   * Failures that are `fatal` at once. The `cause` chain is searched too. Takes precedence over `retryOn`.
   * @defaultValue []
   */
  readonly failOn?: readonly ErrorMatcher[] | undefined;
  /** Returns true if the result, or the first item of a stream, counts as a failure. @defaultValue none */
  readonly retryOnResult?: ((result: unknown) => boolean) | undefined;
  /**
   * Called when the wait for the next attempt begins. `attempt` is the number of the failed attempt,
   * `delayMs` the wait. The next in-process attempt waits for it too, at most 5 s and without a concurrency
   * slot; a redelivery does not. If it throws or takes longer, the error is logged and the retry continues.
   * A shutdown waits for it within `drainTimeoutMs`. @defaultValue none
   */
  readonly onRetry?: ((attempt: number, error: unknown, delayMs: number) => void | Promise<void>) | undefined;
  /**
   * Delays of the redeliveries through the broker that follow the in-process retries, in milliseconds, from
   * 1 ms to 28 days. A redelivery survives a restart and does not block its key, so later messages of the
   * key may overtake it. It is never early; on a log this is measured by the clock of the process that
   * wrote the record. Without effect under `at-most-once`, because the broker does not redeliver an
   * acknowledged message. @defaultValue []
   */
  readonly redeliverDelaysMs?: readonly number[] | undefined;
  /**
   * Whether failed requests are retried: their callers wait meanwhile. A handler may always call
   * `ctx.retry()`.
   *
   * @defaultValue false; true by `@Retry()` or a `RetryInterceptor` on the handler or its class
   */
  readonly requests?: boolean | undefined;
}

/** `RetryOptions` with all defaults applied. */
export type RetryPolicy = {
  readonly [Name in Exclude<keyof RetryOptions, OptionalField>]-?: NonNullable<RetryOptions[Name]>;
} & Pick<RetryOptions, OptionalField>;
type OptionalField = 'maxElapsedMs' | 'retryOn' | 'retryOnResult' | 'onRetry';

const defaults = {
  maxRetries: 3,
  delayMs: 1_000,
  factor: 2,
  maxDelayMs: 30_000,
  jitter: 'full',
  failOn: [],
  redeliverDelaysMs: [],
  requests: false,
} as const satisfies RetryOptions;

/** Merges field by field; a later layer overrides an earlier one. */
export function resolveRetry(...layers: readonly (RetryOptions | undefined)[]): RetryPolicy {
  return mergeLayers(defaults, ...layers) as unknown as RetryPolicy;
}

/**
 * An error class, subclasses included, or a predicate; a predicate that throws does not match. @publicApi
 */
export type ErrorMatcher = (abstract new (...args: never[]) => unknown) | ((error: unknown) => boolean);
