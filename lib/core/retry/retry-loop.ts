import type { StorkClock } from '../runtime/clock.js';
import type { Counters, StorkLogger } from '../runtime/reporting.js';
import type { Driver } from '../port/driver.js';
import { messageOf } from '../runtime/errors.js';
import type { RetryTimers } from './retry-timers.js';
import type { RetryPolicy } from './retry-options.js';
import { stepAfter, stepAsRequested, type FailedAttempt, type NextStep } from './retry-policy.js';
import type { Attempt } from '../consume/attempt.js';
import { quoted } from '../message/text.js';

export interface RetryScope {
  readonly subscription: string;
  readonly driver: Pick<Driver, 'roundDelay'>;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  readonly retryTimers: RetryTimers;
  /** Returns a number from 0 (inclusive) to 1 (exclusive). */
  readonly random: () => number;
}

/** Whether the retry policy decides what follows: the attempt failed, or its handler called `retry`. */
export function needsRetryDecision({ decision, failure }: Attempt): boolean {
  return decision === 'retry' || (decision === undefined && failure !== undefined);
}

/**
 * Runs the handler and its in-process retries. Resolves with the last attempt, which holds the outcome.
 * Never rejects.
 */
export async function executeWithRetries(attempt: Attempt, scope: RetryScope): Promise<Attempt> {
  await attempt.execute();
  return needsRetryDecision(attempt) ? retryInProcess(attempt, scope) : attempt;
}

/**
 * Retries a failed attempt in process for as long as its policy allows. Resolves with the last attempt.
 * Every failure passes through here, also those of guards, constructors and the application's exception
 * filters. Never rejects.
 */
export async function retryInProcess(failed: Attempt, scope: RetryScope): Promise<Attempt> {
  let attempt = failed;
  while (needsRetryDecision(attempt)) {
    const next = await nextAttempt(attempt, scope);
    if (next === undefined) return attempt;
    attempt = next;
    await attempt.execute();
  }
  return attempt;
}

/**
 * Waits, then returns the next in-process attempt. Undefined if there is none; the failed attempt then
 * holds the outcome.
 */
export async function nextAttempt(failed: Attempt, scope: RetryScope): Promise<Attempt | undefined> {
  if (isLost(failed)) return undefined;
  const waitMs = await decideNext(failed, scope);
  if (waitMs === undefined) return undefined;
  if (!(await scope.retryTimers.wait(waitMs, failed.delivery))) {
    // An early-acked message cannot be requeued, so its last failure is its outcome.
    failed.isInterrupted = !failed.delivery.isEarlyAcked;
    return undefined;
  }
  scope.counters.add('retried');
  return failed.next();
}

/**
 * Resolves with the wait before the next in-process attempt. Undefined if there is none; the attempt then
 * holds the outcome.
 */
export async function decideNext(attempt: Attempt, scope: RetryScope): Promise<number | undefined> {
  const { retry } = attempt.handler;
  const now = scope.clock.now();
  attempt.failedAt = now;
  attempt.firstFailedAt ??= now;
  if (retry === undefined) return undefined;
  const step = chooseStep(attempt, retry, { now, scope });
  switch (step.kind) {
    case 'exhausted':
      return undefined;
    case 'fatal':
      attempt.markFatal();
      return undefined;
    case 'redeliver':
    case 'in-process': {
      await notifyRetry(attempt, retry, { step, scope });
      if (step.kind === 'redeliver') attempt.redeliverInMs = step.delayMs;
      else attempt.replyWriter?.restart();
      return step.kind === 'redeliver' ? undefined : step.delayMs;
    }
  }
}

function chooseStep(
  attempt: Attempt,
  retry: RetryPolicy,
  { now, scope }: { readonly now: number; readonly scope: RetryScope },
): NextStep {
  const { number, delivery, metadata, failure } = attempt;
  const failed: FailedAttempt = {
    attempt: number,
    error: failure?.error,
    isRetryable: attempt.isRetryable,
    firstFailedAt: attempt.firstFailedAt ?? now,
    now,
  };
  const { random } = scope;
  const step =
    attempt.decision === 'retry'
      ? stepAsRequested(failed, retry, { delayMs: attempt.requestedDelayMs, random })
      : stepAfter(failed, retry, random);
  if (!('delayMs' in step)) return step;
  // The caller has received the first items of the stream, so another attempt cannot restart it.
  if (attempt.replyWriter?.hasStreamed === true) return { kind: 'exhausted' };
  // An early-acked message exists only in this process, so it is retried in process.
  const brokerDelayMs =
    step.kind === 'redeliver' && !delivery.isEarlyAcked ? scope.driver.roundDelay(step.delayMs) : undefined;
  const delayMs = brokerDelayMs ?? step.delayMs;
  // The caller no longer waits when the next attempt starts, so it gets the error now.
  if (metadata.deadline !== undefined && now + delayMs >= metadata.deadline) return { kind: 'exhausted' };
  return { kind: brokerDelayMs === undefined ? 'in-process' : 'redeliver', delayMs };
}

async function notifyRetry(
  { number, failure, handler, delivery, maxAttempts }: Attempt,
  { onRetry }: RetryPolicy,
  { step, scope }: { readonly step: NextStep & { readonly delayMs: number }; readonly scope: RetryScope },
): Promise<void> {
  const where = step.kind === 'redeliver' ? 'through the broker' : 'in process';
  const why = failure === undefined ? 'requested a retry' : `failed: ${messageOf(failure.error)}`;
  scope.logger.log(
    `${scope.subscription}: handler ${quoted(handler.id)}, message ${quoted(delivery.message.messageId)}, ` +
      `attempt ${number} of ${maxAttempts} ${why}; next attempt ${where} in ${step.delayMs} ms`,
  );
  try {
    await onRetry?.(number, failure?.error, step.delayMs);
  } catch (error) {
    scope.logger.error(`${scope.subscription}: onRetry of ${quoted(handler.id)} failed: ${messageOf(error)}`);
  }
}

/** True if the broker redelivers the message, so that this process must not retry it. */
function isLost({ delivery }: Attempt): boolean {
  return delivery.aborted && !delivery.isEarlyAcked;
}
