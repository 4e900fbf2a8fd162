import { Answer, type AnswerOutcome } from './answer.js';
import type { Codecs } from './codec.js';
import { deadLetterCopy } from './dead-letter.js';
import type { Delivery } from './delivery.js';
import type { Copy, Driver } from './driver.js';
import { readEnvelope, type Envelope } from './envelope.js';
import { messageOf, remoteCodes, type ErrorEnvelope } from './errors.js';
import type { Failure } from './failure.js';
import type { Handler, HandlerTable, Route } from './handler-table.js';
import { acknowledge, giveBack, keepCopies, type SettlementScope } from './settlement.js';

/** What every delivery of one subscription shares. */
export interface PipelineScope extends SettlementScope {
  readonly driver: Pick<Driver, 'parseReplyAddress' | 'reply'>;
  readonly handlers: HandlerTable;
  readonly codecs: Codecs;
  /** Above it a message is dead-lettered unread. */
  readonly maxBodyBytes: number;
  readonly onUnhandled: 'dead-letter' | 'skip';
}

/**
 * The life of one message, from the driver's hands to its settlement. Never rejects. At every await the epoch may end; whatever is
 * settled afterwards is refused by the delivery, counted `stale`, and the broker delivers the message again.
 */
export async function processDelivery(delivery: Delivery, scope: PipelineScope): Promise<void> {
  const { message } = delivery;
  scope.counters.add('received');

  // 1 What the headers say.
  const envelope = readEnvelope(message, scope.driver);
  if (envelope.deadline !== undefined && envelope.deadline < scope.clock.now()) {
    scope.counters.add('expired');
    return acknowledge(delivery, scope);
  }
  if (envelope.reply.kind === 'forged') {
    return refuse(delivery, envelope, invalid(envelope.reply.why), scope);
  }
  const bytes = message.body?.length ?? 0;
  if (bytes > scope.maxBodyBytes) {
    const why = `the body has ${bytes} bytes, maxBodyBytes allows ${scope.maxBodyBytes}`;
    return refuse(delivery, envelope, invalid(why), scope);
  }

  // 2 Bytes to a value.
  const body = scope.codecs.decode(message.body, message.contentType, message.contentEncoding);
  if (!body.ok) return refuse(delivery, envelope, undecodable(body.error), scope);

  // 3 Pattern to handlers.
  const route = scope.handlers.route(message.patterns);
  const handlers = chooseHandlers(route, envelope, scope);
  if (handlers.length === 0) return unhandled(delivery, envelope, route, scope);

  // 4 Nest: guards, policies, interceptors, pipes, the user's method, filters.
  if (envelope.reply.kind === 'address') {
    const answer = openAnswer(delivery, envelope, scope)!;
    const failure = await runHandler(
      handlers[0]!,
      route.pattern,
      body.value,
      delivery,
      envelope,
      scope,
      answer,
    );
    const outcome = await (failure === undefined ? answer.end() : answer.fail(failure.envelope));
    // 5a A request is done when its answer is confirmed.
    return settleRequest(delivery, outcome, scope);
  }
  const failures = await Promise.all(
    handlers.map((handler) => runHandler(handler, route.pattern, body.value, delivery, envelope, scope)),
  );

  // 5b An event is done when every handler has succeeded or its copy for the dead letters is confirmed.
  const copies: Copy[] = [];
  failures.forEach((failure, i) => {
    if (failure !== undefined) copies.push(bury(delivery, envelope, failure, handlers[i]!.id, scope));
  });
  return copies.length === 0 ? acknowledge(delivery, scope) : keepCopies(delivery, copies, scope);
}

/** With a reply address the message handler; without one the event handlers, else the message handler with its result dropped. */
function chooseHandlers(route: Route, envelope: Envelope, scope: PipelineScope): readonly Handler[] {
  if (envelope.handlerId !== undefined) {
    const handler = scope.handlers.byId(envelope.handlerId);
    return handler === undefined ? [] : [handler];
  }
  if (envelope.reply.kind === 'none' && route.events.length > 0) return route.events;
  return route.message === undefined ? [] : [route.message];
}

async function runHandler(
  handler: Handler,
  pattern: string,
  value: unknown,
  delivery: Delivery,
  envelope: Envelope,
  scope: PipelineScope,
  answer?: Answer,
): Promise<Failure | undefined> {
  const failure = await handler.run({
    pattern,
    value,
    delivery,
    envelope,
    signal: () => AbortSignal.any([delivery.epoch.signal, scope.stopping]),
    emit: (result) => answer?.emit(result) ?? true,
  });
  scope.counters.add(failure === undefined ? 'handled' : 'failed');
  return failure;
}

function openAnswer(delivery: Delivery, envelope: Envelope, scope: PipelineScope): Answer | undefined {
  if (envelope.reply.kind !== 'address') return undefined;
  const { correlationId, messageId } = delivery.message;
  return new Answer({
    driver: scope.driver,
    codecs: scope.codecs,
    address: envelope.reply.address,
    correlationId: correlationId ?? messageId ?? '',
  });
}

function settleRequest(
  delivery: Delivery,
  outcome: AnswerOutcome,
  scope: PipelineScope,
): Promise<void> | void {
  if (typeof outcome === 'object') {
    const why = messageOf(outcome.lost);
    scope.logger.warn(`${scope.subscription}: a reply was not confirmed, the request is given back: ${why}`);
    return giveBack(delivery, scope);
  }
  if (outcome === 'undeliverable') noteUndeliverable(scope);
  return acknowledge(delivery, scope);
}

/** Keeps a message that no handler may see, and tells the caller if there is one. */
async function refuse(
  delivery: Delivery,
  envelope: Envelope,
  failure: Failure,
  scope: PipelineScope,
): Promise<void> {
  await tellCaller(delivery, envelope, failure.envelope, scope);
  return keepCopies(delivery, [bury(delivery, envelope, failure, envelope.handlerId, scope)], scope);
}

async function unhandled(
  delivery: Delivery,
  envelope: Envelope,
  route: Route,
  scope: PipelineScope,
): Promise<void> {
  const failure = noHandler(envelope.handlerId, route.pattern);
  if (scope.onUnhandled === 'dead-letter') return refuse(delivery, envelope, failure, scope);
  await tellCaller(delivery, envelope, failure.envelope, scope);
  scope.counters.add('unhandled-skipped');
  acknowledge(delivery, scope);
}

/** The message itself is kept elsewhere, so a caller who cannot be told is only counted. */
async function tellCaller(
  delivery: Delivery,
  envelope: Envelope,
  error: ErrorEnvelope,
  scope: PipelineScope,
): Promise<void> {
  const outcome = await openAnswer(delivery, envelope, scope)?.fail(error);
  if (outcome !== undefined && outcome !== 'confirmed') noteUndeliverable(scope);
}

function noteUndeliverable(scope: PipelineScope): void {
  scope.counters.add('reply-undeliverable');
  scope.logger.warn(
    `${scope.subscription}: nobody listens where a reply was sent; the request counts as done`,
  );
}

function bury(
  delivery: Delivery,
  envelope: Envelope,
  failure: Failure,
  handlerId: string | undefined,
  scope: PipelineScope,
): Copy {
  const { message } = delivery;
  scope.logger.warn(
    `${scope.subscription}: dead letter ${failure.reason}, pattern ${quoted(message.patterns[0])}` +
      `${handlerId === undefined ? '' : `, handler ${handlerId}`}, message ${quoted(message.messageId)}, ` +
      `attempt ${envelope.attempt}`,
  );
  return deadLetterCopy(message, {
    failure,
    handlerId,
    attempt: envelope.attempt,
    firstFailedAt: envelope.firstFailedAt,
    failedAt: scope.clock.now(),
    subscription: scope.subscription,
  });
}

function invalid(why: string): Failure {
  return transportFailure('InvalidMessageError', why, 'invalid', remoteCodes.invalid);
}

function undecodable(error: Error): Failure {
  return { ...transportFailure(error.name, error.message, 'undecodable', remoteCodes.undecodable), error };
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
