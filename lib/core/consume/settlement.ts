import { sendReply } from './reply-writer.js';
import type { Delivery, RepublishedMessage } from '../port/delivery.js';
import { needsRetryDecision, decideNext, type RetryScope } from '../retry/retry-loop.js';
import { isAcknowledged, hasOutcome, requeueRequested, type Attempt, type AttemptFields } from './attempt.js';
import { sleep, type StorkClock } from '../runtime/clock.js';
import type { Counters, StorkLogger } from '../runtime/reporting.js';
import type { Capabilities } from '../port/driver.js';
import { messageOf } from '../runtime/errors.js';

export interface SettlementScope {
  readonly subscription: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  readonly capabilities: Pick<Capabilities, 'requeue'>;
  /**
   * Called with a reason when republishing fails, and with undefined when it has recovered. The dispatcher
   * pauses a queue meanwhile, but not a log.
   */
  onRepublishBlocked(why: string | undefined): void;
}

/**
 * `settled`: the message is settled, or its source is lost. `reprocess`: the message is processed again in
 * process, before the next message of its key.
 */
export type Settled = 'settled' | 'reprocess';

/** Under `manual`: every handler has returned, and the message is still unsettled. */
export interface DeferredSettlement {
  /** Resolves when the message is settled. Never rejects. */
  readonly settled: Promise<Settled>;
}

const minRetryMs = 500;
const maxRetryMs = 30_000;
/**
 * The broker redelivers a requeued message immediately; this delay prevents a hot loop while a dependency
 * fails.
 */
const requeueDelayMs = 1_000;

export function acknowledge(delivery: Delivery, scope: SettlementScope): Settled {
  // Not stale if the handler has acknowledged the message before it returned.
  if (!delivery.ack() && !delivery.isEarlyAcked) scope.counters.add('stale-settlements');
  return 'settled';
}

/**
 * Republishes the messages, then acknowledges the delivery. While the broker refuses the publish, the
 * delivery stays unsettled and a queue is paused. Retries until every message is confirmed, the source
 * is lost, or the shutdown deadline passes; in the last two cases the broker redelivers the message.
 */
export async function republishUntilConfirmed(
  delivery: Delivery,
  messages: readonly RepublishedMessage[],
  scope: SettlementScope,
  onConfirmed: () => void = () => {},
): Promise<Settled> {
  let isBlocked = false;
  try {
    for (let retry = 0; delivery.open; retry++) {
      try {
        if (await delivery.republishThenAck(messages)) {
          for (const message of messages) countRepublished(message, scope);
          onConfirmed();
        } else scope.counters.add('stale-settlements');
        return 'settled';
      } catch (error) {
        if (delivery.aborted)
          return delivery.isEarlyAcked ? logLostMessage(error, scope) : requeue(delivery, scope);
        if (!isBlocked) scope.onRepublishBlocked(messageOf(error));
        isBlocked = true;
        await sleep(scope.clock, Math.min(minRetryMs * 2 ** retry, maxRetryMs), delivery.signal);
      }
    }
    countStale(delivery, scope);
    return 'settled';
  } finally {
    if (isBlocked) scope.onRepublishBlocked(undefined);
  }
}

/** A deferral is not counted here: its reason, e.g. a duplicate in flight, has a counter of its own. */
function countRepublished(message: RepublishedMessage, { counters }: SettlementScope): void {
  if (message.to === 'dead-letter') counters.add('dead-lettered');
  else if (!message.isDeferral) counters.add('redelivered');
}

/**
 * Requeues the message after a delay. An early-acked message cannot be requeued; its processing ends here.
 */
export async function requeueAfterDelay(delivery: Delivery, scope: SettlementScope): Promise<Settled> {
  if (delivery.isEarlyAcked) return acknowledge(delivery, scope);
  await sleep(scope.clock, requeueDelayMs, delivery.signal);
  // A log cannot redeliver a single message, and later messages of the key must not overtake it.
  if (scope.capabilities.requeue === 'in-process' && delivery.open && !delivery.aborted) return 'reprocess';
  return requeue(delivery, scope);
}

/** Returns the message to its source immediately. */
export function requeue(delivery: Delivery, scope: Pick<SettlementScope, 'counters'>): Settled {
  if (delivery.requeue()) scope.counters.add('requeued');
  else countStale(delivery, scope);
  return 'settled';
}

/** While the session is active, the dispatcher has requeued the message during its drain and counted it. */
export function countStale(delivery: Delivery, scope: Pick<SettlementScope, 'counters'>): void {
  if (!delivery.session.isActive && !delivery.isEarlyAcked) scope.counters.add('stale-settlements');
}

/** An early-acked message exists only in this process: the broker does not redeliver it. */
function logLostMessage(error: unknown, { logger, subscription }: SettlementScope): Settled {
  logger.error(
    `${subscription}: a message acknowledged before processing was lost at shutdown, republishing failed: ${messageOf(error)}`,
  );
  return 'settled';
}

/**
 * Under `manual`: a message whose handlers have returned, and which a later ack, nack or retry call
 * settles.
 */
export interface DeferredMessage extends AttemptFields {
  readonly scope: SettlementScope & RetryScope;
}

/** How the pipeline settles a message, once the handlers have decided or the delivery is aborted. */
export interface SettlementCallbacks {
  readonly settle: () => Settled | Promise<Settled>;
  readonly abandon: () => Settled;
}

/** Under `manual` the message is acknowledged as soon as every one of its handlers has called `ack`. */
export function acknowledgeOnceAllAcked(
  delivery: Delivery,
  attempts: readonly Attempt[],
  scope: SettlementScope,
): void {
  if (attempts.every(isAcknowledged)) acknowledge(delivery, scope);
}

/**
 * Waits until every handler has decided. Called when all have returned and at least one has not decided
 * yet.
 */
export async function deferSettlement(
  message: DeferredMessage,
  attempts: readonly Attempt[],
  callbacks: SettlementCallbacks,
): Promise<DeferredSettlement> {
  const { replyWriter, delivery, scope } = message;
  if (replyWriter !== undefined) await sendReply(replyWriter, scope);
  const decided = new Promise<void>((resolve) => {
    const resolveOnceDecided = (): void => {
      acknowledgeOnceAllAcked(delivery, attempts, scope);
      if (attempts.every(hasOutcome)) resolve();
    };
    for (const attempt of attempts) attempt.onDecision = resolveOnceDecided;
    delivery.onAbort(resolve);
    // A handler may have decided while the reply was being confirmed.
    if (attempts.every(hasOutcome)) resolve();
  });
  return { settled: decided.then(() => settleDeferred(message, attempts, callbacks)) };
}

async function settleDeferred(
  { delivery, scope }: DeferredMessage,
  attempts: readonly Attempt[],
  { settle, abandon }: SettlementCallbacks,
): Promise<Settled> {
  if (delivery.aborted && !delivery.isEarlyAcked) return abandon();
  if (attempts.some(requeueRequested)) return requeueAfterDelay(delivery, scope);
  const undecided = attempts.find(needsRetryDecision);
  const waitMs = undecided === undefined ? undefined : await decideNext(undecided, scope);
  if (waitMs === undefined) return settle();
  if (!(await scope.retryTimers.wait(waitMs, delivery))) return abandon();
  scope.counters.add('retried');
  // The message has left its concurrency slot and its key, so the dispatcher enqueues it again for the next
  // attempt.
  delivery.uncountedAttempts++;
  return 'reprocess';
}
