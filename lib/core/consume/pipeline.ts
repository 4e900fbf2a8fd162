import { ReplyWriter, logUndeliverable, sendErrorReply } from './reply-writer.js';
import {
  deadLetterAttempt,
  invalid,
  dropWithoutDeadLetter,
  shouldDeadLetter,
  noHandler,
  deadLetterUnprocessable,
  undecodable,
  type DeadLetteringScope,
  type PreparedDeadLetter,
} from '../dead-letter/dead-lettering.js';
import type { Codecs } from '../message/codec.js';
import type { Delivery, RepublishedMessage } from '../port/delivery.js';
import type { Capabilities, Driver } from '../port/driver.js';
import { messageOf, remoteCodes, type ErrorEnvelope } from '../runtime/errors.js';
import type { HandlerTable, Route } from './handler-table.js';
import type { Handler } from './handler.js';
import { readDeliveryMetadata, type DeliveryMetadata } from '../message/delivery-metadata.js';
import { executeIdempotently, type IdempotencyScope } from '../idempotency/idempotency-policy.js';
import {
  acknowledgeOnceAllAcked,
  deferSettlement,
  acknowledge,
  countStale,
  requeueAfterDelay,
  republishUntilConfirmed,
  requeue,
  type DeferredSettlement,
  type Settled,
} from './settlement.js';
import { buildRedelivery } from '../retry/redelivery.js';
import {
  retryInProcess,
  needsRetryDecision,
  executeWithRetries,
  type RetryScope,
} from '../retry/retry-loop.js';
import { hasOutcome, Attempt, requeueRequested, type AttemptFields, type AttemptInput } from './attempt.js';
import { quoted } from '../message/text.js';

/** What all deliveries of one subscription share. */
export interface PipelineScope extends DeadLetteringScope, RetryScope, IdempotencyScope {
  readonly driver: Pick<Driver, 'parseReplyAddress' | 'reply' | 'roundDelay'>;
  readonly capabilities: Pick<Capabilities, 'requeue' | 'destinations'>;
  readonly handlers: HandlerTable;
  readonly codecs: Codecs;
  /** A message with a larger body is dead-lettered without being decoded. */
  readonly maxBodyBytes: number;
  readonly onUnhandled: 'dead-letter' | 'skip';
  readonly clockSkewMs: number;
}

/** A delivery while it is processed. */
interface DeliveryContext extends AttemptFields {
  readonly scope: PipelineScope;
}

/**
 * Processes one message, from its delivery to its settlement. The source session may end at every `await`:
 * a later settlement then has no effect and is counted as `stale-settlements`, and the broker redelivers
 * the message. Rejects only because of a bug in stork.
 */
export async function processDelivery(
  delivery: Delivery,
  scope: PipelineScope,
): Promise<Settled | DeferredSettlement> {
  const { message } = delivery;
  scope.counters.add('received');

  // 1. Read the headers. An expired request is not processed: its caller no longer waits.
  const pending = readDeliveryMetadata(message, scope.driver);
  const metadata = pending instanceof Promise ? await pending : pending;
  if (metadata.deadline !== undefined && metadata.deadline + scope.clockSkewMs <= scope.clock.now()) {
    scope.counters.add('expired');
    return acknowledge(delivery, scope);
  }
  const replyWriter = openReplyWriter(delivery, metadata, scope);
  const context: DeliveryContext = { delivery, metadata, scope, replyWriter };
  if (metadata.reply.kind === 'forged') {
    return deadLetterUnprocessable(context, invalid(metadata.reply.why));
  }

  // 2. Decode the body.
  const bytes = message.body?.length ?? 0;
  if (bytes > scope.maxBodyBytes) {
    const why = `the body has ${bytes} bytes, maxBodyBytes allows ${scope.maxBodyBytes}`;
    return deadLetterUnprocessable(context, invalid(why));
  }
  const body = scope.codecs.decode(message.body, message.contentType, message.contentEncoding);
  if (!body.ok) return deadLetterUnprocessable(context, undecodable(body.error));

  // 3. Find the handlers of the pattern.
  const route = scope.handlers.route(message.patterns);
  const handlers = chooseHandlers(route, context);
  if (handlers.length === 0) return settleUnhandled(context, route);

  // 4. Under `at-most-once`, acknowledge before a handler starts.
  if (delivery.mode === 'at-most-once' && !(await delivery.ackEarly())) return skipUnconfirmed(context);

  // 5. Call the handlers, with their retries.
  const attempts = firstAttempts(handlers, context, { pattern: route.pattern, value: body.value });
  if (delivery.mode === 'manual') {
    for (const attempt of attempts)
      attempt.onDecision = () => acknowledgeOnceAllAcked(delivery, attempts, scope);
  }
  if (attempts.length === 1 && attempts[0]!.handler.idempotency === undefined) {
    // The same as `executeHandler`, without the promises that it would add to the path of most messages.
    await attempts[0]!.execute();
    if (needsRetryDecision(attempts[0]!)) attempts[0] = await retryInProcess(attempts[0]!, scope);
  } else {
    await Promise.all(attempts.map((_, i) => executeHandler(attempts, i, scope)));
  }

  // 6. Settle the message: immediately, or under `manual` when the handlers decide.
  const isAborted = delivery.aborted && !delivery.isEarlyAcked;
  if (isAborted || attempts.some(({ isInterrupted }) => isInterrupted)) return abandon(context);
  if (delivery.mode === 'manual' && !attempts.every(hasOutcome)) {
    return deferSettlement(context, attempts, {
      settle: () => settleEvent(context, attempts),
      abandon: () => abandon(context),
    });
  }
  return settle(context, attempts);
}

function openReplyWriter(
  delivery: Delivery,
  metadata: DeliveryMetadata,
  scope: PipelineScope,
): ReplyWriter | undefined {
  if (metadata.reply.kind !== 'address') return undefined;
  const { driver, codecs } = scope;
  const { correlationId, messageId } = delivery.message;
  return new ReplyWriter({
    driver,
    codecs,
    address: metadata.reply.address,
    correlationId: correlationId ?? messageId ?? '',
  });
}

/**
 * A request goes to the message handler. An event goes to all event handlers or, if there are none, to the
 * message handler, whose result is then ignored. A redelivery goes only to the handler that it names.
 */
function chooseHandlers(route: Route, { metadata, scope }: DeliveryContext): readonly Handler[] {
  if (metadata.handlerId !== undefined) {
    const handler = scope.handlers.byId(metadata.handlerId);
    return handler === undefined ? [] : [handler];
  }
  if (metadata.reply.kind === 'none' && route.events.length > 0) return route.events;
  return route.messageHandler === undefined ? [] : [route.messageHandler];
}

async function settleUnhandled(context: DeliveryContext, route: Route): Promise<Settled> {
  const { delivery, metadata, replyWriter, scope } = context;
  const failure = noHandler(metadata.handlerId, route.pattern);
  if (scope.onUnhandled === 'dead-letter') return deadLetterUnprocessable(context, failure);
  await sendErrorReply(replyWriter, failure.envelope, scope);
  scope.counters.add('skipped');
  return acknowledge(delivery, scope);
}

/**
 * Ends a delivery whose early ack was not confirmed. The handler does not start: if the source was lost,
 * the broker redelivers the message; if the shutdown deadline passed first, the broker may have accepted
 * the ack or not.
 */
function skipUnconfirmed({ delivery, scope, replyWriter }: DeliveryContext): Settled {
  replyWriter?.discard();
  countStale(delivery, scope);
  if (delivery.session.isActive) {
    scope.logger.warn(
      `${scope.subscription}: message ${quoted(delivery.message.messageId)} was not processed: ` +
        'the broker did not confirm its acknowledgement before the shutdown deadline',
    );
  }
  return 'settled';
}

function firstAttempts(
  handlers: readonly Handler[],
  context: DeliveryContext,
  input: AttemptInput,
): Attempt[] {
  const number = context.metadata.attempt + context.delivery.uncountedAttempts;
  if (handlers.length === 1) return [new Attempt(handlers[0]!, context, input, number)];
  return handlers.map((handler) => new Attempt(handler, context, input, number));
}

/** Calls one handler with its retries. The handlers of an event are retried independently of each other. */
async function executeHandler(attempts: Attempt[], i: number, scope: PipelineScope): Promise<void> {
  const first = attempts[i]!;
  const { idempotency } = first.handler;
  attempts[i] = await (idempotency === undefined
    ? executeWithRetries(first, scope)
    : executeIdempotently(first, idempotency, scope));
}

/** Ignores what the handlers have done: the message is processed again after its redelivery. */
function abandon({ delivery, scope, replyWriter }: DeliveryContext): Settled {
  replyWriter?.discard();
  if (delivery.open) return requeue(delivery, scope);
  countStale(delivery, scope);
  return 'settled';
}

function settle(context: DeliveryContext, attempts: readonly Attempt[]): Settled | Promise<Settled> {
  const { replyWriter, delivery, scope } = context;
  if (attempts.some(requeueRequested)) {
    logFailuresAfterDecision(context, attempts);
    // The attempt after the redelivery replies.
    replyWriter?.discard();
    return requeueAfterDelay(delivery, scope);
  }
  return replyWriter === undefined
    ? settleEvent(context, attempts)
    : settleRequest(context, replyWriter, attempts[0]!);
}

/** An event is settled when every handler has succeeded, or its dead letter or redelivery is confirmed. */
function settleEvent(context: DeliveryContext, attempts: readonly Attempt[]): Settled | Promise<Settled> {
  logFailuresAfterDecision(context, attempts);
  const republished: RepublishedMessage[] = [];
  const deadLetters: PreparedDeadLetter[] = [];
  for (const attempt of attempts) {
    const { deadLetterCause, redeliverInMs } = attempt;
    if (redeliverInMs !== undefined) {
      republished.push(toRedelivery(attempt, redeliverInMs, context.scope));
      continue;
    }
    countOutcome(attempt, context.scope);
    if (deadLetterCause === undefined) continue;
    if (dropWithoutDeadLetter(attempt, deadLetterCause, context.scope)) continue;
    const deadLetter = deadLetterAttempt(attempt, deadLetterCause, context.scope);
    republished.push(deadLetter.republished);
    deadLetters.push(deadLetter);
  }
  return republished.length === 0
    ? acknowledge(context.delivery, context.scope)
    : republishUntilConfirmed(context.delivery, republished, context.scope, () => {
        for (const deadLetter of deadLetters) deadLetter.notify();
      });
}

/** A request is settled when its reply is confirmed, or its redelivery. */
async function settleRequest(
  context: DeliveryContext,
  replyWriter: ReplyWriter,
  attempt: Attempt,
): Promise<Settled> {
  const { delivery, scope } = context;
  logFailuresAfterDecision(context, [attempt]);
  if (attempt.redeliverInMs !== undefined) {
    // The attempt after the redelivery replies.
    replyWriter.discard();
    const redelivery = toRedelivery(attempt, attempt.redeliverInMs, scope);
    return republishUntilConfirmed(delivery, [redelivery], scope);
  }
  countOutcome(attempt, scope);
  const { deadLetterCause, failure } = attempt;
  if (deadLetterCause !== undefined && shouldDeadLetter(attempt)) {
    await sendErrorReply(replyWriter, deadLetterCause.envelope, scope);
    const deadLetter = deadLetterAttempt(attempt, deadLetterCause, scope);
    return republishUntilConfirmed(delivery, [deadLetter.republished], scope, () => deadLetter.notify());
  }
  // An early-acked request is not redelivered, so it gets a reply even if a shutdown interrupted its
  // handler: an error, because values emitted so far may not be the complete reply.
  const envelope =
    (deadLetterCause ?? failure)?.envelope ?? (delivery.aborted ? abortedByShutdown : undefined);
  const outcome = await (envelope === undefined ? replyWriter.end() : replyWriter.fail(envelope));
  if (typeof outcome === 'object') {
    const consequence = delivery.isEarlyAcked ? 'is not processed again' : 'is requeued';
    scope.logger.warn(
      `${scope.subscription}: a reply was not confirmed, the request ${consequence}: ${messageOf(outcome.unconfirmed)}`,
    );
    return requeueAfterDelay(delivery, scope);
  }
  if (typeof outcome === 'string') logUndeliverable(outcome, scope);
  return acknowledge(delivery, scope);
}

const abortedByShutdown: ErrorEnvelope = {
  name: 'AbortedError',
  message: 'the server was shut down before the handler had ended',
  code: remoteCodes.handlerFailed,
  retryable: true,
};

/**
 * A handler that throws after `ack` or `nack` does not change the outcome, so the log is the only trace of
 * its error.
 */
function logFailuresAfterDecision({ scope }: DeliveryContext, attempts: readonly Attempt[]): void {
  for (const { decision, failure, handler } of attempts) {
    if (decision === undefined || decision === 'retry' || failure === undefined) continue;
    const why = messageOf(failure.error);
    scope.logger.warn(
      `${scope.subscription}: handler ${quoted(handler.id)} failed after its ${decision}: ${why}`,
    );
  }
}

/** The idempotency policy counts duplicates. */
function countOutcome({ deadLetterCause, isDuplicate }: Attempt, { counters }: PipelineScope): void {
  if (!isDuplicate) counters.add(deadLetterCause === undefined ? 'handled' : 'failed');
}

function toRedelivery(
  { delivery, handler, number, firstFailedAt, isDeferred }: Attempt,
  delayMs: number,
  scope: PipelineScope,
): RepublishedMessage {
  const next = {
    handlerId: handler.id,
    attempt: isDeferred ? number : number + 1,
    firstFailedAt,
    isDeferral: isDeferred,
    delayMs,
    now: scope.clock.now(),
  };
  return buildRedelivery(delivery.message, next);
}
