import { messageOf, errorCodes } from '../runtime/errors.js';
import type { StorkLogger } from '../runtime/logger.js';
import { randomUUID } from 'node:crypto';
import type { Capabilities } from '../port/driver.js';
import { ownFailure, type Failure } from '../runtime/failure.js';
import { findKey } from './idempotency-key.js';
import type { IdempotencyPolicy } from './idempotency-options.js';
import type { StoredReply } from './idempotency-store.js';
import { executeOnce, type ExecuteOnceResult, type ExecuteOnceSettings } from './execute-once.js';
import { nextAttempt, executeWithRetries, type RetryScope } from '../retry/retry-loop.js';
import type { Attempt } from '../consume/attempt.js';
import { quoted } from '../message/text.js';

export interface IdempotencyScope extends RetryScope {
  /** What keys are scoped to, besides the handler. */
  readonly consumerName: string;
  readonly capabilities: Pick<Capabilities, 'requeue'>;
  readonly storeHealth: StoreHealthLog;
}

/** A message whose other run is under way comes again after a part of the lease. */
const partOfLease = 3;
const shortestWaitMs = 100;
const longestWaitMs = 1_000;

/** A store that fails is asked again after so long; doubles. */
const firstStoreWaitMs = 500;
const longestStoreWaitMs = 30_000;
/** After so long a message waits in the broker, where it holds up no other. */
const maxInProcessStoreWaitMs = 60_000;

/**
 * A handler's run with all that follow it in place, unless the work is done already or under way elsewhere. Gives the last run, which
 * knows what is to become of the message. Failed, retried, rejected or taken away, it frees the key: only what is handled is done.
 */
export async function executeIdempotently(
  first: Attempt,
  policy: IdempotencyPolicy,
  scope: IdempotencyScope,
): Promise<Attempt> {
  first.replyWriter?.bufferSingleValue();
  const { run, key } = await keyed(first, policy, scope);
  if (run.failure !== undefined) return run;
  if (key === undefined) {
    scope.counters.add('no-idempotency-key');
    return executeWithRetries(run, scope);
  }
  const waiting = new Waiting(run, policy, scope);
  // One for all tries: a store that has taken the question and not answered it gives the lease to the next try.
  const holder = { key, owner: randomUUID(), isWaiting: policy.onStoreError === 'fail' };
  try {
    for (;;) {
      const outcome = await executeKeyed(run, holder, { policy, scope });
      noteStore(outcome, policy, scope);
      switch (outcome.kind) {
        case 'ran':
          if (outcome.leaseLost) noteLostLease(run, policy, scope);
          return outcome.value;
        case 'failed':
          throw outcome.error;
        case 'duplicate':
          return repeat(run, outcome.reply, scope);
        case 'in-progress':
          if (await waiting.forOtherRun()) break;
          return run;
        case 'store-unavailable':
          if (await waiting.forStore(outcome.error)) break;
          freeKey(holder, policy);
          return run;
      }
    }
  } finally {
    // What a question that was given up is answered with then is nobody's.
    holder.isWaiting = false;
  }
}

/** A run whose key cannot be told has failed, and there may be another. */
async function keyed(
  first: Attempt,
  policy: IdempotencyPolicy,
  scope: IdempotencyScope,
): Promise<{ readonly run: Attempt; readonly key?: string | undefined }> {
  let run = first;
  for (;;) {
    const found = findKey(run, policy, scope.consumerName);
    if ('key' in found) return { run, key: found.key };
    run.failWithoutExecuting(found.failure);
    const next = await nextAttempt(run, scope);
    if (next === undefined) return { run };
    run = next;
  }
}

/** The right to work on a message, as the store knows it. */
interface Holder {
  readonly key: string;
  readonly owner: string;
  /** Asks again where it is not answered. */
  isWaiting: boolean;
}

/** What the store may have given it all the same must not keep the message from its next run. */
function freeKey({ key, owner }: Holder, { store }: IdempotencyPolicy): void {
  store.release(key, owner).catch(() => {});
}

function executeKeyed(
  run: Attempt,
  holder: Holder,
  { policy, scope }: { readonly policy: IdempotencyPolicy; readonly scope: IdempotencyScope },
): Promise<ExecuteOnceResult<Attempt>> {
  const { store, leaseMs, ttlMs, onStoreError } = policy;
  const settings: ExecuteOnceSettings = {
    store,
    key: holder.key,
    owner: holder.owner,
    isAskedAgain: () => holder.isWaiting,
    leaseMs,
    ttlMs,
    onStoreError,
    clock: scope.clock,
    onGivenUp: (stopRenewing) => whenGivenUp(run, scope, stopRenewing),
  };
  return executeOnce(settings, async () => {
    if (isTakenAway(run)) return { value: run, isUndone: true };
    const last = await executeWithRetries(run, scope);
    return { value: last, reply: last.replyWriter?.bufferedReply, isUndone: !isDone(last) };
  });
}

/** While the store was asked: what its handler would use may be gone. What has no way back runs all the same. */
function isTakenAway(run: Attempt): boolean {
  run.isInterrupted = run.delivery.aborted && !run.delivery.isEarlyAcked;
  return run.isInterrupted;
}

/** A lost source leaves its run at work, and the key with it; a shutdown leaves nobody who would wait for it. */
function whenGivenUp(
  { delivery }: Attempt,
  { retryTimers }: Pick<IdempotencyScope, 'retryTimers'>,
  stopRenewing: () => void,
): () => void {
  const look = (): void => {
    if (delivery.aborted && retryTimers.isClosed) stopRenewing();
  };
  const unwatch = [delivery.onAbort(look), retryTimers.onClose(look)];
  return () => {
    for (const stop of unwatch) stop();
  };
}

/** Handled, by the run's end or its word, and by a run that nobody has stopped half-way. */
function isDone(run: Attempt): boolean {
  if (run.deadLetterCause !== undefined || run.abortObserved) return false;
  // Said to be handled, and failed then: an event is done, but what the caller is told is an error.
  return run.failure === undefined || run.replyWriter === undefined;
}

function repeat(run: Attempt, reply: StoredReply | undefined, scope: IdempotencyScope): Attempt {
  run.isDuplicate = true;
  run.replyWriter?.repeat(reply);
  scope.counters.add('duplicate');
  scope.logger.debug(`${scope.subscription}: ${nameOf(run)} was done before and is not run again`);
  return run;
}

/** Waits of a message that must not run now. */
class Waiting {
  readonly #run: Attempt;
  readonly #policy: IdempotencyPolicy;
  readonly #scope: IdempotencyScope;
  readonly #since: number;
  #storeWaitMs = firstStoreWaitMs;
  #isCounted = false;

  constructor(run: Attempt, policy: IdempotencyPolicy, scope: IdempotencyScope) {
    this.#run = run;
    this.#policy = policy;
    this.#scope = scope;
    this.#since = scope.clock.now();
  }

  /** True when the store is to be asked again; false: the run ends here, and knows why. */
  async forOtherRun(): Promise<boolean> {
    const { counters, logger, subscription } = this.#scope;
    if (!this.#isCounted) counters.add('duplicates-in-flight');
    this.#isCounted = true;
    logger.debug(`${subscription}: ${nameOf(this.#run)} waits: another run of it is under way`);
    const waitMs = Math.min(
      longestWaitMs,
      Math.max(shortestWaitMs, Math.ceil(this.#policy.leaseMs / partOfLease)),
    );
    if (this.#defer(waitMs)) return false;
    return this.#napBeforeDeadline(waitMs, otherRunAtWork);
  }

  /** The same for a store that does not answer. */
  async forStore(error: unknown): Promise<boolean> {
    const now = this.#scope.clock.now();
    if (now - this.#since >= maxInProcessStoreWaitMs && this.#defer(longestStoreWaitMs)) return false;
    const waitMs = this.#storeWaitMs;
    this.#storeWaitMs = Math.min(waitMs * 2, longestStoreWaitMs);
    return this.#napBeforeDeadline(waitMs, storeAway(error));
  }

  async #napBeforeDeadline(waitMs: number, why: Failure): Promise<boolean> {
    const { deadline } = this.#run.metadata;
    if (deadline === undefined || this.#scope.clock.now() + waitMs < deadline) return this.#nap(waitMs, why);
    // Nobody would wait for the answer any more: better the error now.
    this.#run.failWithoutExecuting(why);
    return false;
  }

  /** Through the broker, where that can bring it back: its slot and its lane are others' meanwhile. */
  #defer(delayMs: number): boolean {
    const { capabilities, driver } = this.#scope;
    if (this.#run.delivery.isEarlyAcked || capabilities.requeue === 'in-process') return false;
    const brokersMs = driver.roundDelay(delayMs);
    if (brokersMs === undefined) return false;
    this.#run.defer(brokersMs);
    return true;
  }

  async #nap(waitMs: number, why: Failure): Promise<boolean> {
    const { delivery } = this.#run;
    if (await this.#scope.retryTimers.wait(waitMs, delivery)) return true;
    // What has no way back is kept as a letter instead.
    if (delivery.isEarlyAcked) this.#run.failWithoutExecuting(why);
    else this.#run.isInterrupted = true;
    return false;
  }
}

const otherRunAtWork = ownFailure(
  'InProgressError',
  'another run of the message had not ended when the application stopped, or its caller no longer waited',
  'retries-exhausted',
);

function storeAway(error: unknown): Failure {
  const message = 'the idempotency store cannot be asked whether this was done before';
  return ownFailure('StoreUnavailableError', message, 'retries-exhausted', {
    code: errorCodes.storeUnavailable,
    error,
  });
}

function noteStore(
  outcome: ExecuteOnceResult<Attempt>,
  { onStoreError }: IdempotencyPolicy,
  { storeHealth }: IdempotencyScope,
): void {
  const error = storeErrorOf(outcome);
  if (error === undefined) storeHealth.up();
  else storeHealth.down(error, onStoreError);
}

function storeErrorOf(outcome: ExecuteOnceResult<Attempt>): unknown {
  if (outcome.kind === 'store-unavailable') return outcome.error;
  return outcome.kind === 'ran' || outcome.kind === 'failed' ? outcome.storeError : undefined;
}

function noteLostLease(
  run: Attempt,
  { leaseMs }: IdempotencyPolicy,
  { logger, subscription }: IdempotencyScope,
): void {
  logger.warn(
    `${subscription}: ${nameOf(run)} ran while its idempotency key was not its own, so it may have run elsewhere too: ` +
      `the lease of ${leaseMs} ms was not renewed in time`,
  );
}

function nameOf({ handler, delivery }: Attempt): string {
  return `message ${quoted(delivery.message.messageId)} of the handler ${quoted(handler.id)}`;
}

/** Says that the idempotency store fails, and that it is back: once for a trouble, not once for each message. */
export class StoreHealthLog {
  readonly #subscription: string;
  readonly #logger: StorkLogger;
  #isDown = false;

  constructor(subscription: string, logger: StorkLogger) {
    this.#subscription = subscription;
    this.#logger = logger;
  }

  down(error: unknown, onStoreError: 'fail' | 'process'): void {
    if (this.#isDown) return;
    this.#isDown = true;
    const why = messageOf(error);
    const what = `${this.#subscription}: the idempotency store fails`;
    if (onStoreError === 'process')
      this.#logger.warn(
        `${what}, idempotent handlers run without it and may run twice for a message: ${why}`,
      );
    else
      this.#logger.error(
        `${what}: messages of idempotent handlers wait until it works again, and what it was not told of may run twice: ${why}`,
      );
  }

  up(): void {
    if (!this.#isDown) return;
    this.#isDown = false;
    this.#logger.log(`${this.#subscription}: the idempotency store works again`);
  }
}
