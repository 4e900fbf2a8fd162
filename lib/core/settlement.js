import { sleep } from './clock.js';
import { messageOf } from './errors.js';
const firstRetryMs = 500;
const longestRetryMs = 30_000;
/** What is given back comes again at once; the wait before it keeps a broken peer from a hot loop. */
const giveBackDelayMs = 1_000;
export function acknowledge(delivery, scope) {
  // A handler may have acknowledged it before it ended.
  if (!delivery.ack() && !delivery.isFinal) scope.counters.add('stale');
  return 'done';
}
/**
 * Keeps the copies and acknowledges the source, however long that takes: while the broker refuses them, the source is paused and
 * the message stays unsettled. Only the end of the epoch or of the shutdown's patience ends the trying; then it comes again.
 */
export async function keepCopies(delivery, copies, scope) {
  let isBlocked = false;
  try {
    for (let retry = 0; delivery.open; retry++) {
      try {
        if (await delivery.ackAfter(copies)) countDeadLetters(copies, scope);
        else scope.counters.add('stale');
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
/** Has the message run again, after a pause so that nothing spins. What is not the source's any more ends here. */
export async function giveBack(delivery, scope) {
  if (delivery.isFinal) return acknowledge(delivery, scope);
  await sleep(scope.clock, giveBackDelayMs, delivery.signal);
  // A log cannot take a message back; its lane must not go on without it.
  if (scope.capabilities.requeuesTo === 'memory' && delivery.open && !delivery.aborted) return 'again';
  return requeue(delivery, scope);
}
/** Returns the message to its source at once. */
export function requeue(delivery, scope) {
  if (delivery.requeue()) scope.counters.add('given-back');
  else countStale(delivery, scope);
  return 'done';
}
/** What was given back by a drain is counted there. */
export function countStale(delivery, scope) {
  if (!delivery.epoch.live && !delivery.isFinal) scope.counters.add('stale');
}
/** The price of `at-most-once`: its message has no way back. */
function lose(error, { logger, subscription }) {
  logger.error(`${subscription}: a dead letter was lost at the shutdown: ${messageOf(error)}`);
  return 'done';
}
function countDeadLetters(copies, scope) {
  for (const { to } of copies) if (to === 'dead-letter') scope.counters.add('dead-lettered');
}
