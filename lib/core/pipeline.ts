import { Answer, type AnswerOutcome } from './answer.js';
import type { Codecs } from './codec.js';
import { deadLetterCopy, type Death } from './dead-letter.js';
import type { Delivery } from './delivery.js';
import { letterTarget } from './dead-letter-target.js';
import type { Capabilities, Copy, Driver } from './driver.js';
import { messageOf, remoteCodes, type ErrorEnvelope } from './errors.js';
import type { Failure } from './failure.js';
import type { Handler, HandlerTable, Route } from './handler-table.js';
import { readHeaderFacts, type HeaderFacts } from './header-facts.js';
import { runIdempotently, type IdempotencyScope } from './idempotent-handling.js';
import { redeliveryCopy } from './redelivery.js';
import type { ReplyOutcome } from './reply.js';
import { followPolicy, isUnfinished, runToItsEnd, stepFrom, type RetryScope } from './retries.js';
import { isAcknowledged, isCutShort, isDecided, Run, wantsBack, type RunFields } from './run.js';
import {
  acknowledge,
  countStale,
  giveBack,
  keepCopies,
  requeue,
  type Held,
  type Settled,
  type SettlementScope,
} from './settlement.js';
import { quoted } from './text.js';

/** What every delivery of one subscription shares. */
export interface PipelineScope extends SettlementScope, RetryScope, IdempotencyScope {
  readonly driver: Pick<Driver, 'parseReplyAddress' | 'reply' | 'roundDelay'>;
  readonly capabilities: Pick<Capabilities, 'requeuesTo' | 'destinations'>;
  readonly handlers: HandlerTable;
  readonly codecs: Codecs;
  /** Above it a message is dead-lettered unread. */
  readonly maxBodyBytes: number;
  readonly onUnhandled: 'dead-letter' | 'skip';
  readonly clockSkewMs: number;
}

/** One delivery on its way, with what is known about it. */
interface Job extends RunFields {
  readonly scope: PipelineScope;
}

/**
 * The life of one message, from the driver's hands to its settlement. At every await the epoch may end; whatever is settled afterwards
 * is refused by the delivery, counted `stale`, and the broker delivers the message again. Rejects only by a bug of ours.
 */
export async function processDelivery(delivery: Delivery, scope: PipelineScope): Promise<Settled | Held> {
  const { message } = delivery;
  scope.counters.add('received');

  // 1 What the headers say.
  const known = readHeaderFacts(message, scope.driver);
  const facts = known instanceof Promise ? await known : known;
  if (facts.deadline !== undefined && facts.deadline + scope.clockSkewMs <= scope.clock.now()) {
    scope.counters.add('expired');
    return acknowledge(delivery, scope);
  }
  const job: Job = { delivery, facts, scope, answer: openAnswer(delivery, facts, scope) };
  if (facts.reply.kind === 'forged') return refuse(job, invalid(facts.reply.why));
  const bytes = message.body?.length ?? 0;
  if (bytes > scope.maxBodyBytes) {
    return refuse(job, invalid(`the body has ${bytes} bytes, maxBodyBytes allows ${scope.maxBodyBytes}`));
  }

  // 2 Bytes to a value.
  const body = scope.codecs.decode(message.body, message.contentType, message.contentEncoding);
  if (!body.ok) return refuse(job, undecodable(body.error));

  // 3 Pattern to handlers.
  const route = scope.handlers.route(message.patterns);
  const handlers = chooseHandlers(route, job);
  if (handlers.length === 0) return unhandled(job, route);

  // Done before it begins, where that was asked for.
  if (delivery.mode === 'at-most-once' && !(await delivery.forgo())) return leave(job);

  // 4 Nest: guards, policies, interceptors, pipes, the user's method, filters.
  const input = { pattern: route.pattern, value: body.value };
  const attempt = facts.attempt + delivery.uncountedRuns;
  const runs =
    handlers.length === 1
      ? [new Run(handlers[0]!, job, input, attempt)]
      : handlers.map((handler) => new Run(handler, job, input, attempt));
  if (delivery.mode === 'manual') for (const run of runs) run.onVerb = () => acknowledgeEarly(job, runs);
  if (runs.length === 1 && runs[0]!.handler.idempotency === undefined) {
    // `complete`, without the promises that it would cost every message.
    await runs[0]!.start();
    if (isUnfinished(runs[0]!)) runs[0] = await followPolicy(runs[0]!, scope);
  } else {
    await Promise.all(runs.map((_, i) => complete(runs, i, scope)));
  }

  // Taken away or given up meanwhile: it runs again elsewhere, and what came of it here is nobody's.
  if ((delivery.aborted && !delivery.isFinal) || runs.some(isCutShort)) return abandon(job);

  // 5 A request is done when its answer is confirmed, an event when every handler has succeeded or its dead letter is confirmed.
  if (delivery.mode === 'manual' && !runs.every(isDecided)) return hold(job, runs);
  return conclude(job, runs);
}

/** Each handler of an event has its own chain of runs and waits for none of the others. */
async function complete(runs: Run[], i: number, scope: PipelineScope): Promise<void> {
  const run = runs[i]!;
  const { idempotency } = run.handler;
  runs[i] = await (idempotency === undefined
    ? runToItsEnd(run, scope)
    : runIdempotently(run, idempotency, scope));
}

function openAnswer(delivery: Delivery, facts: HeaderFacts, scope: PipelineScope): Answer | undefined {
  if (facts.reply.kind !== 'address') return undefined;
  const { driver, codecs } = scope;
  const { correlationId, messageId } = delivery.message;
  return new Answer({
    driver,
    codecs,
    address: facts.reply.address,
    correlationId: correlationId ?? messageId ?? '',
  });
}

/** With a reply address the message handler; without one the event handlers, else the message handler with its result dropped. */
function chooseHandlers(route: Route, { facts, scope }: Job): readonly Handler[] {
  if (facts.handlerId !== undefined) {
    const handler = scope.handlers.byId(facts.handlerId);
    return handler === undefined ? [] : [handler];
  }
  if (facts.reply.kind === 'none' && route.events.length > 0) return route.events;
  return route.answering === undefined ? [] : [route.answering];
}

function conclude(job: Job, runs: readonly Run[]): Settled | Promise<Settled> {
  const { answer, delivery, scope } = job;
  if (runs.some(wantsBack)) {
    noteFailures(job, runs);
    // The next run answers.
    answer?.discard();
    return giveBack(delivery, scope);
  }
  return answer === undefined ? settleEvent(job, runs) : answerRequest(job, answer, runs[0]!);
}

function settleEvent(job: Job, runs: readonly Run[]): Settled | Promise<Settled> {
  noteFailures(job, runs);
  const copies: Copy[] = [];
  const dead: Run[] = [];
  for (const run of runs) {
    const { death, redeliverInMs } = run;
    if (redeliverInMs !== undefined) {
      copies.push(postpone(run, redeliverInMs, job.scope));
      continue;
    }
    countEnd(run, job.scope);
    if (death === undefined || isDropped(run, death, job.scope)) continue;
    copies.push(buryRun(job, run, death));
    dead.push(run);
  }
  return copies.length === 0
    ? acknowledge(job.delivery, job.scope)
    : keepCopies(job.delivery, copies, job.scope, () => tellOfLetters(dead, job.scope));
}

async function answerRequest(job: Job, answer: Answer, run: Run): Promise<Settled> {
  const { delivery, scope } = job;
  noteFailures(job, [run]);
  if (run.redeliverInMs !== undefined) {
    // The next run answers.
    answer.discard();
    return keepCopies(delivery, [postpone(run, run.redeliverInMs, scope)], scope);
  }
  countEnd(run, scope);
  if (run.death !== undefined && isKept(run)) {
    await tellCaller(job, run.death.envelope);
    return keepCopies(delivery, [buryRun(job, run, run.death)], scope, () => tellOfLetters([run], scope));
  }
  // A message without a way back is answered in any case; what a shutdown has cut short is not the whole answer.
  const envelope = (run.death ?? run.failure)?.envelope ?? (delivery.aborted ? cutShort : undefined);
  const outcome = await (envelope === undefined ? answer.end() : answer.fail(envelope));
  if (typeof outcome === 'object') {
    const end = delivery.isFinal ? 'is not run again' : 'is given back';
    const why = messageOf(outcome.lost);
    scope.logger.warn(`${scope.subscription}: a reply was not confirmed, the request ${end}: ${why}`);
    return giveBack(delivery, scope);
  }
  if (typeof outcome === 'string') noteUnread(outcome, scope);
  return acknowledge(delivery, scope);
}

/** A duplicate was counted as one. */
function countEnd({ death, isDuplicate }: Run, { counters }: PipelineScope): void {
  if (!isDuplicate) counters.add(death === undefined ? 'handled' : 'failed');
}

/** What the handler rejects is kept in any case; a failed request where somebody has asked for it, a deliberate answer never. */
function isKept({ verb, handler, isAnswer }: Run): boolean {
  if (verb === 'reject' || verb === 'requeue') return true;
  return handler.deadLetter?.enabled === true && handler.deadLetter.requests && !isAnswer;
}

/** Where a handler keeps no dead letters. */
function isDropped({ verb, handler, delivery }: Run, death: Failure, scope: PipelineScope): boolean {
  if (handler.deadLetter?.enabled !== false || verb === 'reject' || verb === 'requeue') return false;
  scope.counters.add('dropped');
  scope.logger.warn(
    `${scope.subscription}: message ${quoted(delivery.message.messageId)} is dropped, its handler ${quoted(handler.id)} ` +
      `failed for good and keeps no dead letters: ${messageOf(death.error)}`,
  );
  return true;
}

/** Under `manual` an acknowledgement waits for nothing but those of the message's other handlers. */
function acknowledgeEarly({ delivery, scope }: Job, runs: readonly Run[]): void {
  if (runs.every(isAcknowledged)) acknowledge(delivery, scope);
}

/** Every handler has ended, and not every one has said what becomes of the message. */
async function hold(job: Job, runs: readonly Run[]): Promise<Settled | Held> {
  const { answer, delivery } = job;
  if (answer !== undefined) await sendReply(job, answer);
  const later = new Promise<void>((resolve) => {
    const settleOnceDecided = (): void => {
      acknowledgeEarly(job, runs);
      if (runs.every(isDecided)) resolve();
    };
    for (const run of runs) run.onVerb = settleOnceDecided;
    delivery.onAbort(resolve);
    // The reply may have taken its time.
    if (runs.every(isDecided)) resolve();
  });
  return { later: later.then(() => settleHeld(job, runs)) };
}

async function settleHeld(job: Job, runs: readonly Run[]): Promise<Settled> {
  const { delivery, scope } = job;
  if (delivery.aborted && !delivery.isFinal) return abandon(job);
  if (runs.some(wantsBack)) return giveBack(delivery, scope);
  const asking = runs.find(isUnfinished);
  const waitMs = asking === undefined ? undefined : await stepFrom(asking, scope);
  if (waitMs === undefined) return settleEvent(job, runs);
  if (!(await scope.naps.sleep(waitMs, delivery))) return abandon(job);
  scope.counters.add('retried');
  // Its slot and its lane are somebody else's by now: it gets in line for others.
  delivery.uncountedRuns++;
  return 'again';
}

async function sendReply({ scope }: Job, answer: Answer): Promise<void> {
  const outcome = await answer.end();
  if (typeof outcome === 'string') noteUnread(outcome, scope);
  if (typeof outcome !== 'object') return;
  scope.logger.warn(`${scope.subscription}: a reply was not confirmed: ${messageOf(outcome.lost)}`);
}

/** A verb has decided; what the handler did afterwards changes nothing, and must not go unseen. */
function noteFailures({ scope }: Job, runs: readonly Run[]): void {
  for (const { verb, failure, handler } of runs) {
    if (verb === undefined || verb === 'retry' || failure === undefined) continue;
    const why = messageOf(failure.error);
    scope.logger.warn(
      `${scope.subscription}: handler ${quoted(handler.id)} failed after its ${verb}: ${why}`,
    );
  }
}

function abandon({ delivery, scope, answer }: Job): Settled {
  answer?.discard();
  if (delivery.open) return requeue(delivery, scope);
  countStale(delivery, scope);
  return 'done';
}

/** Another consumer has it, or nobody: a shutdown that gave up while the broker was being told cannot know. */
function leave({ delivery, scope, answer }: Job): Settled {
  answer?.discard();
  countStale(delivery, scope);
  if (delivery.epoch.live) {
    const why = 'the broker did not confirm in time that it will not come again';
    scope.logger.warn(
      `${scope.subscription}: message ${quoted(delivery.message.messageId)} is not run: ${why}`,
    );
  }
  return 'done';
}

/** Keeps a message that no handler may see, and tells the caller if there is one. */
async function refuse(job: Job, failure: Failure): Promise<Settled> {
  await tellCaller(job, failure.envelope);
  const { handlerId, attempt, firstFailedAt } = job.facts;
  return keepCopies(job.delivery, [bury(job, { failure, handlerId, attempt, firstFailedAt })], job.scope);
}

async function unhandled(job: Job, route: Route): Promise<Settled> {
  const failure = noHandler(job.facts.handlerId, route.pattern);
  if (job.scope.onUnhandled === 'dead-letter') return refuse(job, failure);
  await tellCaller(job, failure.envelope);
  job.scope.counters.add('unhandled-skipped');
  return acknowledge(job.delivery, job.scope);
}

/** The message itself is kept elsewhere, so a caller who cannot be told is not asked for a second time. */
async function tellCaller({ answer, scope }: Job, error: ErrorEnvelope): Promise<void> {
  const outcome: AnswerOutcome | undefined = await answer?.fail(error);
  if (typeof outcome === 'string') noteUnread(outcome, scope);
  if (typeof outcome !== 'object') return;
  scope.logger.warn(`${scope.subscription}: an error reply was not confirmed: ${messageOf(outcome.lost)}`);
}

function noteUnread(outcome: ReplyOutcome, { counters, logger, subscription }: PipelineScope): void {
  if (outcome === 'confirmed') return;
  counters.add('reply-undeliverable');
  const why =
    outcome === 'too-large'
      ? 'a reply does not fit through the broker, its caller is told TOO_LARGE or a shortened error'
      : 'nobody listens where a reply was sent';
  logger.warn(`${subscription}: ${why}; the request counts as done`);
}

function postpone(
  { delivery, handler, attempt, firstFailedAt, isDeferred }: Run,
  delayMs: number,
  scope: PipelineScope,
): Copy {
  const next = {
    handlerId: handler.id,
    attempt: isDeferred ? attempt : attempt + 1,
    firstFailedAt,
    isDeferral: isDeferred,
    delayMs,
    now: scope.clock.now(),
  };
  return redeliveryCopy(delivery.message, next);
}

function buryRun(job: Job, run: Run, failure: Failure): Copy {
  const { handler, attempt, firstFailedAt, failedAt } = run;
  const policy = handler.deadLetter;
  const target = letterTarget(policy, job.scope.capabilities);
  const death = { failure, handlerId: handler.id, attempt, firstFailedAt, policy, target };
  return bury(job, death, failedAt);
}

function bury(
  { delivery, scope }: Job,
  death: Omit<Death, 'failedAt' | 'subscription'>,
  failedAt = scope.clock.now(),
): Copy {
  const { message } = delivery;
  const { failure, handlerId, attempt } = death;
  scope.logger.warn(
    `${scope.subscription}: dead letter ${failure.reason}, pattern ${quoted(message.patterns[0])}` +
      `${handlerId === undefined ? '' : `, handler ${quoted(handlerId)}`}, message ${quoted(message.messageId)}, ` +
      `attempt ${attempt}`,
  );
  return deadLetterCopy(message, { ...death, failedAt, subscription: scope.subscription });
}

/** The letters are stored; who wants to know is told, and waited for by nobody. */
function tellOfLetters(dead: readonly Run[], { subscription, logger }: PipelineScope): void {
  for (const { handler, delivery, attempt, pattern, death } of dead) {
    const onDeadLetter = handler.deadLetter?.onDeadLetter;
    if (onDeadLetter === undefined || death === undefined) continue;
    const { reason, error } = death;
    const { messageId } = delivery.message;
    const notice = {
      reason,
      error,
      transport: subscription,
      pattern,
      handler: handler.id,
      messageId,
      attempt,
    };
    void (async () => onDeadLetter(notice))().catch((thrown: unknown) =>
      logger.error(`${subscription}: onDeadLetter of ${quoted(handler.id)} failed: ${messageOf(thrown)}`),
    );
  }
}

const cutShort: ErrorEnvelope = {
  name: 'AbortedError',
  message: 'the server was shut down before the handler had ended',
  code: remoteCodes.handlerFailed,
  retryable: true,
};

function invalid(why: string): Failure {
  return transportFailure('InvalidMessageError', why, 'invalid', remoteCodes.invalid);
}

function undecodable({ name, message }: { readonly name: string; readonly message: string }): Failure {
  return transportFailure(name, message, 'undecodable', remoteCodes.undecodable);
}

function noHandler(handlerId: string | undefined, pattern: string): Failure {
  const why =
    handlerId === undefined
      ? `no handler for pattern ${quoted(pattern)}`
      : `no handler with the id ${quoted(handlerId)}`;
  return transportFailure('NoHandlerError', why, 'no-handler', remoteCodes.noHandler);
}

function transportFailure(name: string, message: string, reason: Failure['reason'], code: string): Failure {
  return { error: { name, message }, reason, envelope: { name, message, code, retryable: false } };
}
