import {
  deadLetterFailed,
  dropWithoutDeadLetter,
  shouldDeadLetterRequest,
  type PreparedDeadLetter,
} from '../dead-letter/dead-lettering.js';
import { messageOf, remoteCodes, stackOf, type ErrorEnvelope } from '../runtime/errors.js';
import type { DeliveryContext, SubscriptionScope } from './delivery-context.js';
import { handled, type FailedOutcome, type Outcome, type RedeliverOutcome } from './outcome.js';
import { describeAttempt, describeError, redacted } from '../message/text.js';
import type { Delivery, Redelivery, RepublishedMessage } from '../port/delivery.js';
import {
  copyHeaders,
  deadLetterHeaders,
  headerNames,
  headerSetter,
  timeText,
  writeOrigin,
} from '../message/headers.js';
import { sleep } from '../runtime/clock.js';
import { newReplyRetry } from './reply-retry.js';
import { errorReply, logUndeliverable, sendErrorReply, sendReply, type ReplyWriter } from './reply-writer.js';

/**
 * `settled`: the message is settled, or its source is lost. `reprocess`: the message is processed again in
 * process, before the next message of its key.
 */
export type Settled = 'settled' | 'reprocess';

/**
 * The broker redelivers a requeued message immediately; this delay prevents a hot loop while a dependency
 * fails.
 */
const requeueDelayMs = 1_000;

/** The same as `settle`, without its promise for an event that its only handler has handled. */
export function settleOne(context: DeliveryContext, outcome: Outcome): Settled | Promise<Settled> {
  if (outcome !== handled || context.replyWriter !== undefined || context.delivery.isLost)
    return settle(context, [outcome]);
  context.scope.counters.add('handled');
  return acknowledge(context.delivery, context.scope);
}

/**
 * Settles a message as the outcomes of its handlers say: of one for a request, of one or more for an event.
 */
export async function settle(context: DeliveryContext, outcomes: readonly Outcome[]): Promise<Settled> {
  if (context.delivery.isLost || outcomes.every(({ kind }) => kind === 'interrupted'))
    return abandon(context);
  if (outcomes.some(({ kind }) => kind === 'deferred')) return settleDeferred(context, outcomes);
  if (outcomes.some(({ kind }) => kind === 'requeue')) {
    // The attempt after the redelivery replies.
    context.replyWriter?.discard();
    context.delivery.requeuesInProcess++;
    for (const outcome of outcomes) if (outcome.kind === 'failed') logRepeated(outcome, context);
    return requeueAfterDelay(context);
  }
  return context.replyWriter === undefined
    ? settleEvent(context, outcomes.map(redeliverInterrupted))
    : settleRequest(context, context.replyWriter, outcomes[0]!);
}

/**
 * A shutdown has interrupted some handlers of an event. Those that are done must not run again, so the
 * message returns only for the others.
 */
function redeliverInterrupted(outcome: Outcome): Outcome {
  if (outcome.kind !== 'interrupted') return outcome;
  return { kind: 'redeliver', attempt: outcome.attempt, delayMs: 0, isDeferral: true };
}

/** Ignores what the handlers have done: the message is processed again after its redelivery. */
export function abandon({
  delivery,
  scope,
  replyWriter,
}: Pick<DeliveryContext, 'delivery' | 'scope'> & Partial<DeliveryContext>): Settled {
  replyWriter?.discard();
  if (delivery.open) requeue(delivery, scope);
  else countStale(delivery, scope);
  return 'settled';
}

/** Under `manual`, once every handler has returned: replies, and settles when all of them have decided. */
async function settleDeferred(context: DeliveryContext, outcomes: readonly Outcome[]): Promise<Settled> {
  const { slot, replyWriter, scope } = context;
  // Before the reply is confirmed: the handler may decide meanwhile, and its next attempt has a slot again.
  context.replyWriter = undefined;
  slot.leave();
  if (replyWriter !== undefined) await sendReply(replyWriter, scope);
  const decided = await Promise.all(
    outcomes.map(async (outcome) => (outcome.kind === 'deferred' ? outcome.outcome : outcome)),
  );
  return settle(context, decided);
}

/** Another handler has requeued the message, so the log is the only trace of the failure. */
function logRepeated({ attempt, failure }: FailedOutcome, { scope }: DeliveryContext): void {
  scope.logger.warn(
    `${describeAttempt(attempt)} failed: ${describeError(failure, attempt.handler.deadLetter?.redact)}; ` +
      'the handler is called again, because another handler has requeued the message',
  );
}

/**
 * Requeues the message after a delay. An early-acked message cannot be requeued; its processing ends here.
 */
export async function requeueAfterDelay({
  delivery,
  slot,
  scope,
}: Pick<DeliveryContext, 'delivery' | 'slot' | 'scope'>): Promise<Settled> {
  if (delivery.isEarlyAcked) {
    return acknowledge(delivery, scope);
  }
  const hasElapsed = await slot.wait(requeueDelayMs);
  // A log cannot redeliver a single message, and later messages of the key must not overtake it.
  if (hasElapsed && delivery.open && scope.capabilities.requeue === 'in-process') return 'reprocess';
  requeue(delivery, scope);
  return 'settled';
}

/** An event is settled when every handler has succeeded, or its dead letter or redelivery is confirmed. */
function settleEvent(context: DeliveryContext, outcomes: readonly Outcome[]): Settled | Promise<Settled> {
  const { delivery, scope } = context;
  const republished: RepublishedMessage[] = [];
  const deadLetters: PreparedDeadLetter[] = [];
  for (const outcome of outcomes) {
    countOutcome(outcome, context);
    if (outcome.kind === 'redeliver') republished.push(toRedelivery(outcome, context));
    if (outcome.kind !== 'failed' || dropWithoutDeadLetter(outcome, context)) continue;
    const deadLetter = deadLetterFailed(outcome, context);
    republished.push(deadLetter.republished);
    deadLetters.push(deadLetter);
  }
  if (republished.length > 0) {
    return republishUntilConfirmed(context, republished, scope, () => {
      for (const deadLetter of deadLetters) deadLetter.notify();
    });
  }
  return acknowledge(delivery, scope);
}

/** A request is settled when its reply has ended, or when its redelivery or its dead letter is confirmed. */
async function settleRequest(
  context: DeliveryContext,
  replyWriter: ReplyWriter,
  outcome: Outcome,
): Promise<Settled> {
  const { delivery, scope } = context;
  countOutcome(outcome, context);
  if (outcome.kind === 'redeliver') {
    // The attempt after the redelivery replies.
    replyWriter.discard();
    return republishUntilConfirmed(context, [toRedelivery(outcome, context)], scope);
  }
  if (outcome.kind === 'failed' && shouldDeadLetterRequest(outcome)) {
    await sendErrorReply(replyWriter, errorReply(outcome.failure, outcome.attempt, scope), scope);
    const deadLetter = deadLetterFailed(outcome, context);
    return republishUntilConfirmed(context, [deadLetter.republished], scope, () => deadLetter.notify());
  }
  if (outcome.kind === 'failed') logFailedRequest(outcome, scope);
  const error = errorReplyOf(outcome, context);
  const retry = newReplyRetry(context, context.slot);
  const sent = await (error === undefined ? replyWriter.end(retry) : replyWriter.fail(error, retry));
  if (typeof sent === 'object' && delivery.isLost) return abandon(context);
  logUndeliverable(sent, scope);
  return acknowledge(delivery, scope);
}

/**
 * An early-acked request is not redelivered, so it gets a reply even if a shutdown interrupted its handler:
 * an error, because values emitted so far may not be the complete reply.
 */
function errorReplyOf(outcome: Outcome, { delivery, scope }: DeliveryContext): ErrorEnvelope | undefined {
  if (outcome.kind === 'failed') return errorReply(outcome.failure, outcome.attempt, scope);
  const error = outcome.kind === 'handled' ? outcome.error : undefined;
  return error ?? (delivery.aborted ? abortedByShutdown : undefined);
}

const abortedByShutdown: ErrorEnvelope = {
  name: 'AbortedError',
  message: 'the server was shut down before the handler had ended',
  code: remoteCodes.handlerFailed,
  retryable: true,
};

/** No dead letter keeps the error, so the log has the stack of one that was unexpected. */
function logFailedRequest(
  { attempt, failure, isErrorReply }: FailedOutcome,
  { logger }: SubscriptionScope,
): void {
  const { includeStack, redact } = attempt.handler.deadLetter ?? {};
  const line = `${describeAttempt(attempt)} failed: ${describeError(failure, redact)}; its caller gets the error ${failure.envelope.code}`;
  if (isErrorReply) return logger.log(line);
  const stack = includeStack === false ? undefined : stackOf(failure.error);
  logger.warn(stack === undefined ? line : `${line}\n${redacted(stack, redact)}`);
}

/** Redeliveries are counted when they are confirmed, duplicates by the idempotency policy. */
function countOutcome(outcome: Outcome, { scope: { counters } }: DeliveryContext): void {
  if (outcome.kind === 'failed') counters.add('failed');
  else if (outcome.kind === 'handled' && outcome.isDuplicate !== true) counters.add('handled');
}

/** The message as it returns to one handler after a delay, with the number of its next attempt. */
function toRedelivery(
  { attempt, delayMs, isDeferral }: RedeliverOutcome,
  { delivery: { message }, scope }: DeliveryContext,
): Redelivery {
  const { handler, number, firstFailedAt } = attempt;
  const headers = copyHeaders(message.headers);
  const set = headerSetter(headers);
  writeOrigin(headers, message);
  // With the headers of an earlier dead-lettering the consumer would treat the redelivery as a dead letter
  // and ignore its handler and attempt headers.
  for (const name of deadLetterHeaders) set(name, undefined);
  set(headerNames.handler, handler.id);
  // The count restarts at 0: this process has a handler.
  set(headerNames.unhandledCount, undefined);
  set(headerNames.attempt, String(number));
  set(headerNames.firstFailedAt, firstFailedAt === undefined ? undefined : timeText(firstFailedAt));
  set(headerNames.dueAt, timeText(scope.clock.now() + delayMs));
  return { to: 'redelivery', delayMs, headers, isDeferral };
}

export function acknowledge(
  delivery: Delivery,
  { counters }: Pick<SubscriptionScope, 'counters'>,
): 'settled' {
  // Not stale if the handler has acknowledged the message before it returned.
  if (!delivery.ack() && !delivery.isEarlyAcked) counters.add('stale-settlements');
  return 'settled';
}

/** Returns the message to its source immediately. */
export function requeue(delivery: Delivery, scope: Pick<SubscriptionScope, 'counters'>): void {
  if (delivery.requeue()) scope.counters.add('requeued');
  else countStale(delivery, scope);
}

/** While the session is active, the dispatcher has requeued the message during its drain and counted it. */
export function countStale(delivery: Delivery, { counters }: Pick<SubscriptionScope, 'counters'>): void {
  if (!delivery.session.isActive && !delivery.isEarlyAcked) counters.add('stale-settlements');
}

const minRepublishRetryMs = 500;
const maxRepublishRetryMs = 30_000;

type RepublishScope = Pick<
  SubscriptionScope,
  'subscription' | 'clock' | 'logger' | 'counters' | 'onRepublishBlocked'
>;

/**
 * Republishes the messages, then acknowledges the delivery. While the broker refuses the publish, the
 * delivery stays unsettled without a concurrency slot and a queue is paused. Retries until every message is
 * confirmed, the source is lost, or the shutdown deadline passes; in the last two cases the broker
 * redelivers the message.
 */
export async function republishUntilConfirmed(
  { delivery, slot }: Pick<DeliveryContext, 'delivery' | 'slot'>,
  messages: readonly RepublishedMessage[],
  scope: RepublishScope,
  onConfirmed: () => void = () => {},
): Promise<'settled'> {
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
        if (delivery.aborted) {
          if (delivery.isEarlyAcked) logLostMessage(error, scope);
          else requeue(delivery, scope);
          return 'settled';
        }
        if (!isBlocked) scope.onRepublishBlocked(messageOf(error));
        isBlocked = true;
        const delayMs = Math.min(minRepublishRetryMs * 2 ** retry, maxRepublishRetryMs);
        // A shutdown ends the waits of slots; the retries continue until its deadline.
        if (!(await slot.wait(delayMs))) await sleep(scope.clock, delayMs, delivery.signal);
      }
    }
    countStale(delivery, scope);
    return 'settled';
  } finally {
    if (isBlocked) scope.onRepublishBlocked(undefined);
  }
}

/** A deferral is not counted here: its reason, e.g. a duplicate in flight, has a counter of its own. */
function countRepublished(message: RepublishedMessage, { counters }: RepublishScope): void {
  if (message.to === 'dead-letter') counters.add('dead-lettered');
  else if (!message.isDeferral) counters.add('redelivered');
}

/** An early-acked message exists only in this process: the broker does not redeliver it. */
function logLostMessage(error: unknown, { logger, subscription }: RepublishScope): void {
  logger.error(
    `${subscription}: a message acknowledged before processing was lost at shutdown, republishing failed: ${messageOf(error)}`,
  );
}
