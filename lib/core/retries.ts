import type { Clock } from './clock.js';
import type { Counters } from './counters.js';
import type { Driver } from './driver.js';
import { messageOf } from './errors.js';
import type { StorkLogger } from './logger.js';
import type { Naps } from './naps.js';
import type { RetryPolicy } from './retry-options.js';
import { stepAfter, stepAsAsked, type FailedRun, type NextStep } from './retry-policy.js';
import type { Run } from './run.js';
import { quoted } from './text.js';

export interface RetryScope {
  readonly subscription: string;
  readonly driver: Pick<Driver, 'roundDelay'>;
  readonly clock: Clock;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  readonly naps: Naps;
  /** From 0 up to, but never, 1. */
  readonly random: () => number;
}

/** Whether the run's end, or its handler, leaves it to the policy what comes next. */
export function isUnfinished({ verb, failure }: Run): boolean {
  return verb === 'retry' || (verb === undefined && failure !== undefined);
}

/** A run with all that follow it in place. Gives the last, which knows what is to become of the message. Never rejects. */
export async function runToItsEnd(run: Run, scope: RetryScope): Promise<Run> {
  await run.start();
  return isUnfinished(run) ? followPolicy(run, scope) : run;
}

/**
 * Runs the handler again, in place, for as long as its policy says so. Gives the last run. Every failure comes by here, whoever has
 * thrown it: guards, constructors, filters of the user's. Never rejects.
 */
export async function followPolicy(failed: Run, scope: RetryScope): Promise<Run> {
  let run = failed;
  while (isUnfinished(run)) {
    const next = await nextRun(run, scope);
    if (next === undefined) return run;
    run = next;
    await run.start();
  }
  return run;
}

/** The one after a failed run, once its wait is over; undefined: none here, and the failed one knows why. */
export async function nextRun(failed: Run, scope: RetryScope): Promise<Run | undefined> {
  if (isLost(failed)) return undefined;
  const waitMs = await stepFrom(failed, scope);
  if (waitMs === undefined) return undefined;
  if (!(await scope.naps.sleep(waitMs, failed.delivery))) {
    // What has no way back ends with what its last run said.
    failed.isCutShort = !failed.delivery.isFinal;
    return undefined;
  }
  scope.counters.add('retried');
  return failed.again();
}

/** Milliseconds until the next run in place; undefined: there is none, and the run knows why. */
export async function stepFrom(run: Run, scope: RetryScope): Promise<number | undefined> {
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
      run.failForGood();
      return undefined;
    case 'redeliver':
    case 'in-place': {
      await announce(run, retry, { step, scope });
      if (step.kind === 'redeliver') run.redeliverInMs = step.delayMs;
      else run.answer?.restart();
      return step.kind === 'redeliver' ? undefined : step.delayMs;
    }
  }
}

function chooseStep(
  run: Run,
  retry: RetryPolicy,
  { now, scope }: { readonly now: number; readonly scope: RetryScope },
): NextStep {
  const { attempt, delivery, facts, failure } = run;
  const failed: FailedRun = {
    attempt,
    error: failure?.error,
    nature: run.isRefusal ? 'final' : 'ordinary',
    firstFailedAt: run.firstFailedAt ?? now,
    now,
  };
  const { random } = scope;
  const step =
    run.verb === 'retry'
      ? stepAsAsked(failed, retry, { delayMs: run.askedDelayMs, random })
      : stepAfter(failed, retry, random);
  if (!('delayMs' in step)) return step;
  // The caller has the first items already.
  if (run.answer?.hasStreamed === true) return { kind: 'exhausted' };
  // Forgone, it is here and nowhere else.
  const brokersMs =
    step.kind === 'redeliver' && !delivery.isFinal ? scope.driver.roundDelay(step.delayMs) : undefined;
  const delayMs = brokersMs ?? step.delayMs;
  // Nobody would wait for its answer any more: better the error now.
  if (facts.deadline !== undefined && now + delayMs >= facts.deadline) return { kind: 'exhausted' };
  return { kind: brokersMs === undefined ? 'in-place' : 'redeliver', delayMs };
}

async function announce(
  { attempt, failure, handler, delivery, maxAttempts }: Run,
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
function isLost({ delivery }: Run): boolean {
  return delivery.aborted && !delivery.isFinal;
}
