import { expect } from 'vitest';
import { Counters } from '../../../lib/core/runtime/reporting.js';
import type { Failure } from '../../../lib/core/runtime/failure.js';
import { HandlerTable } from '../../../lib/core/consume/handler-table.js';
import type { Handler } from '../../../lib/core/consume/handler.js';
import type { HandlerAttempt } from '../../../lib/core/consume/handler-attempt.js';
import type { InboundMessage, OutboundReply, ReplyTarget } from '../../../lib/core/port/message.js';
import type { Delivery } from '../../../lib/core/port/delivery.js';
import { RetryTimers } from '../../../lib/core/retry/retry-timers.js';
import { patternFromString } from '../../../lib/core/message/pattern.js';
import { StoreHealthLog } from '../../../lib/core/idempotency/store-health-log.js';
import { composePolicies } from '../../../lib/core/consume/policies.js';
import { UnhandledLog } from '../../../lib/core/consume/unhandled.js';
import { newPipeline, type PipelineScope } from '../../../lib/core/consume/pipeline.js';
import type { ProcessingSlot, SubscriptionScope } from '../../../lib/core/consume/delivery-context.js';
import {
  resolveDeadLetter,
  type DeadLetterPolicy,
} from '../../../lib/core/dead-letter/dead-letter-options.js';
import type { IdempotencyPolicy } from '../../../lib/core/idempotency/idempotency-options.js';
import type { RetryPolicy } from '../../../lib/core/retry/retry-options.js';
import { UserHooks } from '../../../lib/core/runtime/user-hooks.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newCodecs, newDelivery, newMessage, RecordingLogger, type TestDelivery } from './harness.js';

/** The part of a driver that a server uses: reply addresses, redelivery delays, and recorded replies. */
export class ServerDriver {
  target: ReplyTarget | Promise<ReplyTarget> = { kind: 'none' };
  readonly replies: OutboundReply[] = [];
  confirm: () => Promise<'confirmed' | 'undeliverable'> = () => Promise.resolve('confirmed');

  parseReplyAddress(): ReplyTarget | Promise<ReplyTarget> {
    return this.target;
  }

  deadLetterName(source: string): string {
    return `${source}.dlq`;
  }

  /** Like a broker with a retry queue per full second. */
  roundDelay: (delayMs: number) => number | undefined = (delayMs) => Math.ceil(delayMs / 1_000) * 1_000;

  reply(_: unknown, reply: OutboundReply): Promise<'confirmed' | 'undeliverable'> {
    this.replies.push(reply);
    return this.confirm();
  }

  get sent(): string[] {
    return this.replies.map(({ kind, body }) => `${kind} ${body.toString()}`.trim());
  }

  /** The one reply, which is an error. */
  get error(): unknown {
    expect(this.replies.map(({ kind }) => kind)).toEqual(['error']);
    return JSON.parse(this.replies[0]!.body.toString()) as unknown;
  }
}

export type Behaviour = (attempt: HandlerAttempt) => Promise<Failure | undefined>;

export class TestHandler implements Handler {
  readonly patterns;
  readonly attempts: HandlerAttempt[] = [];
  readonly retry?: RetryPolicy;
  readonly deadLetter?: DeadLetterPolicy;
  readonly idempotency?: IdempotencyPolicy;
  constructor(
    readonly kind: Handler['kind'],
    readonly id: string,
    pattern: string,
    readonly behaviour: Behaviour = async () => undefined,
    { retry, deadLetter, idempotency }: Pick<Handler, 'retry' | 'deadLetter' | 'idempotency'> = {},
  ) {
    if (retry !== undefined) this.retry = retry;
    if (deadLetter !== undefined) this.deadLetter = deadLetter;
    if (idempotency !== undefined) this.idempotency = idempotency;
    this.patterns = [patternFromString(pattern)];
  }
  run(attempt: HandlerAttempt): Promise<Failure | undefined> {
    this.attempts.push(attempt);
    return this.behaviour(attempt);
  }
}

export function failure(message: string, reason: Failure['reason'] = 'fatal'): Failure {
  const error = new Error(message);
  const envelope = { name: 'Error', message, code: 'HANDLER_FAILED', retryable: false };
  return { error, reason, name: 'Error', message, envelope, isInternal: false };
}

export function newBench(
  handlers: readonly Handler[],
  fields: Partial<PipelineScope> = {},
  clock = new VirtualClock(),
) {
  const driver = new ServerDriver();
  const counters = new Counters();
  const logger = new RecordingLogger();
  const blocked: (string | undefined)[] = [];
  const retryTimers = new RetryTimers(clock);
  const shared: SubscriptionScope = {
    subscription: 'orders',
    driver,
    clock,
    logger,
    counters,
    retryTimers,
    consumerName: 'orders',
    storeHealth: new StoreHealthLog('orders', logger),
    random: () => 0.5,
    hooks: new UserHooks(clock),
    capabilities: { requeue: 'broker' },
    deadLetterKind: 'queue',
    exposeErrors: true,
    deadLetter: resolveDeadLetter(),
    onRepublishBlocked: (why) => void blocked.push(why),
    ...fields,
  };
  const scope: PipelineScope = {
    handlers: new HandlerTable(handlers.map((handler) => composePolicies(handler, shared))),
    codecs: newCodecs(),
    maxBodyBytes: 1_000,
    deliveryLimit: 100,
    onUnhandled: 'dead-letter',
    unhandledLog: new UnhandledLog('orders', logger),
    clockSkewMs: 0,
    ...shared,
    ...fields,
  };
  return { driver, clock, counters, logger, blocked, scope };
}

/** The slot of a delivery that no dispatcher limits. */
export function freeSlot(delivery: Delivery, { retryTimers }: SubscriptionScope): ProcessingSlot {
  return {
    wait: (delayMs, until) => retryTimers.wait(delayMs, delivery, until),
    handlersStarted() {},
    handlerEnded() {},
    leave() {},
  };
}

/** Processes a delivery without a dispatcher. */
export function processAlone(delivery: Delivery, scope: PipelineScope): Promise<void> {
  return newPipeline(scope)(delivery, freeSlot(delivery, scope));
}

/** Message of the error with which `RecordingSource.republish` rejects. */
export const refusal = 'the broker rejects it';

export const replyToInbox: ReplyTarget = { kind: 'address', address: 'inbox-1' };

/** Dead letter reason, handler and attempt of each republished message. */
export function deadLetters({ source }: TestDelivery): unknown[][] {
  return source.republished.map(({ headers }) => [
    headers['stork-death-reason'],
    headers['stork-handler'],
    headers['stork-attempt'],
  ]);
}

/** Ends the session and aborts the delivery, like the dispatcher when a source is lost. */
export function loseSource({ delivery, session }: TestDelivery): void {
  session.end();
  delivery.abort();
}

export function deliveryOf(fields: Partial<InboundMessage> = {}): TestDelivery {
  return newDelivery({ message: newMessage(fields) });
}
