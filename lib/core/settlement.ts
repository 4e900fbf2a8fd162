import { sleep, type Clock } from './clock.js';
import type { Counters } from './counters.js';
import type { Copy } from './driver.js';
import type { Delivery } from './delivery.js';
import { messageOf } from './errors.js';
import type { StorkLogger } from './logger.js';

export interface SettlementScope {
  readonly subscription: string;
  readonly clock: Clock;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  /** Aborts when the shutdown's patience is over. */
  readonly stopping: AbortSignal;
  /** Pauses the source while a dead letter cannot be written, and lets it go on afterwards. */
  writingBlocked(isBlocked: boolean): void;
}

const firstRetryMs = 500;
const longestRetryMs = 30_000;
/** What is given back comes again at once; the wait before it keeps a broken peer from a hot loop. */
const giveBackDelayMs = 1_000;

export function acknowledge(delivery: Delivery, scope: SettlementScope): void {
  if (!delivery.ack()) scope.counters.add('stale');
}

/**
 * Keeps the copies and acknowledges the source, however long that takes: while the broker refuses them, the source is paused and
 * the message stays unsettled. Only the end of the epoch or of the shutdown's patience ends the trying; then it comes again.
 */
export async function keepCopies(
  delivery: Delivery,
  copies: readonly Copy[],
  scope: SettlementScope,
): Promise<void> {
  let blocked = false;
  try {
    for (let retry = 0; delivery.open; retry++) {
      try {
        if (await delivery.ackAfter(copies)) countDeadLetters(copies, scope);
        else scope.counters.add('stale');
        return;
      } catch (error) {
        const delayMs = Math.min(firstRetryMs * 2 ** retry, longestRetryMs);
        scope.logger.error(
          `${scope.subscription}: a dead letter could not be written, paused, next try in ${delayMs} ms: ${messageOf(error)}`,
        );
        if (!blocked) scope.writingBlocked(true);
        blocked = true;
        if (scope.stopping.aborted) return void delivery.requeue();
        await sleep(scope.clock, delayMs, scope.stopping);
      }
    }
    scope.counters.add('stale');
  } finally {
    if (blocked) scope.writingBlocked(false);
  }
}

/** Returns the message to its source, after a pause so that nothing spins. */
export async function giveBack(delivery: Delivery, scope: SettlementScope): Promise<void> {
  await sleep(scope.clock, giveBackDelayMs, scope.stopping);
  scope.counters.add(delivery.requeue() ? 'given-back' : 'stale');
}

function countDeadLetters(copies: readonly Copy[], scope: SettlementScope): void {
  for (const { to } of copies) if (to === 'dead-letter') scope.counters.add('dead-lettered');
}
