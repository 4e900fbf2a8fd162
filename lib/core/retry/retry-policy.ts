import type { MaxHoldTime } from '../port/driver.js';
import { matchesError, type RetryPolicy } from './retry-options.js';

/** A run that has failed. Times in milliseconds since the epoch. */
export interface FailedAttempt {
  /** Its number, from 1, over runs in place and redeliveries. */
  readonly attempt: number;
  readonly error: unknown;
  /** `final`: a refusal or an answer, which no further run is meant to change. */
  readonly isRetryable: boolean;
  readonly firstFailedAt: number;
  readonly now: number;
}

/** What comes after a failed run. `fatal`: nothing, because of what the failure is; `exhausted`: nothing, because all runs are used up. */
export type NextStep =
  | { readonly kind: 'in-process'; readonly delayMs: number }
  | { readonly kind: 'redeliver'; readonly delayMs: number }
  | { readonly kind: 'exhausted' }
  | { readonly kind: 'fatal' };

/** What a handler may ask for at most, a day: longer waits are not a message broker's work. */
export const maxRequestedDelayMs = 24 * 60 * 60 * 1_000;

const exhausted: NextStep = { kind: 'exhausted' };
const fatal: NextStep = { kind: 'fatal' };

/** Runs of one message altogether. */
export function maxAttemptsOf({ maxRetries, redeliverDelaysMs }: RetryPolicy): number {
  return 1 + maxRetries + redeliverDelaysMs.length;
}

/** The number of the run alone says where in the chain it stands, so a restart changes nothing. */
export function stepAfter(run: FailedAttempt, policy: RetryPolicy, random: () => number): NextStep {
  if (!isWorthAnother(run, policy)) return fatal;
  const step = stepByNumber(run.attempt, policy, random);
  return 'delayMs' in step && isTooLate(run, policy, step.delayMs) ? exhausted : step;
}

/** The same where the handler itself has asked for another run, and perhaps said when: one of its runs, whatever the failure. */
export function stepAsRequested(
  run: FailedAttempt,
  policy: RetryPolicy,
  { delayMs, random }: { readonly delayMs: number | undefined; readonly random: () => number },
): NextStep {
  if (run.attempt >= maxAttemptsOf(policy)) return exhausted;
  const step: NextStep =
    delayMs === undefined ? stepByNumber(run.attempt, policy, random) : { kind: 'redeliver', delayMs };
  return 'delayMs' in step && isTooLate(run, policy, step.delayMs) ? exhausted : step;
}

/** How long a message can stay in place. */
export function holdTimeMs({ waitMs, attempts: runs, timeoutMs }: MaxHoldTime): number {
  return waitMs + runs * timeoutMs;
}

/** Runs in place. */
export function maxInProcessAttempts({ maxRetries }: RetryPolicy): number {
  return 1 + maxRetries;
}

/** How long the waits in place can be, all together. */
export function maxInProcessWaitMs(policy: RetryPolicy): number {
  let sum = 0;
  for (let attempt = 1; attempt <= policy.maxRetries; attempt++) sum += longestDelayMs(attempt, policy);
  return Math.min(sum, policy.maxElapsedMs ?? Infinity);
}

function isWorthAnother({ error, isRetryable }: FailedAttempt, { retryOn, failOn }: RetryPolicy): boolean {
  if (matchesError(error, failOn)) return false;
  // Every error is an `Error`: that names no refusal in particular.
  if (!isRetryable) return matchesError(error, retryOn?.filter((matcher) => matcher !== Error) ?? []);
  return retryOn === undefined || matchesError(error, retryOn);
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
  // 0 × ∞ is no number.
  if (delayMs === 0) return 0;
  return Math.ceil(Math.min(maxDelayMs, delayMs * factor ** (attempt - 1)));
}

/** A first failure that lies ahead was written by a clock that goes wrong, or by somebody else. */
function isTooLate(
  { firstFailedAt, now }: FailedAttempt,
  { maxElapsedMs }: RetryPolicy,
  delayMs: number,
): boolean {
  return maxElapsedMs !== undefined && Math.max(0, now - firstFailedAt) + delayMs > maxElapsedMs;
}
