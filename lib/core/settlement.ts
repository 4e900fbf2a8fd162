import { sleep, type Clock } from './clock.js';
import type { Counters } from './counters.js';
import type { Capabilities, Copy } from './driver.js';
import type { Delivery } from './delivery.js';
import { messageOf } from './errors.js';
import type { StorkLogger } from './logger.js';

export interface SettlementScope {
  readonly subscription: string;
  readonly clock: Clock;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  readonly capabilities: Pick<Capabilities, 'requeuesTo'>;
  /** Pauses the source while a dead letter cannot be written, and lets it go on afterwards. */
  writingBlocked(why: string | undefined): void;
}

/** `done`: settled, or no longer ours. `again`: to be run once more, from memory, before anything else of its lane. */
export type Settled = 'done' | 'again';

/** The handler has ended and keeps the message; `later` resolves when it is settled. Never rejects. */
export interface Held {
  readonly later: Promise<Settled>;
}

const firstRetryMs = 500;
const longestRetryMs = 30_000;
/** What is given back comes again at once; the wait before it keeps a broken peer from a hot loop. */
const giveBackDelayMs = 1_000;

export function acknowledge(delivery: Delivery, scope: SettlementScope): Settled {
  // A handler may have acknowledged it before it ended.
  if (!delivery.ack() && !delivery.isFinal) scope.counters.add('stale');
  return 'done';
}

/**
 * Keeps the copies and acknowledges the source, however long that takes: while the broker refuses them, the source is paused and
 * the message stays unsettled. Only the end of the epoch or of the shutdown's patience ends the trying; then it comes again.
 */
export async function keepCopies(
  delivery: Delivery,
  copies: readonly Copy[],
  scope: SettlementScope,
  onKept: () => void = () => {},
): Promise<Settled> {
  let isBlocked = false;
  try {
    for (let retry = 0; delivery.open; retry++) {
      try {
        if (await delivery.ackAfter(copies)) {
          for (const copy of copies) countCopy(copy, scope);
          onKept();
        } else scope.counters.add('stale');
        return 'done';
      } catch (error) {
        if (delivery.aborted) return delivery.isFinal ? lose(error, scope) : requeue(delivery, scope);
        if (!isBlocked) scope.writingBlocked(messageOf(error));
        isBlocked = true;
        await sleep(scope.clock, Math.min(firstRetryMs * 2 ** retry, longestRetryMs), delivery.signal);
      }
    }
    countStale(delivery, scope);
    return 'done';
  } finally {
    if (isBlocked) scope.writingBlocked(undefined);
  }
}

/** What is deferred was counted as what it waits for. */
function countCopy(copy: Copy, { counters }: SettlementScope): void {
  if (copy.to === 'dead-letter') counters.add('dead-lettered');
  else if (!copy.isDeferral) counters.add('redelivered');
}

/** Has the message run again, after a pause so that nothing spins. What is not the source's any more ends here. */
export async function giveBack(delivery: Delivery, scope: SettlementScope): Promise<Settled> {
  if (delivery.isFinal) return acknowledge(delivery, scope);
  await sleep(scope.clock, giveBackDelayMs, delivery.signal);
  // A log cannot take a message back; its lane must not go on without it.
  if (scope.capabilities.requeuesTo === 'memory' && delivery.open && !delivery.aborted) return 'again';
  return requeue(delivery, scope);
}

/** Returns the message to its source at once. */
export function requeue(delivery: Delivery, scope: Pick<SettlementScope, 'counters'>): Settled {
  if (delivery.requeue()) scope.counters.add('given-back');
  else countStale(delivery, scope);
  return 'done';
}

/** What was given back by a drain is counted there. */
export function countStale(delivery: Delivery, scope: Pick<SettlementScope, 'counters'>): void {
  if (!delivery.epoch.live && !delivery.isFinal) scope.counters.add('stale');
}

/** The price of `at-most-once`: its message has no way back. */
function lose(error: unknown, { logger, subscription }: SettlementScope): Settled {
  logger.error(`${subscription}: a copy was lost at the shutdown: ${messageOf(error)}`);
  return 'done';
}
