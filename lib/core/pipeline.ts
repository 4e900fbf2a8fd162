import { Answer, type AnswerOutcome } from './answer.js';
import type { Codecs } from './codec.js';
import { deadLetterCopy } from './dead-letter.js';
import type { Delivery } from './delivery.js';
import type { Copy, Driver } from './driver.js';
import { messageOf, remoteCodes, type ErrorEnvelope } from './errors.js';
import type { Failure } from './failure.js';
import type { Handler, HandlerTable, Route } from './handler-table.js';
import { readHeaderFacts, type HeaderFacts } from './header-facts.js';
import { isAcknowledged, isDecided, Run, wantsBack, type RunFields } from './run.js';
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

/** What every delivery of one subscription shares. */
export interface PipelineScope extends SettlementScope {
  readonly driver: Pick<Driver, 'parseReplyAddress' | 'reply'>;
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
  const runs =
    handlers.length === 1
      ? [new Run(handlers[0]!, job, input)]
      : handlers.map((handler) => new Run(handler, job, input));
  if (delivery.mode === 'manual') for (const run of runs) run.onVerb = () => acknowledgeEarly(job, runs);
  await (runs.length === 1 ? runs[0]!.start() : Promise.all(runs.map((run) => run.start())));

  // Taken away or given up meanwhile: it runs again elsewhere, and what came of it here is nobody's.
  if (delivery.aborted && !delivery.isFinal) return abandon(job);

  // 5 A request is done when its answer is confirmed, an event when every handler has succeeded or its dead letter is confirmed.
  if (delivery.mode === 'manual' && !runs.every(isDecided)) return hold(job, runs);
  return conclude(job, runs);
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
  for (const { death, handler } of runs) {
    job.scope.counters.add(death === undefined ? 'handled' : 'failed');
    if (death !== undefined) copies.push(bury(job, death, handler.id));
  }
  return copies.length === 0
    ? acknowledge(job.delivery, job.scope)
    : keepCopies(job.delivery, copies, job.scope);
}

async function answerRequest(job: Job, answer: Answer, run: Run): Promise<Settled> {
  const { delivery, scope } = job;
  noteFailures(job, [run]);
  scope.counters.add(run.death === undefined ? 'handled' : 'failed');
  if (run.verb !== undefined && run.death !== undefined) return refuse(job, run.death, run.handler.id);
  // A message without a way back is answered in any case; what a shutdown has cut short is not the whole answer.
  const envelope = run.failure?.envelope ?? (delivery.aborted ? cutShort : undefined);
  const outcome = await (envelope === undefined ? answer.end() : answer.fail(envelope));
  if (typeof outcome === 'object') {
    const end = delivery.isFinal ? 'is not run again' : 'is given back';
    const why = messageOf(outcome.lost);
    scope.logger.warn(`${scope.subscription}: a reply was not confirmed, the request ${end}: ${why}`);
    return giveBack(delivery, scope);
  }
  if (outcome === 'undeliverable') noteUndeliverable(scope);
  return acknowledge(delivery, scope);
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

function settleHeld(job: Job, runs: readonly Run[]): Settled | Promise<Settled> {
  const { delivery, scope } = job;
  if (delivery.aborted && !delivery.isFinal) return abandon(job);
  return runs.some(wantsBack) ? giveBack(delivery, scope) : settleEvent(job, runs);
}

async function sendReply({ scope }: Job, answer: Answer): Promise<void> {
  const outcome = await answer.end();
  if (outcome === 'undeliverable') noteUndeliverable(scope);
  if (typeof outcome !== 'object') return;
  scope.logger.warn(`${scope.subscription}: a reply was not confirmed: ${messageOf(outcome.lost)}`);
}

/** A verb has decided; what the handler did afterwards changes nothing, and must not go unseen. */
function noteFailures({ scope }: Job, runs: readonly Run[]): void {
  for (const { verb, failure, handler } of runs) {
    if (verb === undefined || failure === undefined) continue;
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

/** Keeps a message that no handler may see, or that its handler has rejected, and tells the caller if there is one. */
async function refuse(job: Job, failure: Failure, handlerId = job.facts.handlerId): Promise<Settled> {
  await tellCaller(job, failure.envelope);
  return keepCopies(job.delivery, [bury(job, failure, handlerId)], job.scope);
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
  if (outcome === 'undeliverable') noteUndeliverable(scope);
  if (typeof outcome !== 'object') return;
  scope.logger.warn(`${scope.subscription}: an error reply was not confirmed: ${messageOf(outcome.lost)}`);
}

function noteUndeliverable(scope: PipelineScope): void {
  scope.counters.add('reply-undeliverable');
  scope.logger.warn(
    `${scope.subscription}: nobody listens where a reply was sent; the request counts as done`,
  );
}

function bury({ delivery, facts, scope }: Job, failure: Failure, handlerId: string | undefined): Copy {
  const { message } = delivery;
  scope.logger.warn(
    `${scope.subscription}: dead letter ${failure.reason}, pattern ${quoted(message.patterns[0])}` +
      `${handlerId === undefined ? '' : `, handler ${quoted(handlerId)}`}, message ${quoted(message.messageId)}, ` +
      `attempt ${facts.attempt}`,
  );
  return deadLetterCopy(message, {
    failure,
    handlerId,
    attempt: facts.attempt,
    firstFailedAt: facts.firstFailedAt,
    failedAt: scope.clock.now(),
    subscription: scope.subscription,
  });
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

/** Text from the wire as a line of ours may show it. */
function quoted(text: string | undefined): string {
  return text === undefined ? 'without' : JSON.stringify(text.slice(0, 300));
}
