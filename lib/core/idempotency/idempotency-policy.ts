import { randomUUID } from 'node:crypto';
import type { Attempt, Execute } from '../consume/attempt.js';
import { handled, interrupted, type HandledOutcome, type Outcome } from '../consume/outcome.js';
import type { SubscriptionScope } from '../consume/delivery-context.js';
import { quoted } from '../message/text.js';
import { withRetries } from '../retry/retry-loop.js';
import { andThen } from '../runtime/with-timeout.js';
import { errorCodes } from '../runtime/errors.js';
import { libraryFailure, type Failure } from '../runtime/failure.js';
import { executeOnce, type ExecuteOnceResult, type ExecuteOnceSettings } from './execute-once.js';
import { deriveKey } from './idempotency-key.js';
import type { IdempotencyPolicy } from './idempotency-options.js';
import type { StoredReply } from './idempotency-store.js';
import { LeaseRenewals } from './lease-renewals.js';

/**
 * How often, per lease duration, a message whose key is leased to another owner tries again. The bounds
 * below limit each wait.
 */
const waitsPerLease = 3;
const minOwnerWaitMs = 100;
const maxOwnerWaitMs = 1_000;

/** First back-off while the store is unavailable; it doubles. */
const initialStoreWaitMs = 500;
const maxStoreWaitMs = 30_000;
/** A message that has waited this long in process is deferred through the broker. */
const maxInProcessStoreWaitMs = 60_000;

/** The handler of a message, with its policy and what executes its attempts. */
interface IdempotentScope {
  readonly policy: IdempotencyPolicy;
  readonly next: Execute;
  readonly scope: SubscriptionScope;
  readonly renewals: LeaseRenewals;
}

/**
 * Executes the handler with its retries, unless the message was handled before or another owner is handling
 * it. The key is completed only if the message was handled; if the handler failed, requested a retry,
 * rejected the message or was aborted, the key is released.
 */
export function withIdempotency(next: Execute, policy: IdempotencyPolicy, scope: SubscriptionScope): Execute {
  const shared: IdempotentScope = {
    policy,
    next,
    scope,
    renewals: new LeaseRenewals(scope.clock, policy.leaseMs),
  };
  const execute: Execute = (attempt) => {
    attempt.context.replyWriter?.bufferSingleValue();
    const derived = deriveKey(attempt, policy, scope.consumerName);
    // A key function that fails is a failed attempt: it follows the retry policy.
    if ('failure' in derived) return withRetries(attempt, attempt.fail(derived.failure), execute);
    if (derived.key !== undefined) return executeKeyed(attempt, derived.key, shared);
    scope.counters.add('no-idempotency-key');
    return next(attempt);
  };
  return execute;
}

function executeKeyed(attempt: Attempt, key: string, shared: IdempotentScope): Outcome | Promise<Outcome> {
  // All calls of `begin` use one owner: a store that has written the lease but not answered grants it to
  // the next call.
  const holder: LeaseHolder = { key, owner: newOwner(), willRetry: shared.policy.onStoreError === 'fail' };
  return andThen(executeLeased(attempt, holder, shared), (result) =>
    result.kind === 'executed'
      ? conclude(attempt, result, shared)
      : waitForKey(attempt, holder, { first: result, shared }),
  );
}

/** Tries again for as long as the key is in progress elsewhere, or the store is unavailable. */
async function waitForKey(
  attempt: Attempt,
  holder: LeaseHolder,
  { first, shared }: { readonly first: ExecuteOnceResult<Outcome>; readonly shared: IdempotentScope },
): Promise<Outcome> {
  const { policy, scope } = shared;
  const wait = new InProcessWait(attempt, policy, scope);
  let result = first;
  try {
    while (result.kind === 'in-progress' || result.kind === 'store-unavailable') {
      reportStoreHealth(result, policy, scope);
      const outcome = await (result.kind === 'in-progress'
        ? wait.waitForOwner()
        : wait.waitForStore(result.error));
      if (outcome !== undefined) {
        if (result.kind === 'store-unavailable') releaseKey(holder, policy);
        return outcome;
      }
      result = await executeLeased(attempt, holder, shared);
    }
    return conclude(attempt, result, shared);
  } finally {
    // From here on, a late `begin` result is released instead of used.
    holder.willRetry = false;
  }
}

function conclude(
  attempt: Attempt,
  result: Exclude<ExecuteOnceResult<Outcome>, { kind: 'in-progress' | 'store-unavailable' }>,
  { policy, scope }: IdempotentScope,
): Outcome {
  reportStoreHealth(result, policy, scope);
  if (result.kind === 'duplicate') return replyToDuplicate(attempt, result.reply, scope);
  if (result.kind === 'failed') throw result.error;
  if (result.leaseLost) warnLostLease(attempt, policy, scope);
  return result.value;
}

const processId = randomUUID();
let owners = 0;

/** Unique for each message that is handled. */
function newOwner(): string {
  return `${processId}-${++owners}`;
}

/** The owner under which this process begins work on a key. */
interface LeaseHolder {
  readonly key: string;
  readonly owner: string;
  /** Whether `begin` is called again after it got no answer. */
  willRetry: boolean;
}

/**
 * The store may have written the lease although `begin` failed; it must not delay the next delivery of the
 * message.
 */
function releaseKey({ key, owner }: LeaseHolder, { store }: IdempotencyPolicy): void {
  void (async () => store.release(key, owner))().catch(() => {});
}

function executeLeased(
  attempt: Attempt,
  holder: LeaseHolder,
  { policy, next, scope, renewals }: IdempotentScope,
): ExecuteOnceResult<Outcome> | Promise<ExecuteOnceResult<Outcome>> {
  const { store, leaseMs, ttlMs, onStoreError } = policy;
  const settings: ExecuteOnceSettings = {
    store,
    key: holder.key,
    owner: holder.owner,
    willRetry: () => holder.willRetry,
    leaseMs,
    ttlMs,
    onStoreError,
    clock: scope.clock,
    renewals,
    ...abandonment(attempt, scope),
  };
  return executeOnce(settings, () => {
    // The delivery may have been aborted while `begin` was awaited.
    if (attempt.delivery.isLost) return { value: interrupted(attempt), isIncomplete: true };
    return andThen(next(attempt), (outcome) => {
      const reply = attempt.context.replyWriter?.bufferedReply;
      return { value: outcome, reply, isIncomplete: !isCompleted(outcome, attempt) };
    });
  });
}

/**
 * A handler whose source was lost still runs and keeps its lease, so that a redelivery waits for it. During
 * a shutdown the lease is left to expire: the process ends without waiting for the handler.
 */
function abandonment(
  { delivery }: Attempt,
  { retryTimers }: Pick<SubscriptionScope, 'retryTimers'>,
): Required<Pick<ExecuteOnceSettings, 'isAbandoned' | 'onAbort'>> {
  return {
    isAbandoned: () => delivery.aborted && retryTimers.isClosed,
    onAbort: (listener) => retryTimers.onAbandoned(delivery, listener),
  };
}

/**
 * The handler succeeded or called `ack()`, and did not stop early because of an abort. If it called `ack()`
 * and then failed, an event counts as handled, but the caller of a request gets an error.
 */
function isCompleted(outcome: Outcome, { abortObserved, context }: Attempt): boolean {
  if (outcome.kind !== 'handled' || abortObserved) return false;
  return outcome.error === undefined || context.replyWriter === undefined;
}

const duplicate: HandledOutcome = { ...handled, isDuplicate: true };

function replyToDuplicate(
  attempt: Attempt,
  reply: StoredReply | undefined,
  scope: SubscriptionScope,
): Outcome {
  attempt.context.replyWriter?.replayStored(reply);
  scope.counters.add('duplicate');
  scope.logger.debug(
    `${scope.subscription}: ${describeMessage(attempt)} is a duplicate and is not handled again`,
  );
  return duplicate;
}

/** Waits of a message that must not be handled yet. */
class InProcessWait {
  readonly #attempt: Attempt;
  readonly #policy: IdempotencyPolicy;
  readonly #scope: SubscriptionScope;
  readonly #since: number;
  #storeWaitMs = initialStoreWaitMs;
  #isCounted = false;

  constructor(attempt: Attempt, policy: IdempotencyPolicy, scope: SubscriptionScope) {
    this.#attempt = attempt;
    this.#policy = policy;
    this.#scope = scope;
    this.#since = scope.clock.now();
  }

  /** Resolves with undefined when `begin` should be called again, else with the outcome of the message. */
  async waitForOwner(): Promise<Outcome | undefined> {
    const { counters, logger, subscription } = this.#scope;
    if (!this.#isCounted) counters.add('duplicates-in-flight');
    this.#isCounted = true;
    logger.debug(`${subscription}: ${describeMessage(this.#attempt)} waits: it is in progress elsewhere`);
    const waitMs = Math.min(
      maxOwnerWaitMs,
      Math.max(minOwnerWaitMs, Math.ceil(this.#policy.leaseMs / waitsPerLease)),
    );
    return this.#deferral(waitMs) ?? this.#wait(waitMs, ownerStillRunning);
  }

  /** Like `waitForOwner`, for a store that is unavailable. */
  async waitForStore(error: unknown): Promise<Outcome | undefined> {
    const isLong = this.#scope.clock.now() - this.#since >= maxInProcessStoreWaitMs;
    const waitMs = this.#storeWaitMs;
    this.#storeWaitMs = Math.min(waitMs * 2, maxStoreWaitMs);
    return (
      (isLong ? this.#deferral(maxStoreWaitMs) : undefined) ?? this.#wait(waitMs, storeUnavailable(error))
    );
  }

  /** Sends the message through the broker if it can be delayed there: it then blocks no key here. */
  #deferral(delayMs: number): Outcome | undefined {
    const { capabilities, driver } = this.#scope;
    if (this.#attempt.delivery.isEarlyAcked || capabilities.requeue === 'in-process') return undefined;
    const brokerDelayMs = driver.roundDelay(delayMs);
    // A request would be dropped as expired after the delay, and its caller get no answer.
    if (brokerDelayMs === undefined || this.#attempt.expiresWithin(brokerDelayMs)) return undefined;
    return { kind: 'redeliver', attempt: this.#attempt, delayMs: brokerDelayMs, isDeferral: true };
  }

  async #wait(waitMs: number, failure: Failure): Promise<Outcome | undefined> {
    const { context } = this.#attempt;
    // The caller would time out during the wait: it gets the error at once.
    if (this.#attempt.expiresWithin(waitMs)) return this.#attempt.fail(failure, 'never');
    if (await context.slot.wait(waitMs)) {
      // The wait for a slot may have outlasted the deadline.
      return this.#attempt.expiresWithin(0) ? this.#attempt.fail(failure, 'never') : undefined;
    }
    // The broker does not redeliver a message that was acknowledged early: it is dead-lettered instead.
    return context.delivery.isEarlyAcked ? this.#attempt.fail(failure, 'never') : interrupted(this.#attempt);
  }
}

const ownerStillRunning = libraryFailure(
  'InProgressError',
  'the message was still in progress elsewhere when the application stopped or its caller timed out',
  'retries-exhausted',
);

function storeUnavailable(error: unknown): Failure {
  const message = 'the idempotency store is unavailable, so a duplicate cannot be ruled out';
  return libraryFailure('StoreUnavailableError', message, 'retries-exhausted', {
    code: errorCodes.storeUnavailable,
    error,
  });
}

function reportStoreHealth(
  result: ExecuteOnceResult<Outcome>,
  { onStoreError }: IdempotencyPolicy,
  { storeHealth }: SubscriptionScope,
): void {
  const error = storeErrorOf(result);
  if (error === undefined) storeHealth.up();
  else storeHealth.down(error, onStoreError);
}

function storeErrorOf(result: ExecuteOnceResult<Outcome>): unknown {
  if (result.kind === 'store-unavailable') return result.error;
  return result.kind === 'executed' || result.kind === 'failed' ? result.storeError : undefined;
}

function warnLostLease(
  attempt: Attempt,
  { leaseMs }: IdempotencyPolicy,
  { logger, subscription }: SubscriptionScope,
): void {
  logger.warn(
    `${subscription}: ${describeMessage(attempt)} was processed after its idempotency lease expired ` +
      `and may have been processed twice (leaseMs=${leaseMs})`,
  );
}

function describeMessage({ handler, delivery }: Attempt): string {
  return `message ${quoted(delivery.message.messageId)} of the handler ${quoted(handler.id)}`;
}
