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
  acknowledgeEarly,
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
import { interrupted, hasOutcome, Attempt, requeueRequested, type AttemptFields } from './attempt.js';
import { quoted } from '../message/text.js';

/** What every delivery of one subscription shares. */
export interface PipelineScope extends DeadLetteringScope, RetryScope, IdempotencyScope {
  readonly driver: Pick<Driver, 'parseReplyAddress' | 'reply' | 'roundDelay'>;
  readonly capabilities: Pick<Capabilities, 'requeue' | 'destinations'>;
  readonly handlers: HandlerTable;
  readonly codecs: Codecs;
  /** Above it a message is dead-lettered unread. */
  readonly maxBodyBytes: number;
  readonly onUnhandled: 'dead-letter' | 'skip';
  readonly clockSkewMs: number;
}

/** One delivery on its way, with what is known about it. */
interface Job extends AttemptFields {
  readonly scope: PipelineScope;
}

/**
 * The life of one message, from the driver's hands to its settlement. At every await the epoch may end; whatever is settled afterwards
 * is refused by the delivery, counted `stale-settlements`, and the broker delivers the message again. Rejects only by a bug of ours.
 */
export async function processDelivery(
  delivery: Delivery,
  scope: PipelineScope,
): Promise<Settled | DeferredSettlement> {
  const { message } = delivery;
  scope.counters.add('received');

  // 1 What the headers say.
  const known = readDeliveryMetadata(message, scope.driver);
  const metadata = known instanceof Promise ? await known : known;
  if (metadata.deadline !== undefined && metadata.deadline + scope.clockSkewMs <= scope.clock.now()) {
    scope.counters.add('expired');
    return acknowledge(delivery, scope);
  }
  const job: Job = { delivery, metadata, scope, replyWriter: openReplyWriter(delivery, metadata, scope) };
  if (metadata.reply.kind === 'forged') return deadLetterUnprocessable(job, invalid(metadata.reply.why));
  const bytes = message.body?.length ?? 0;
  if (bytes > scope.maxBodyBytes) {
    return deadLetterUnprocessable(
      job,
      invalid(`the body has ${bytes} bytes, maxBodyBytes allows ${scope.maxBodyBytes}`),
    );
  }

  // 2 Bytes to a value.
  const body = scope.codecs.decode(message.body, message.contentType, message.contentEncoding);
  if (!body.ok) return deadLetterUnprocessable(job, undecodable(body.error));

  // 3 Pattern to handlers.
  const route = scope.handlers.route(message.patterns);
  const handlers = chooseHandlers(route, job);
  if (handlers.length === 0) return unhandled(job, route);

  // Done before it begins, where that was asked for.
  if (delivery.mode === 'at-most-once' && !(await delivery.ackEarly())) return leave(job);

  // 4 Nest: guards, policies, interceptors, pipes, the user's method, filters.
  const input = { pattern: route.pattern, value: body.value };
  const attempt = metadata.attempt + delivery.uncountedAttempts;
  const runs =
    handlers.length === 1
      ? [new Attempt(handlers[0]!, job, input, attempt)]
      : handlers.map((handler) => new Attempt(handler, job, input, attempt));
  if (delivery.mode === 'manual')
    for (const run of runs) run.onVerb = () => acknowledgeEarly(delivery, runs, scope);
  if (runs.length === 1 && runs[0]!.handler.idempotency === undefined) {
    // `complete`, without the promises that it would cost every message.
    await runs[0]!.execute();
    if (needsRetryDecision(runs[0]!)) runs[0] = await retryInProcess(runs[0]!, scope);
  } else {
    await Promise.all(runs.map((_, i) => complete(runs, i, scope)));
  }

  // Taken away or given up meanwhile: it runs again elsewhere, and what came of it here is nobody's.
  if ((delivery.aborted && !delivery.isEarlyAcked) || runs.some(interrupted)) return abandon(job);

  // 5 A request is done when its answer is confirmed, an event when every handler has succeeded or its dead letter is confirmed.
  if (delivery.mode === 'manual' && !runs.every(hasOutcome)) {
    return deferSettlement(job, runs, { settle: () => settleEvent(job, runs), abandon: () => abandon(job) });
  }
  return conclude(job, runs);
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

/** With a reply address the message handler; without one the event handlers, else the message handler with its result dropped. */
function chooseHandlers(route: Route, { metadata, scope }: Job): readonly Handler[] {
  if (metadata.handlerId !== undefined) {
    const handler = scope.handlers.byId(metadata.handlerId);
    return handler === undefined ? [] : [handler];
  }
  if (metadata.reply.kind === 'none' && route.events.length > 0) return route.events;
  return route.messageHandler === undefined ? [] : [route.messageHandler];
}

async function unhandled(job: Job, route: Route): Promise<Settled> {
  const { delivery, metadata, replyWriter, scope } = job;
  const failure = noHandler(metadata.handlerId, route.pattern);
  if (scope.onUnhandled === 'dead-letter') return deadLetterUnprocessable(job, failure);
  await sendErrorReply(replyWriter, failure.envelope, scope);
  scope.counters.add('skipped');
  return acknowledge(delivery, scope);
}

/** Another consumer has it, or nobody: a shutdown that gave up while the broker was being told cannot know. */
function leave({ delivery, scope, replyWriter }: Job): Settled {
  replyWriter?.discard();
  countStale(delivery, scope);
  if (delivery.session.isActive) {
    const why = 'the broker did not confirm in time that it will not come again';
    scope.logger.warn(
      `${scope.subscription}: message ${quoted(delivery.message.messageId)} is not run: ${why}`,
    );
  }
  return 'settled';
}

/** Each handler of an event has its own chain of runs and waits for none of the others. */
async function complete(runs: Attempt[], i: number, scope: PipelineScope): Promise<void> {
  const run = runs[i]!;
  const { idempotency } = run.handler;
  runs[i] = await (idempotency === undefined
    ? executeWithRetries(run, scope)
    : executeIdempotently(run, idempotency, scope));
}

function abandon({ delivery, scope, replyWriter }: Job): Settled {
  replyWriter?.discard();
  if (delivery.open) return requeue(delivery, scope);
  countStale(delivery, scope);
  return 'settled';
}

function conclude(job: Job, runs: readonly Attempt[]): Settled | Promise<Settled> {
  const { replyWriter, delivery, scope } = job;
  if (runs.some(requeueRequested)) {
    noteFailures(job, runs);
    // The next run answers.
    replyWriter?.discard();
    return requeueAfterDelay(delivery, scope);
  }
  return replyWriter === undefined ? settleEvent(job, runs) : replyToRequest(job, replyWriter, runs[0]!);
}

function settleEvent(job: Job, runs: readonly Attempt[]): Settled | Promise<Settled> {
  noteFailures(job, runs);
  const republished: RepublishedMessage[] = [];
  const deadLetters: PreparedDeadLetter[] = [];
  for (const run of runs) {
    const { deadLetterCause: death, redeliverInMs } = run;
    if (redeliverInMs !== undefined) {
      republished.push(toRedelivery(run, redeliverInMs, job.scope));
      continue;
    }
    countEnd(run, job.scope);
    if (death === undefined || dropWithoutDeadLetter(run, death, job.scope)) continue;
    const deadLetter = deadLetterAttempt(run, death, job.scope);
    republished.push(deadLetter.republished);
    deadLetters.push(deadLetter);
  }
  return republished.length === 0
    ? acknowledge(job.delivery, job.scope)
    : republishUntilConfirmed(job.delivery, republished, job.scope, () => {
        for (const deadLetter of deadLetters) deadLetter.notify();
      });
}

async function replyToRequest(job: Job, replyWriter: ReplyWriter, run: Attempt): Promise<Settled> {
  const { delivery, scope } = job;
  noteFailures(job, [run]);
  if (run.redeliverInMs !== undefined) {
    // The next run answers.
    replyWriter.discard();
    return republishUntilConfirmed(delivery, [toRedelivery(run, run.redeliverInMs, scope)], scope);
  }
  countEnd(run, scope);
  if (run.deadLetterCause !== undefined && shouldDeadLetter(run)) {
    await sendErrorReply(replyWriter, run.deadLetterCause.envelope, scope);
    const deadLetter = deadLetterAttempt(run, run.deadLetterCause, scope);
    return republishUntilConfirmed(delivery, [deadLetter.republished], scope, () => deadLetter.notify());
  }
  // A message without a way back is answered in any case; what a shutdown has cut short is not the whole answer.
  const envelope =
    (run.deadLetterCause ?? run.failure)?.envelope ?? (delivery.aborted ? cutShort : undefined);
  const outcome = await (envelope === undefined ? replyWriter.end() : replyWriter.fail(envelope));
  if (typeof outcome === 'object') {
    const end = delivery.isEarlyAcked ? 'is not run again' : 'is given back';
    const why = messageOf(outcome.unconfirmed);
    scope.logger.warn(`${scope.subscription}: a reply was not confirmed, the request ${end}: ${why}`);
    return requeueAfterDelay(delivery, scope);
  }
  if (typeof outcome === 'string') logUndeliverable(outcome, scope);
  return acknowledge(delivery, scope);
}

const cutShort: ErrorEnvelope = {
  name: 'AbortedError',
  message: 'the server was shut down before the handler had ended',
  code: remoteCodes.handlerFailed,
  retryable: true,
};

/** A verb has decided; what the handler did afterwards changes nothing, and must not go unseen. */
function noteFailures({ scope }: Job, runs: readonly Attempt[]): void {
  for (const { verb, failure, handler } of runs) {
    if (verb === undefined || verb === 'retry' || failure === undefined) continue;
    const why = messageOf(failure.error);
    scope.logger.warn(
      `${scope.subscription}: handler ${quoted(handler.id)} failed after its ${verb}: ${why}`,
    );
  }
}

/** A duplicate was counted as one. */
function countEnd({ deadLetterCause: death, isDuplicate }: Attempt, { counters }: PipelineScope): void {
  if (!isDuplicate) counters.add(death === undefined ? 'handled' : 'failed');
}

function toRedelivery(
  { delivery, handler, number: attempt, firstFailedAt, isDeferred }: Attempt,
  delayMs: number,
  scope: PipelineScope,
): RepublishedMessage {
  const next = {
    handlerId: handler.id,
    attempt: isDeferred ? attempt : attempt + 1,
    firstFailedAt,
    isDeferral: isDeferred,
    delayMs,
    now: scope.clock.now(),
  };
  return buildRedelivery(delivery.message, next);
}
