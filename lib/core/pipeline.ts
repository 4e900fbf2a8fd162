import { Answer, type AnswerOutcome } from './answer.js';
import type { Codecs } from './codec.js';
import { deadLetterCopy } from './dead-letter.js';
import type { Delivery } from './delivery.js';
import type { Copy, Driver } from './driver.js';
import { messageOf, remoteCodes, type ErrorEnvelope } from './errors.js';
import type { Failure } from './failure.js';
import type { Handler, HandlerTable, Route } from './handler-table.js';
import { readHeaderFacts, type HeaderFacts } from './header-facts.js';
import {
  acknowledge,
  giveBack,
  keepCopies,
  requeue,
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
}

/** One delivery on its way, with what is known about it. */
interface Job {
  readonly delivery: Delivery;
  readonly facts: HeaderFacts;
  readonly scope: PipelineScope;
  /** Undefined on events. */
  readonly answer: Answer | undefined;
}

/**
 * The life of one message, from the driver's hands to its settlement. At every await the epoch may end; whatever is settled afterwards
 * is refused by the delivery, counted `stale`, and the broker delivers the message again. Rejects only by a bug of ours.
 */
export async function processDelivery(delivery: Delivery, scope: PipelineScope): Promise<Settled> {
  const { message } = delivery;
  scope.counters.add('received');

  // 1 What the headers say.
  const known = readHeaderFacts(message, scope.driver);
  const facts = known instanceof Promise ? await known : known;
  if (facts.deadline !== undefined && facts.deadline <= scope.clock.now()) {
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

  // 4 Nest: guards, policies, interceptors, pipes, the user's method, filters.
  const [first] = handlers;
  const failures =
    handlers.length === 1
      ? [await runHandler(first!, route, body.value, job)]
      : await Promise.all(handlers.map((handler) => runHandler(handler, route, body.value, job)));

  // Taken away or given up meanwhile: it runs again elsewhere, and what came of it here is nobody's.
  if (delivery.aborted) return abandon(job);

  // 5 A request is done when its answer is confirmed, an event when every handler has succeeded or its dead letter is confirmed.
  if (job.answer !== undefined) return answerRequest(job, job.answer, failures[0]);
  const copies = failures.flatMap((failure, i) =>
    failure === undefined ? [] : bury(job, failure, handlers[i]!.id),
  );
  return copies.length === 0 ? acknowledge(delivery, scope) : keepCopies(delivery, copies, scope);
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

async function runHandler(
  handler: Handler,
  route: Route,
  value: unknown,
  job: Job,
): Promise<Failure | undefined> {
  const { delivery, facts, scope, answer } = job;
  const emit = (result: unknown): boolean => {
    if (delivery.aborted) return false;
    return answer === undefined || answer.emit(result);
  };
  const failure = await handler.run({ pattern: route.pattern, value, delivery, facts, emit });
  if (!delivery.aborted) scope.counters.add(failure === undefined ? 'handled' : 'failed');
  return failure;
}

function abandon({ delivery, scope, answer }: Job): Settled {
  answer?.discard();
  if (delivery.open) return requeue(delivery, scope);
  if (!delivery.epoch.live) scope.counters.add('stale');
  return 'done';
}

async function answerRequest(job: Job, answer: Answer, failure: Failure | undefined): Promise<Settled> {
  const { delivery, scope } = job;
  const outcome = await (failure === undefined ? answer.end() : answer.fail(failure.envelope));
  if (typeof outcome === 'object') {
    const why = messageOf(outcome.lost);
    scope.logger.warn(`${scope.subscription}: a reply was not confirmed, the request is given back: ${why}`);
    return giveBack(delivery, scope);
  }
  if (outcome === 'undeliverable') noteUndeliverable(scope);
  return acknowledge(delivery, scope);
}

/** Keeps a message that no handler may see, and tells the caller if there is one. */
async function refuse(job: Job, failure: Failure): Promise<Settled> {
  await tellCaller(job, failure.envelope);
  return keepCopies(job.delivery, [bury(job, failure, job.facts.handlerId)], job.scope);
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
