import { messageOf, errorCodes } from '../runtime/errors.js';
import type { StorkLogger } from '../runtime/reporting.js';
import { randomUUID } from 'node:crypto';
import type { Capabilities } from '../port/driver.js';
import { libraryFailure, type Failure } from '../runtime/failure.js';
import { deriveKey } from './idempotency-key.js';
import type { IdempotencyPolicy } from './idempotency-options.js';
import type { StoredReply } from './idempotency-store.js';
import { executeOnce, type ExecuteOnceResult, type ExecuteOnceSettings } from './execute-once.js';
import { nextAttempt, executeWithRetries, type RetryScope } from '../retry/retry-loop.js';
import type { Attempt } from '../consume/attempt.js';
import { quoted } from '../message/text.js';

export interface IdempotencyScope extends RetryScope {
  /** Keys are scoped to the consumer and to the handler. */
  readonly consumerName: string;
  readonly capabilities: Pick<Capabilities, 'requeue'>;
  readonly storeHealth: StoreHealthLog;
}

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
/**
 * A message that has waited this long in process is deferred through the broker, where it occupies no
 * concurrency slot.
 */
const maxInProcessStoreWaitMs = 60_000;

/**
 * Executes an idempotent handler with its retries, unless the message was handled before or another owner
 * is handling it. Resolves with the last attempt, which holds the outcome. The key is completed only if the
 * message was handled; if the handler failed, requested a retry, rejected the message or was aborted, the
 * key is released.
 */
export async function executeIdempotently(
  first: Attempt,
  policy: IdempotencyPolicy,
  scope: IdempotencyScope,
): Promise<Attempt> {
  first.replyWriter?.bufferSingleValue();
  const { attempt, key } = await resolveKey(first, policy, scope);
  if (attempt.failure !== undefined) return attempt;
  if (key === undefined) {
    scope.counters.add('no-idempotency-key');
    return executeWithRetries(attempt, scope);
  }
  const wait = new InProcessWait(attempt, policy, scope);
  // All calls of `begin` use one owner: a store that has written the lease but not answered grants it to
  // the next call.
  const holder: LeaseHolder = { key, owner: randomUUID(), willRetry: policy.onStoreError === 'fail' };
  try {
    for (;;) {
      const result = await executeKeyed(attempt, holder, { policy, scope });
      reportStoreHealth(result, policy, scope);
      switch (result.kind) {
        case 'executed':
          if (result.leaseLost) warnLostLease(attempt, policy, scope);
          return result.value;
        case 'failed':
          throw result.error;
        case 'duplicate':
          return replyToDuplicate(attempt, result.reply, scope);
        case 'in-progress':
          if (await wait.waitForOwner()) break;
          return attempt;
        case 'store-unavailable':
          if (await wait.waitForStore(result.error)) break;
          releaseKey(holder, policy);
          return attempt;
      }
    }
  } finally {
    // From here on, a late `begin` result is released instead of used.
    holder.willRetry = false;
  }
}

/** A key function that fails is a failed attempt: it follows the retry policy. */
async function resolveKey(
  first: Attempt,
  policy: IdempotencyPolicy,
  scope: IdempotencyScope,
): Promise<{ readonly attempt: Attempt; readonly key?: string | undefined }> {
  let attempt = first;
  for (;;) {
    const result = deriveKey(attempt, policy, scope.consumerName);
    if ('key' in result) return { attempt, key: result.key };
    attempt.failWithoutExecuting(result.failure);
    const next = await nextAttempt(attempt, scope);
    if (next === undefined) return { attempt };
    attempt = next;
  }
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
  store.release(key, owner).catch(() => {});
}

function executeKeyed(
  attempt: Attempt,
  holder: LeaseHolder,
  { policy, scope }: { readonly policy: IdempotencyPolicy; readonly scope: IdempotencyScope },
): Promise<ExecuteOnceResult<Attempt>> {
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
    onAbandoned: (stopRenewing) => onAbandoned(attempt, scope, stopRenewing),
  };
  return executeOnce(settings, async () => {
    if (interruptIfAborted(attempt)) return { value: attempt, isIncomplete: true };
    const last = await executeWithRetries(attempt, scope);
    return { value: last, reply: last.replyWriter?.bufferedReply, isIncomplete: !isCompleted(last) };
  });
}

/**
 * The delivery may have been aborted while `begin` was awaited; the handler is then not called. A message
 * that was acknowledged early is handled all the same: the broker does not redeliver it.
 */
function interruptIfAborted(attempt: Attempt): boolean {
  attempt.isInterrupted = attempt.delivery.aborted && !attempt.delivery.isEarlyAcked;
  return attempt.isInterrupted;
}

/**
 * A handler whose source was lost still runs and keeps its lease, so that a redelivery waits for it. During
 * a shutdown the lease is left to expire: the process ends without waiting for the handler.
 */
function onAbandoned(
  { delivery }: Attempt,
  { retryTimers }: Pick<IdempotencyScope, 'retryTimers'>,
  stopRenewing: () => void,
): () => void {
  const stopIfAbandoned = (): void => {
    if (delivery.aborted && retryTimers.isClosed) stopRenewing();
  };
  const removers = [delivery.onAbort(stopIfAbandoned), retryTimers.onClose(stopIfAbandoned)];
  return () => {
    for (const remove of removers) remove();
  };
}

/** The handler succeeded or called `ack()`, and did not stop early because of an abort. */
function isCompleted(attempt: Attempt): boolean {
  if (attempt.deadLetterCause !== undefined || attempt.abortObserved) return false;
  // A handler that called `ack()` and then failed: an event counts as handled, but the caller of a request
  // gets an error.
  return attempt.failure === undefined || attempt.replyWriter === undefined;
}

function replyToDuplicate(
  attempt: Attempt,
  reply: StoredReply | undefined,
  scope: IdempotencyScope,
): Attempt {
  attempt.isDuplicate = true;
  attempt.replyWriter?.replayStored(reply);
  scope.counters.add('duplicate');
  scope.logger.debug(
    `${scope.subscription}: ${describeMessage(attempt)} is a duplicate and is not handled again`,
  );
  return attempt;
}

/** Waits of a message that must not be handled yet. */
class InProcessWait {
  readonly #attempt: Attempt;
  readonly #policy: IdempotencyPolicy;
  readonly #scope: IdempotencyScope;
  readonly #since: number;
  #storeWaitMs = initialStoreWaitMs;
  #isCounted = false;

  constructor(attempt: Attempt, policy: IdempotencyPolicy, scope: IdempotencyScope) {
    this.#attempt = attempt;
    this.#policy = policy;
    this.#scope = scope;
    this.#since = scope.clock.now();
  }

  /**
   * Resolves to true when `begin` should be called again. False: the attempt holds the outcome of the
   * message.
   */
  async waitForOwner(): Promise<boolean> {
    const { counters, logger, subscription } = this.#scope;
    if (!this.#isCounted) counters.add('duplicates-in-flight');
    this.#isCounted = true;
    logger.debug(`${subscription}: ${describeMessage(this.#attempt)} waits: it is in progress elsewhere`);
    const waitMs = Math.min(
      maxOwnerWaitMs,
      Math.max(minOwnerWaitMs, Math.ceil(this.#policy.leaseMs / waitsPerLease)),
    );
    if (this.#defer(waitMs)) return false;
    return this.#delayWithinDeadline(waitMs, ownerStillRunning);
  }

  /** Like `waitForOwner`, for a store that is unavailable. */
  async waitForStore(error: unknown): Promise<boolean> {
    const now = this.#scope.clock.now();
    if (now - this.#since >= maxInProcessStoreWaitMs && this.#defer(maxStoreWaitMs)) return false;
    const waitMs = this.#storeWaitMs;
    this.#storeWaitMs = Math.min(waitMs * 2, maxStoreWaitMs);
    return this.#delayWithinDeadline(waitMs, storeUnavailable(error));
  }

  async #delayWithinDeadline(waitMs: number, failure: Failure): Promise<boolean> {
    const { deadline } = this.#attempt.metadata;
    if (deadline === undefined || this.#scope.clock.now() + waitMs < deadline)
      return this.#delay(waitMs, failure);
    // The caller would time out during the wait: it gets the error at once.
    this.#attempt.failWithoutExecuting(failure);
    return false;
  }

  /**
   * Sends the message through the broker if it can be delayed there: it then occupies no slot and blocks no
   * key here.
   */
  #defer(delayMs: number): boolean {
    const { capabilities, driver } = this.#scope;
    if (this.#attempt.delivery.isEarlyAcked || capabilities.requeue === 'in-process') return false;
    const brokerDelayMs = driver.roundDelay(delayMs);
    if (brokerDelayMs === undefined) return false;
    this.#attempt.defer(brokerDelayMs);
    return true;
  }

  async #delay(waitMs: number, failure: Failure): Promise<boolean> {
    const { delivery } = this.#attempt;
    if (await this.#scope.retryTimers.wait(waitMs, delivery)) return true;
    // The broker does not redeliver a message that was acknowledged early: it is dead-lettered instead.
    if (delivery.isEarlyAcked) this.#attempt.failWithoutExecuting(failure);
    else this.#attempt.isInterrupted = true;
    return false;
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
  result: ExecuteOnceResult<Attempt>,
  { onStoreError }: IdempotencyPolicy,
  { storeHealth }: IdempotencyScope,
): void {
  const error = storeErrorOf(result);
  if (error === undefined) storeHealth.up();
  else storeHealth.down(error, onStoreError);
}

function storeErrorOf(result: ExecuteOnceResult<Attempt>): unknown {
  if (result.kind === 'store-unavailable') return result.error;
  return result.kind === 'executed' || result.kind === 'failed' ? result.storeError : undefined;
}

function warnLostLease(
  attempt: Attempt,
  { leaseMs }: IdempotencyPolicy,
  { logger, subscription }: IdempotencyScope,
): void {
  logger.warn(
    `${subscription}: ${describeMessage(attempt)} was processed after its idempotency lease expired ` +
      `and may have been processed twice (leaseMs=${leaseMs})`,
  );
}

function describeMessage({ handler, delivery }: Attempt): string {
  return `message ${quoted(delivery.message.messageId)} of the handler ${quoted(handler.id)}`;
}

/**
 * Logs that the idempotency store is unavailable and that it has recovered: once for each outage, not for
 * each message.
 */
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
    const reason = messageOf(error);
    const what = `${this.#subscription}: the idempotency store is unavailable`;
    if (onStoreError === 'process')
      this.#logger.warn(
        `${what}; idempotent handlers run without it and may process a message twice: ${reason}`,
      );
    else
      this.#logger.error(
        `${what}; messages of idempotent handlers wait until it recovers, ` +
          `and messages whose completion was not stored may be processed twice: ${reason}`,
      );
  }

  up(): void {
    if (!this.#isDown) return;
    this.#isDown = false;
    this.#logger.log(`${this.#subscription}: the idempotency store has recovered`);
  }
}
