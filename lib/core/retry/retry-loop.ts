import type { Attempt, Execute } from '../consume/attempt.js';
import { interrupted, type FailedOutcome, type Outcome } from '../consume/outcome.js';
import { describeAttempt, describeError, quoted } from '../message/text.js';
import { messageOf } from '../runtime/errors.js';
import type { RetryPolicy } from './retry-options.js';
import { stepAfter, stepAsRequested, type FailedAttempt, type NextStep } from './retry-policy.js';

/**
 * Applies the handler's retry policy to an attempt that has ended. Every failure passes through here, also
 * those of guards, constructors and the application's exception filters.
 *
 * @param execute executes the next in-process attempt, with its own retries
 */
export function withRetries(
  attempt: Attempt,
  outcome: Outcome,
  execute: Execute,
): Outcome | Promise<Outcome> {
  if (outcome.kind === 'failed' && outcome.retry !== 'never') return retry(attempt, outcome, execute);
  if (outcome.kind !== 'deferred') return outcome;
  return {
    kind: 'deferred',
    outcome: outcome.outcome.then((decided) => withRetries(attempt, decided, execute)),
  };
}

async function retry(attempt: Attempt, failed: FailedOutcome, execute: Execute): Promise<Outcome> {
  const { handler, context } = attempt;
  if (context.delivery.isLost) return interrupted(attempt);
  if (handler.retry === undefined) return failed;
  if (context.replyWriter !== undefined && failed.retry === 'by-policy' && !handler.retry.requests)
    return failed;
  const step = chooseStep(attempt, failed, handler.retry);
  if (step.kind === 'exhausted') return failed;
  if (step.kind === 'fatal') return asFatal(failed);
  const notified = notifyRetry(attempt, failed, { policy: handler.retry, step });
  if (step.kind === 'redeliver') {
    const { delayMs } = step;
    return { kind: 'redeliver', attempt: attempt.next(failed), delayMs, isDeferral: false };
  }
  context.replyWriter?.restart();
  const next = attempt.next(failed);
  if (!(await context.slot.wait(step.delayMs, notified))) {
    // An early-acked message cannot be requeued, so its last failure is its outcome.
    return context.delivery.isEarlyAcked ? failed : interrupted(next);
  }
  // The wait for a slot, or for `onRetry`, may have outlasted the deadline.
  if (next.expiresWithin(0)) return failed;
  context.scope.counters.add('retried');
  return execute(next);
}

/** Another attempt would not help. */
function asFatal(failed: FailedOutcome): FailedOutcome {
  if (failed.failure.reason !== 'retries-exhausted') return failed;
  return { ...failed, failure: { ...failed.failure, reason: 'fatal' } };
}

function chooseStep(attempt: Attempt, failed: FailedOutcome, policy: RetryPolicy): NextStep {
  const { delivery, replyWriter, scope } = attempt.context;
  const step = stepByPolicy(attempt, failed, policy);
  if (!('delayMs' in step)) return step;
  // The caller has received the first items of the stream, so another attempt cannot restart it.
  if (replyWriter?.hasStreamed === true) return { kind: 'exhausted' };
  // An early-acked message exists only in this process, so it is retried in process.
  const brokerDelayMs =
    step.kind === 'redeliver' && !delivery.isEarlyAcked ? scope.driver.roundDelay(step.delayMs) : undefined;
  const delayMs = brokerDelayMs ?? step.delayMs;
  // The caller no longer waits when the next attempt starts, so it gets the error now.
  if (attempt.expiresWithin(delayMs)) return { kind: 'exhausted' };
  return { kind: brokerDelayMs === undefined ? 'in-process' : 'redeliver', delayMs };
}

function stepByPolicy(attempt: Attempt, outcome: FailedOutcome, policy: RetryPolicy): NextStep {
  const { failure, failedAt: now, isErrorReply, retry: request } = outcome;
  const { number, firstFailedAt = now, context } = attempt;
  const isTransient = failure.reason === 'retries-exhausted' || failure.reason === 'timeout';
  const failed: FailedAttempt = {
    attempt: number,
    errors: failure.filtered === undefined ? [failure.error] : [failure.filtered.error, failure.error],
    isRetryable: isTransient && !isErrorReply,
    firstFailedAt,
    now,
  };
  const { random } = context.scope;
  return typeof request === 'object'
    ? stepAsRequested(failed, policy, { delayMs: request.delayMs, random })
    : stepAfter(failed, policy, random);
}

function notifyRetry(
  attempt: Attempt,
  { failure: cause, retry: request }: FailedOutcome,
  { policy, step }: { readonly policy: RetryPolicy; readonly step: NextStep & { readonly delayMs: number } },
): Promise<void> | undefined {
  const { number, handler, context } = attempt;
  const { hooks, logger, subscription } = context.scope;
  const where = step.kind === 'redeliver' ? 'through the broker' : 'in process';
  const failure = typeof request === 'object' ? request.failure : cause;
  const why =
    failure === undefined
      ? 'requested a retry'
      : `failed: ${describeError(failure, handler.deadLetter?.redact)}`;
  const line = `${describeAttempt(attempt)} ${why}; next attempt ${where} in ${step.delayMs} ms`;
  if (failure === undefined) logger.log(line);
  else logger.warn(line);
  const { onRetry } = policy;
  if (onRetry === undefined) return undefined;
  return hooks.run(
    () => onRetry(number, failure?.error, step.delayMs),
    (error) => logger.error(`${subscription}: onRetry of ${quoted(handler.id)} failed: ${messageOf(error)}`),
  );
}
