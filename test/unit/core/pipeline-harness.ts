import { expect } from 'vitest';
import { Counters } from '../../../lib/core/counters.js';
import type { Failure } from '../../../lib/core/failure.js';
import { HandlerTable, type Handler, type HandlerRun } from '../../../lib/core/handler-table.js';
import type { InboundMessage } from '../../../lib/core/message.js';
import { Naps } from '../../../lib/core/naps.js';
import { patternFromString } from '../../../lib/core/pattern.js';
import { StoreTrouble } from '../../../lib/core/store-trouble.js';
import type { PipelineScope } from '../../../lib/core/pipeline.js';
import type { OutboundReply, ReplyTarget } from '../../../lib/core/reply.js';
import { resolveDeadLetter, type DeadLetterPolicy } from '../../../lib/core/dead-letter-options.js';
import type { IdempotencyPolicy } from '../../../lib/core/idempotency-policy.js';
import type { RetryPolicy } from '../../../lib/core/retry-options.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newCodecs, newDelivery, newMessage, RecordingLogger, type TestDelivery } from './harness.js';

/** A driver's server side: what it says about reply addresses, and the replies it was given. */
export class ServerDriver {
  target: ReplyTarget = { kind: 'none' };
  readonly replies: OutboundReply[] = [];
  confirm: () => Promise<'confirmed' | 'undeliverable'> = () => Promise.resolve('confirmed');

  parseReplyAddress(): ReplyTarget {
    return this.target;
  }

  /** As a broker with a queue for each full second. */
  roundDelay: (delayMs: number) => number | undefined = (delayMs) => Math.ceil(delayMs / 1_000) * 1_000;

  reply(_: unknown, reply: OutboundReply): Promise<'confirmed' | 'undeliverable'> {
    this.replies.push(reply);
    return this.confirm();
  }

  get told(): string[] {
    return this.replies.map(({ kind, body }) => `${kind} ${body.toString()}`.trim());
  }

  /** The one reply, which is an error. */
  get error(): unknown {
    expect(this.replies.map(({ kind }) => kind)).toEqual(['error']);
    return JSON.parse(this.replies[0]!.body.toString()) as unknown;
  }
}

export type Behaviour = (run: HandlerRun) => Promise<Failure | undefined>;

export class TestHandler implements Handler {
  readonly patterns;
  readonly runs: HandlerRun[] = [];
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
  run(run: HandlerRun): Promise<Failure | undefined> {
    this.runs.push(run);
    return this.behaviour(run);
  }
}

export function failure(message: string, reason: Failure['reason'] = 'fatal'): Failure {
  const error = new Error(message);
  return { error, reason, envelope: { name: 'Error', message, code: 'HANDLER_FAILED', retryable: false } };
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
  const scope: PipelineScope = {
    subscription: 'orders',
    driver,
    handlers: new HandlerTable(handlers),
    codecs: newCodecs(),
    maxBodyBytes: 1_000,
    onUnhandled: 'dead-letter',
    clockSkewMs: 0,
    clock,
    logger,
    counters,
    naps: new Naps(clock),
    consumerName: 'orders',
    storeTrouble: new StoreTrouble('orders', logger),
    random: () => 0.5,
    capabilities: { requeuesTo: 'broker', destinations: new Set(['queue']) },
    deadLetter: resolveDeadLetter(),
    writingBlocked: (why) => void blocked.push(why),
    ...fields,
  };
  return { driver, clock, counters, logger, blocked, scope };
}

/** What a test's source says when it refuses a copy. */
export const refusal = 'the broker says no';

export const asked: ReplyTarget = { kind: 'address', address: 'inbox-1' };

/** Death reason, handler and attempt of each copy. */
export function letters({ source }: TestDelivery): unknown[][] {
  return source.copied.map(({ headers }) => [
    headers['stork-death-reason'],
    headers['stork-handler'],
    headers['stork-attempt'],
  ]);
}

/** What an intake does when a source is lost. */
export function lose({ delivery, epoch }: TestDelivery): void {
  epoch.end();
  delivery.abort();
}

export function deliveryOf(fields: Partial<InboundMessage> = {}): TestDelivery {
  return newDelivery({ message: newMessage(fields) });
}
