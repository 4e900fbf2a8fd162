import type { MaxHoldTime } from '../port/driver.js';
import { ignoreRejection } from '../runtime/user-hooks.js';
import type { ErrorMatcher, RetryPolicy } from './retry-options.js';

/** A failed attempt. Times in milliseconds since the Unix epoch. */
export interface FailedAttempt {
  /** Number of the attempt, from 1, counted across in-process retries and redeliveries. */
  readonly attempt: number;
  /** What an exception filter made of the error, if it did; then the error as thrown. */
  readonly errors: readonly unknown[];
  /**
   * False for a rejection by a pipe or guard and for a deliberate error reply: another attempt would end
   * the same way.
   */
  readonly isRetryable: boolean;
  readonly firstFailedAt: number;
  readonly now: number;
}

/**
 * What follows a failed attempt. `fatal`: another attempt would not help. `exhausted`: no attempt is left.
 */
export type NextStep =
  | { readonly kind: 'in-process'; readonly delayMs: number }
  | { readonly kind: 'redeliver'; readonly delayMs: number }
  | { readonly kind: 'exhausted' }
  | { readonly kind: 'fatal' };

/** Longest delay that a handler may request, one day: longer delays belong in a scheduler. */
export const maxRequestedDelayMs = 24 * 60 * 60 * 1_000;

const exhausted: NextStep = { kind: 'exhausted' };
const fatal: NextStep = { kind: 'fatal' };

/** Attempts of one message in total. */
export function maxAttemptsOf({ maxRetries, redeliverDelaysMs }: RetryPolicy): number {
  return 1 + maxRetries + redeliverDelaysMs.length;
}

/**
 * Derives the next step from the number of the attempt alone, so that the chain continues after a restart.
 */
export function stepAfter(failed: FailedAttempt, policy: RetryPolicy, random: () => number): NextStep {
  if (!isWorthRetrying(failed, policy)) return fatal;
  const step = stepByNumber(failed.attempt, policy, random);
  return 'delayMs' in step && isTooLate(failed, policy, step.delayMs) ? exhausted : step;
}

/**
 * The next step after the handler has requested a retry, with or without a delay. It counts as an attempt
 * whatever the failure is.
 */
export function stepAsRequested(
  failed: FailedAttempt,
  policy: RetryPolicy,
  { delayMs, random }: { readonly delayMs: number | undefined; readonly random: () => number },
): NextStep {
  if (failed.attempt >= maxAttemptsOf(policy)) return exhausted;
  const step: NextStep =
    delayMs === undefined ? stepByNumber(failed.attempt, policy, random) : { kind: 'redeliver', delayMs };
  return 'delayMs' in step && isTooLate(failed, policy, step.delayMs) ? exhausted : step;
}

/** How long a message can stay unsettled. */
export function holdTimeMs({ waitMs, attempts, timeoutMs }: MaxHoldTime): number {
  return waitMs + attempts * timeoutMs;
}

/** In-process attempts of one message. */
export function maxInProcessAttempts({ maxRetries }: RetryPolicy): number {
  return 1 + maxRetries;
}

/** Longest sum of the waits between in-process attempts. */
export function maxInProcessWaitMs(policy: RetryPolicy): number {
  let sum = 0;
  for (let attempt = 1; attempt <= policy.maxRetries; attempt++) sum += longestDelayMs(attempt, policy);
  return Math.min(sum, policy.maxElapsedMs ?? Infinity);
}

function isWorthRetrying({ errors, isRetryable }: FailedAttempt, { retryOn, failOn }: RetryPolicy): boolean {
  const matches = (matchers: readonly ErrorMatcher[]): boolean =>
    errors.some((error) => matchesError(error, matchers));
  if (matches(failOn)) return false;
  // Every error is an `Error`, so `retryOn: [Error]` does not name a rejection or an error reply in
  // particular.
  if (!isRetryable) return matches(retryOn?.filter((matcher) => matcher !== Error) ?? []);
  return retryOn === undefined || matches(retryOn);
}

function stepByNumber(attempt: number, policy: RetryPolicy, random: () => number): NextStep {
  if (attempt <= policy.maxRetries) {
    const longest = longestDelayMs(attempt, policy);
    return {
      kind: 'in-process',
      delayMs: policy.jitter === 'none' ? longest : Math.ceil(longest * random()),
    };
  }
  const delayMs = policy.redeliverDelaysMs[attempt - policy.maxRetries - 1];
  return delayMs === undefined ? exhausted : { kind: 'redeliver', delayMs };
}

function longestDelayMs(attempt: number, { delayMs, factor, maxDelayMs }: RetryPolicy): number {
  // 0 × ∞ would be NaN.
  if (delayMs === 0) return 0;
  return Math.ceil(Math.min(maxDelayMs, delayMs * factor ** (attempt - 1)));
}

/** A first failure in the future counts as now: another clock is wrong, or the header was forged. */
function isTooLate(
  { firstFailedAt, now }: FailedAttempt,
  { maxElapsedMs }: RetryPolicy,
  delayMs: number,
): boolean {
  return maxElapsedMs !== undefined && Math.max(0, now - firstFailedAt) + delayMs > maxElapsedMs;
}

/** Deepest `cause` chain that is searched: a getter could make it endless. */
const maxDepth = 100;

/** Whether any matcher matches the error or one of its causes. Never throws, whatever was thrown. */
function matchesError(error: unknown, matchers: readonly ErrorMatcher[]): boolean {
  const seen = new Set<unknown>();
  let cause = error;
  while (!seen.has(cause) && seen.size < maxDepth) {
    if (matchers.some((matcher) => matchesOne(cause, matcher))) return true;
    seen.add(cause);
    cause = causeOf(cause);
    if (cause === undefined || cause === null) return false;
  }
  return false;
}

function matchesOne(error: unknown, matcher: ErrorMatcher): boolean {
  try {
    if (isClass(matcher)) return error instanceof matcher;
    const answer = (matcher as (error: unknown) => unknown)(error);
    ignoreRejection(answer);
    return answer === true;
  } catch {
    return false;
  }
}

/**
 * An error class must not be called like a predicate: a class would throw, and an old constructor function
 * would run.
 */
function isClass(matcher: ErrorMatcher): boolean {
  const { prototype } = matcher as { prototype?: unknown };
  if (prototype === Error.prototype || prototype instanceof Error) return true;
  return /^class\b/.test(Function.prototype.toString.call(matcher));
}

function causeOf(error: unknown): unknown {
  try {
    return typeof error === 'object' && error !== null ? (error as { cause?: unknown }).cause : undefined;
  } catch {
    return undefined;
  }
}
