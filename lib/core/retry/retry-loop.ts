import type { StorkClock } from '../runtime/clock.js';
import type { Counters } from '../runtime/counters.js';
import type { Driver } from '../port/driver.js';
import { messageOf } from '../runtime/errors.js';
import type { StorkLogger } from '../runtime/logger.js';
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
  /** From 0 up to, but never, 1. */
  readonly random: () => number;
}

/** Whether the run's end, or its handler, leaves it to the policy what comes next. */
export function needsRetryDecision({ verb, failure }: Attempt): boolean {
  return verb === 'retry' || (verb === undefined && failure !== undefined);
}

/** A run with all that follow it in place. Gives the last, which knows what is to become of the message. Never rejects. */
export async function executeWithRetries(run: Attempt, scope: RetryScope): Promise<Attempt> {
  await run.execute();
  return needsRetryDecision(run) ? retryInProcess(run, scope) : run;
}

/**
 * Runs the handler again, in place, for as long as its policy says so. Gives the last run. Every failure comes by here, whoever has
 * thrown it: guards, constructors, filters of the user's. Never rejects.
 */
export async function retryInProcess(failed: Attempt, scope: RetryScope): Promise<Attempt> {
  let run = failed;
  while (needsRetryDecision(run)) {
    const next = await nextAttempt(run, scope);
    if (next === undefined) return run;
    run = next;
    await run.execute();
  }
  return run;
}

/** The one after a failed run, once its wait is over; undefined: none here, and the failed one knows why. */
export async function nextAttempt(failed: Attempt, scope: RetryScope): Promise<Attempt | undefined> {
  if (isLost(failed)) return undefined;
  const waitMs = await decideNext(failed, scope);
  if (waitMs === undefined) return undefined;
  if (!(await scope.retryTimers.wait(waitMs, failed.delivery))) {
    // What has no way back ends with what its last run said.
    failed.isInterrupted = !failed.delivery.isEarlyAcked;
    return undefined;
  }
  scope.counters.add('retried');
  return failed.next();
}

/** Milliseconds until the next run in place; undefined: there is none, and the run knows why. */
export async function decideNext(run: Attempt, scope: RetryScope): Promise<number | undefined> {
  const { retry } = run.handler;
  const now = scope.clock.now();
  run.failedAt = now;
  run.firstFailedAt ??= now;
  if (retry === undefined) return undefined;
  const step = chooseStep(run, retry, { now, scope });
  switch (step.kind) {
    case 'exhausted':
      return undefined;
    case 'fatal':
      run.markFatal();
      return undefined;
    case 'redeliver':
    case 'in-process': {
      await notifyRetry(run, retry, { step, scope });
      if (step.kind === 'redeliver') run.redeliverInMs = step.delayMs;
      else run.replyWriter?.restart();
      return step.kind === 'redeliver' ? undefined : step.delayMs;
    }
  }
}

function chooseStep(
  run: Attempt,
  retry: RetryPolicy,
  { now, scope }: { readonly now: number; readonly scope: RetryScope },
): NextStep {
  const { number: attempt, delivery, metadata, failure } = run;
  const failed: FailedAttempt = {
    attempt,
    error: failure?.error,
    isRetryable: run.isRetryable,
    firstFailedAt: run.firstFailedAt ?? now,
    now,
  };
  const { random } = scope;
  const step =
    run.verb === 'retry'
      ? stepAsRequested(failed, retry, { delayMs: run.requestedDelayMs, random })
      : stepAfter(failed, retry, random);
  if (!('delayMs' in step)) return step;
  // The caller has the first items already.
  if (run.replyWriter?.hasStreamed === true) return { kind: 'exhausted' };
  // Forgone, it is here and nowhere else.
  const brokersMs =
    step.kind === 'redeliver' && !delivery.isEarlyAcked ? scope.driver.roundDelay(step.delayMs) : undefined;
  const delayMs = brokersMs ?? step.delayMs;
  // Nobody would wait for its answer any more: better the error now.
  if (metadata.deadline !== undefined && now + delayMs >= metadata.deadline) return { kind: 'exhausted' };
  return { kind: brokersMs === undefined ? 'in-process' : 'redeliver', delayMs };
}

async function notifyRetry(
  { number: attempt, failure, handler, delivery, maxAttempts }: Attempt,
  { onRetry }: RetryPolicy,
  { step, scope }: { readonly step: NextStep & { readonly delayMs: number }; readonly scope: RetryScope },
): Promise<void> {
  const where = step.kind === 'redeliver' ? 'through the broker' : 'in place';
  const why = failure === undefined ? 'asked for another run' : `failed: ${messageOf(failure.error)}`;
  scope.logger.log(
    `${scope.subscription}: handler ${quoted(handler.id)}, message ${quoted(delivery.message.messageId)}, ` +
      `attempt ${attempt} of ${maxAttempts} ${why}; again ${where} in ${step.delayMs} ms`,
  );
  try {
    await onRetry?.(attempt, failure?.error, step.delayMs);
  } catch (error) {
    scope.logger.error(`${scope.subscription}: onRetry of ${quoted(handler.id)} failed: ${messageOf(error)}`);
  }
}

/** Taken away, it runs elsewhere. */
function isLost({ delivery }: Attempt): boolean {
  return delivery.aborted && !delivery.isEarlyAcked;
}
