import { sendReply } from './reply-writer.js';
import type { Delivery, RepublishedMessage } from '../port/delivery.js';
import { needsRetryDecision, decideNext, type RetryScope } from '../retry/retry-loop.js';
import { isAcknowledged, hasOutcome, requeueRequested, type Attempt, type AttemptFields } from './attempt.js';
import { sleep, type StorkClock } from '../runtime/clock.js';
import type { Counters } from '../runtime/counters.js';
import type { Capabilities } from '../port/driver.js';
import { messageOf } from '../runtime/errors.js';
import type { StorkLogger } from '../runtime/logger.js';

export interface SettlementScope {
  readonly subscription: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  readonly capabilities: Pick<Capabilities, 'requeue'>;
  /** Pauses the source while a dead letter cannot be written, and lets it go on afterwards. */
  onRepublishBlocked(why: string | undefined): void;
}

/** `done`: settled, or no longer ours. `again`: to be run once more, from memory, before anything else of its lane. */
export type Settled = 'settled' | 'reprocess';

/** The handler has ended and keeps the message; `later` resolves when it is settled. Never rejects. */
export interface DeferredSettlement {
  readonly settled: Promise<Settled>;
}

const firstRetryMs = 500;
const longestRetryMs = 30_000;
/** What is given back comes again at once; the wait before it keeps a broken peer from a hot loop. */
const requeueDelayMs = 1_000;

export function acknowledge(delivery: Delivery, scope: SettlementScope): Settled {
  // A handler may have acknowledged it before it ended.
  if (!delivery.ack() && !delivery.isEarlyAcked) scope.counters.add('stale-settlements');
  return 'settled';
}

/**
 * Keeps the copies and acknowledges the source, however long that takes: while the broker refuses them, the source is paused and
 * the message stays unsettled. Only the end of the epoch or of the shutdown's patience ends the trying; then it comes again.
 */
export async function republishUntilConfirmed(
  delivery: Delivery,
  republished: readonly RepublishedMessage[],
  scope: SettlementScope,
  onConfirmed: () => void = () => {},
): Promise<Settled> {
  let isBlocked = false;
  try {
    for (let retry = 0; delivery.open; retry++) {
      try {
        if (await delivery.republishThenAck(republished)) {
          for (const copy of republished) countRepublished(copy, scope);
          onConfirmed();
        } else scope.counters.add('stale-settlements');
        return 'settled';
      } catch (error) {
        if (delivery.aborted)
          return delivery.isEarlyAcked ? logLostRepublish(error, scope) : requeue(delivery, scope);
        if (!isBlocked) scope.onRepublishBlocked(messageOf(error));
        isBlocked = true;
        await sleep(scope.clock, Math.min(firstRetryMs * 2 ** retry, longestRetryMs), delivery.signal);
      }
    }
    countStale(delivery, scope);
    return 'settled';
  } finally {
    if (isBlocked) scope.onRepublishBlocked(undefined);
  }
}

/** What is deferred was counted as what it waits for. */
function countRepublished(copy: RepublishedMessage, { counters }: SettlementScope): void {
  if (copy.to === 'dead-letter') counters.add('dead-lettered');
  else if (!copy.isDeferral) counters.add('redelivered');
}

/** Has the message run again, after a pause so that nothing spins. What is not the source's any more ends here. */
export async function requeueAfterDelay(delivery: Delivery, scope: SettlementScope): Promise<Settled> {
  if (delivery.isEarlyAcked) return acknowledge(delivery, scope);
  await sleep(scope.clock, requeueDelayMs, delivery.signal);
  // A log cannot take a message back; its lane must not go on without it.
  if (scope.capabilities.requeue === 'in-process' && delivery.open && !delivery.aborted) return 'reprocess';
  return requeue(delivery, scope);
}

/** Returns the message to its source at once. */
export function requeue(delivery: Delivery, scope: Pick<SettlementScope, 'counters'>): Settled {
  if (delivery.requeue()) scope.counters.add('requeued');
  else countStale(delivery, scope);
  return 'settled';
}

/** What was given back by a drain is counted there. */
export function countStale(delivery: Delivery, scope: Pick<SettlementScope, 'counters'>): void {
  if (!delivery.session.isActive && !delivery.isEarlyAcked) scope.counters.add('stale-settlements');
}

/** The price of `at-most-once`: its message has no way back. */
function logLostRepublish(error: unknown, { logger, subscription }: SettlementScope): Settled {
  logger.error(`${subscription}: a copy was lost at the shutdown: ${messageOf(error)}`);
  return 'settled';
}

/** Under `manual`: a message whose handlers have ended, and whose own words settle it whenever they come. */
export interface DeferredMessage extends AttemptFields {
  readonly scope: SettlementScope & RetryScope;
}

/** How it ends like any other message. */
export interface SettlementCallbacks {
  readonly settle: () => Settled | Promise<Settled>;
  readonly abandon: () => Settled;
}

/** Under `manual` an acknowledgement waits for nothing but those of the message's other handlers. */
export function acknowledgeEarly(delivery: Delivery, runs: readonly Attempt[], scope: SettlementScope): void {
  if (runs.every(isAcknowledged)) acknowledge(delivery, scope);
}

/** Every handler has ended, and not every one has said what becomes of the message. */
export async function deferSettlement(
  kept: DeferredMessage,
  runs: readonly Attempt[],
  ends: SettlementCallbacks,
): Promise<DeferredSettlement> {
  const { replyWriter, delivery, scope } = kept;
  if (replyWriter !== undefined) await sendReply(replyWriter, scope);
  const later = new Promise<void>((resolve) => {
    const settleOnceDecided = (): void => {
      acknowledgeEarly(delivery, runs, scope);
      if (runs.every(hasOutcome)) resolve();
    };
    for (const run of runs) run.onVerb = settleOnceDecided;
    delivery.onAbort(resolve);
    // The reply may have taken its time.
    if (runs.every(hasOutcome)) resolve();
  });
  return { settled: later.then(() => settleDeferred(kept, runs, ends)) };
}

async function settleDeferred(
  { delivery, scope }: DeferredMessage,
  runs: readonly Attempt[],
  { settle, abandon }: SettlementCallbacks,
): Promise<Settled> {
  if (delivery.aborted && !delivery.isEarlyAcked) return abandon();
  if (runs.some(requeueRequested)) return requeueAfterDelay(delivery, scope);
  const asking = runs.find(needsRetryDecision);
  const waitMs = asking === undefined ? undefined : await decideNext(asking, scope);
  if (waitMs === undefined) return settle();
  if (!(await scope.retryTimers.wait(waitMs, delivery))) return abandon();
  scope.counters.add('retried');
  // Its slot and its lane are somebody else's by now: it gets in line for others.
  delivery.uncountedAttempts++;
  return 'reprocess';
}
