import { AsyncResource } from 'node:async_hooks';
import {
  deadLetterUnprocessable,
  deliveryLimitReached,
  invalid,
  noHandler,
  undecodable,
  undecodableHeaders,
} from '../dead-letter/dead-lettering.js';
import type { Codecs, Decoded } from '../message/codec.js';
import { readDeliveryMetadata, type DeliveryMetadata } from '../message/delivery-metadata.js';
import { quoted } from '../message/text.js';
import type { Delivery, Redelivery } from '../port/delivery.js';
import { messageOf, stackOf } from '../runtime/errors.js';
import type { Failure } from '../runtime/failure.js';
import { Attempt, type AttemptInput } from './attempt.js';
import type { DeliveryContext, ProcessingSlot, SubscriptionScope } from './delivery-context.js';
import type { HandlerTable, Route } from './handler-table.js';
import type { ExecutableHandler } from './policies.js';
import { newReplyRetry } from './reply-retry.js';
import { ReplyWriter, sendErrorReply } from './reply-writer.js';
import {
  abandon,
  acknowledge,
  countStale,
  republishUntilConfirmed,
  requeueAfterDelay,
  settle,
  settleOne,
  type Settled,
} from './settlement.js';
import {
  mayReturn,
  toUnhandledRedelivery,
  unhandledCount,
  type UnhandledLog,
  type UnhandledRedelivery,
} from './unhandled.js';

/** What the pipeline needs of a subscription. */
export interface PipelineScope extends SubscriptionScope {
  readonly handlers: HandlerTable<ExecutableHandler>;
  readonly codecs: Codecs;
  /** A message with a larger body is dead-lettered without being decoded. */
  readonly maxBodyBytes: number;
  /** In-process requeues after which a message is dead-lettered. A broker counts its own requeues. */
  readonly deliveryLimit: number;
  readonly onUnhandled: 'dead-letter' | 'skip' | UnhandledRedelivery;
  readonly unhandledLog: UnhandledLog;
  readonly clockSkewMs: number;
}

interface StartedDelivery {
  readonly delivery: Delivery;
  readonly slot: ProcessingSlot;
  readonly scope: PipelineScope;
}

/** Processes a delivery that has started. Never rejects. */
export type Pipeline = (delivery: Delivery, slot: ProcessingSlot) => Promise<void>;

/**
 * Each message gets an asynchronous context of its own, created from that of the start. Otherwise a message
 * that the dispatcher starts at the end of another inherits the `AsyncLocalStorage` values that the guards,
 * say, of that message have entered.
 */
export function newPipeline(scope: PipelineScope): Pipeline {
  const startContext = new AsyncResource('stork.subscription');
  const newContext = (): AsyncResource => new AsyncResource('stork.delivery');
  return (delivery, slot) =>
    startContext
      .runInAsyncScope(newContext)
      .runInAsyncScope(processDelivery, undefined, { delivery, slot, scope });
}

/**
 * Processes one message, from its delivery to its settlement. The source session may end at every `await`:
 * a later settlement then has no effect and is counted as `stale-settlements`, and the broker redelivers
 * the message.
 */
async function processDelivery(started: StartedDelivery): Promise<void> {
  const { delivery, scope } = started;
  scope.counters.add('received');
  let settled: Settled;
  do {
    try {
      settled = await processOnce(started);
    } catch (error) {
      // A bug in stork must neither lose the message nor end the process: the message is redelivered.
      scope.logger.error(`${scope.subscription}: ${stackOf(error) ?? messageOf(error)}`);
      settled = await requeueAfterDelay(started);
    }
  } while (settled === 'reprocess' && delivery.open && !delivery.aborted);
}

/** 1. Reads the headers. */
function processOnce(started: StartedDelivery): Settled | Promise<Settled> {
  const metadata = readDeliveryMetadata(started.delivery.message, started.scope.driver);
  if (!(metadata instanceof Promise)) return findHandlers(started, metadata);
  return metadata.then((read) => (started.delivery.aborted ? abandon(started) : findHandlers(started, read)));
}

/**
 * 2. Finds the handlers of the pattern, unless the request has expired: then its caller no longer waits. The
 * body of a message without a handler is not read: only a process that has the handler may have its codec.
 */
function findHandlers(
  { delivery, slot, scope }: StartedDelivery,
  metadata: DeliveryMetadata,
): Settled | Promise<Settled> {
  const { message } = delivery;
  if (metadata.deadline !== undefined && metadata.deadline + scope.clockSkewMs <= scope.clock.now()) {
    scope.counters.add('expired');
    return acknowledge(delivery, scope);
  }
  const context: DeliveryContext = {
    delivery,
    slot,
    metadata,
    scope,
    replyWriter: openReplyWriter(delivery, metadata, scope),
    unacknowledged: 1,
  };
  if (message.headersError !== undefined)
    return settleUnprocessable(context, undecodableHeaders(message.headersError));
  if (metadata.reply.kind === 'forged') return settleUnprocessable(context, invalid(metadata.reply.why));
  if (delivery.requeuesInProcess > scope.deliveryLimit)
    return settleUnprocessable(context, deliveryLimitReached(scope.deliveryLimit));
  const route = scope.handlers.route(message.patterns);
  const handlers = chooseHandlers(route, metadata, scope);
  return handlers.length === 0
    ? settleUnhandled(context, route, scope)
    : decode(context, { pattern: route.pattern, handlers }, scope);
}

/** The handlers of a message, and their pattern that it matches. */
interface Receivers {
  readonly pattern: string;
  readonly handlers: readonly ExecutableHandler[];
}

/** 3. Decodes the body. */
function decode(
  context: DeliveryContext,
  receivers: Receivers,
  scope: PipelineScope,
): Settled | Promise<Settled> {
  const { message } = context.delivery;
  const bytes = message.body?.length ?? 0;
  if (bytes > scope.maxBodyBytes) {
    const why = `the body has ${bytes} bytes, maxBodyBytes allows ${scope.maxBodyBytes}`;
    return settleUnprocessable(context, invalid(why));
  }
  const body = scope.codecs.decode(message, () => ({
    direction: 'inbound',
    pattern: message.patterns[0]!,
    destination: message.origin.source,
    headers: message.headers,
  }));
  if (!(body instanceof Promise)) return handle(context, receivers, body);
  return body.then((decoded) =>
    context.delivery.aborted ? abandon(context) : handle(context, receivers, decoded),
  );
}

/** Under `at-most-once`, acknowledges before the handlers start. */
function handle(
  context: DeliveryContext,
  { pattern, handlers }: Receivers,
  decoded: Decoded,
): Settled | Promise<Settled> {
  if (!decoded.ok) return settleUnprocessable(context, undecodable(decoded.error));
  const { delivery } = context;
  const input: AttemptInput = { pattern, value: decoded.value };
  if (delivery.mode !== 'at-most-once') return execute(context, handlers, input);
  return delivery
    .ackEarly()
    .then((isAcked) => (isAcked ? execute(context, handlers, input) : skipUnconfirmed(context)));
}

/** 4. Calls the handlers, each with its policies, and settles the message. */
function execute(
  context: DeliveryContext,
  handlers: readonly ExecutableHandler[],
  input: AttemptInput,
): Settled | Promise<Settled> {
  if (handlers.length > 1) return executeAll(context, handlers, input);
  const handler = handlers[0]!;
  const outcome = handler.execute(new Attempt(handler, context, input));
  return outcome instanceof Promise
    ? outcome.then((ended) => settleOne(context, ended))
    : settleOne(context, outcome);
}

async function executeAll(
  context: DeliveryContext,
  handlers: readonly ExecutableHandler[],
  input: AttemptInput,
): Promise<Settled> {
  const { slot } = context;
  context.unacknowledged = handlers.length;
  slot.handlersStarted(handlers.length);
  const executions = handlers.map(async (handler) => {
    try {
      return await handler.execute(new Attempt(handler, context, input));
    } finally {
      slot.handlerEnded();
    }
  });
  // After a bug in stork the message is requeued, but not while its other handlers still run.
  await Promise.allSettled(executions);
  return settle(context, await Promise.all(executions));
}

function openReplyWriter(
  delivery: Delivery,
  metadata: DeliveryMetadata,
  scope: PipelineScope,
): ReplyWriter | undefined {
  if (metadata.reply.kind !== 'address') return undefined;
  const { correlationId, messageId, patterns } = delivery.message;
  const { driver, codecs } = scope;
  return new ReplyWriter({
    driver,
    codecs,
    retry: newReplyRetry({ delivery, metadata, scope }),
    address: metadata.reply.address,
    correlationId: correlationId ?? messageId ?? '',
    pattern: patterns[0]!,
  });
}

/**
 * A request goes to the message handler. An event goes to all event handlers or, if there are none, to the
 * message handler, whose result is then ignored. A redelivery goes only to the handler that it names or, if
 * that was renamed, to the only one of its pattern.
 */
function chooseHandlers(
  route: Route<ExecutableHandler>,
  { handlerId, reply }: DeliveryMetadata,
  { handlers }: PipelineScope,
): readonly ExecutableHandler[] {
  if (handlerId !== undefined) {
    const handler = handlers.byId(handlerId) ?? renamed(route);
    return handler === undefined ? [] : [handler];
  }
  if (reply.kind === 'none' && route.events.length > 0) return route.events;
  return route.messageHandler === undefined ? [] : [route.messageHandler];
}

function renamed({ events, messageHandler }: Route<ExecutableHandler>): ExecutableHandler | undefined {
  const handlers = messageHandler === undefined ? events : [...events, messageHandler];
  return handlers.length === 1 ? handlers[0] : undefined;
}

async function settleUnhandled(
  context: DeliveryContext,
  { pattern }: Route<ExecutableHandler>,
  { onUnhandled, unhandledLog }: PipelineScope,
): Promise<Settled> {
  const { delivery, metadata, replyWriter, scope } = context;
  const { handlerId } = metadata;
  if (typeof onUnhandled === 'object' && mayReturn(context, onUnhandled)) {
    unhandledLog.warnOnce(handlerId, pattern, onUnhandled);
    return sendBack(context, toUnhandledRedelivery(context, onUnhandled));
  }
  const failure = noHandler(handlerId, pattern, unhandledCount(delivery.message));
  if (onUnhandled !== 'skip') return settleUnprocessable(context, failure);
  await sendErrorReply(replyWriter, failure.envelope, scope);
  scope.counters.add('skipped');
  return acknowledge(delivery, scope);
}

/**
 * Returns a message through the broker; the process that has its handler replies. Under `at-most-once` it is
 * acknowledged first: after a crash the broker would otherwise deliver it beside the message that returns.
 */
async function sendBack(context: DeliveryContext, redelivery: Redelivery): Promise<Settled> {
  const { delivery, scope } = context;
  if (delivery.mode === 'at-most-once' && !(await delivery.ackEarly())) return skipUnconfirmed(context);
  return republishUntilConfirmed(context, [redelivery], scope, () =>
    scope.counters.add('unhandled-redelivered'),
  );
}

/** Dead-letters a message that reaches no handler. The caller of a request gets an error reply. */
async function settleUnprocessable(context: DeliveryContext, failure: Failure): Promise<Settled> {
  const { replyWriter, scope } = context;
  await sendErrorReply(replyWriter, failure.envelope, scope);
  const deadLetter = deadLetterUnprocessable(context, failure);
  return republishUntilConfirmed(context, [deadLetter.republished], scope, () => deadLetter.notify());
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
