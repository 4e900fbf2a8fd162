import type { ReplyWriter } from './reply-writer.js';
import type { Delivery } from '../port/delivery.js';
import { libraryFailure, type Failure } from '../runtime/failure.js';
import type { Handler } from './handler.js';
import type { HandlerAttempt, HandlerDecision } from './handler-attempt.js';
import type { DeliveryMetadata } from '../message/delivery-metadata.js';
import { maxAttemptsOf } from '../retry/retry-policy.js';

/** What all attempts of one delivery share. */
export interface AttemptFields {
  readonly delivery: Delivery;
  readonly metadata: DeliveryMetadata;
  /** Undefined on events. */
  readonly replyWriter: ReplyWriter | undefined;
}

export interface AttemptInput {
  readonly pattern: string;
  readonly value: unknown;
}

/**
 * One attempt: one call of one handler for one delivery, with its outcome. The outcome is what the handler
 * has decided (`ack`, `nack` or `retry`) or, if it has decided nothing, whether it succeeded or failed.
 */
export class Attempt implements HandlerAttempt {
  readonly handler: Handler;
  readonly pattern: string;
  readonly value: unknown;
  readonly delivery: Delivery;
  readonly metadata: DeliveryMetadata;
  readonly replyWriter: ReplyWriter | undefined;
  readonly number: number;
  firstFailedAt: number | undefined;
  /** When this attempt failed, in milliseconds since the Unix epoch. */
  failedAt: number | undefined;
  /**
   * Called when the handler decides. Under `manual` its decision takes effect before, or after, the handler
   * returns.
   */
  onDecision: (() => void) | undefined;
  /** Delay after which the broker redelivers the message; undefined: no redelivery. */
  redeliverInMs: number | undefined;
  /** True if the redelivery is for this same attempt, because the handler has not run. */
  isDeferred = false;
  /** True if an earlier delivery was processed already; the reply, if any, is the stored one. */
  isDuplicate = false;
  /**
   * True if an abort or a shutdown ended a wait before the handler ran: the message is requeued unchanged.
   */
  isInterrupted = false;
  #decision: HandlerDecision | undefined;
  #failure: Failure | undefined;
  #hasEnded = false;
  /** True once the handler has read `signal` or called `onAbort`, and so may stop half-way when aborted. */
  #isWatched = false;
  #isStreamed = false;
  /** What `retryOnResult` has returned for the first value. */
  #result: 'unchecked' | 'accepted' | 'rejected' = 'unchecked';

  constructor(
    handler: Handler,
    { delivery, metadata, replyWriter }: AttemptFields,
    { pattern, value }: AttemptInput,
    number: number,
  ) {
    this.handler = handler;
    this.pattern = pattern;
    this.value = value;
    this.delivery = delivery;
    this.metadata = metadata;
    this.replyWriter = replyWriter;
    this.number = number;
    this.firstFailedAt = metadata.firstFailedAt;
  }

  get maxAttempts(): number {
    return this.handler.retry === undefined ? 1 : maxAttemptsOf(this.handler.retry);
  }

  get decision(): HandlerDecision['kind'] | undefined {
    return this.#decision?.kind;
  }

  /** How the handler failed, even if it had decided before. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Delay that the handler passed to `retry`; undefined: the retry policy decides. */
  get requestedDelayMs(): number | undefined {
    return this.#decision?.kind === 'retry' ? this.#decision.delayMs : undefined;
  }

  /**
   * False for a failure that would repeat: a rejection by a pipe or guard, or an error that the handler
   * returns to its caller deliberately.
   */
  get isRetryable(): boolean {
    if (this.#failure === undefined) return true;
    const { reason } = this.#failure;
    return (reason === 'retries-exhausted' || reason === 'timeout') && !this.isDeliberateErrorReply;
  }

  /**
   * True if the handler returned an error to its caller on purpose, e.g. an `RpcException`; the message is
   * valid.
   */
  get isDeliberateErrorReply(): boolean {
    return (
      this.#decision === undefined &&
      this.replyWriter !== undefined &&
      this.#failure?.envelope.retryable === false
    );
  }

  /**
   * Why the message becomes a dead letter; undefined: it does not. An early-acked message cannot be
   * requeued, so a `requeue` dead-letters it.
   */
  get deadLetterCause(): Failure | undefined {
    const decision = this.#decision;
    switch (decision?.kind) {
      case undefined:
        return this.#failure;
      case 'ack':
        return undefined;
      case 'retry':
        return this.#failure ?? noAttemptLeft;
      case 'requeue':
      case 'reject':
        return rejected(this.#failure, decision?.kind === 'reject' ? decision.why : undefined);
    }
  }

  get signal(): AbortSignal {
    this.#isWatched = true;
    return this.delivery.signal;
  }

  onAbort(listener: () => void): void {
    this.#isWatched = true;
    this.delivery.onAbort(listener);
  }

  /**
   * True if the delivery was aborted and the handler may have stopped half-way. A handler that reads
   * neither `signal` nor `onAbort` does not notice the abort and completes its work, which is then recorded
   * as processed. Without idempotency nothing is recorded, so every abort counts as noticed.
   */
  get abortObserved(): boolean {
    return this.delivery.aborted && (this.#isWatched || this.handler.idempotency === undefined);
  }

  async execute(): Promise<void> {
    this.#failure = await this.handler.run(this);
    if (this.#isStreamed) this.#failure = streamNotIdempotent;
    else if (this.#result === 'rejected') this.#failure ??= resultRejected;
    this.#hasEnded = true;
  }

  /** Ends the attempt without calling the handler. */
  failWithoutExecuting(failure: Failure): void {
    this.#failure = failure;
    this.#hasEnded = true;
  }

  /** Postpones the attempt, which has not started, until the broker redelivers the message. */
  defer(delayMs: number): void {
    this.redeliverInMs = delayMs;
    this.isDeferred = true;
  }

  /** Creates the next in-process attempt. */
  next(): Attempt {
    const next = new Attempt(this.handler, this, this, this.number + 1);
    next.firstFailedAt = this.firstFailedAt;
    next.onDecision = this.onDecision;
    return next;
  }

  /** Records that another attempt would not help. */
  markFatal(): void {
    const failure = this.#failure;
    if (failure?.reason === 'retries-exhausted') this.#failure = { ...failure, reason: 'fatal' };
  }

  emit(value: unknown): boolean {
    if (this.abortObserved || (this.#decision !== undefined && this.#decision.kind !== 'ack')) return false;
    if (this.handler.retry?.retryOnResult !== undefined && !this.#isAccepted(value)) return false;
    if (this.replyWriter === undefined) return true;
    if (this.handler.idempotency !== undefined && this.replyWriter.hasBufferedValue) {
      this.#isStreamed = true;
      return false;
    }
    return this.replyWriter.emit(value);
  }

  decide(decision: HandlerDecision): boolean {
    const { delivery } = this;
    if (this.#decision !== undefined || !delivery.open || delivery.aborted) return false;
    // After its end an attempt accepts a decision only under `manual`, and only if it has not failed.
    if (this.#hasEnded && (delivery.mode !== 'manual' || this.#failure !== undefined)) return false;
    this.#decision = decision;
    this.onDecision?.();
    return true;
  }

  #isAccepted(value: unknown): boolean {
    if (this.#result === 'unchecked') {
      this.#result = this.handler.retry!.retryOnResult!(value) ? 'rejected' : 'accepted';
    }
    return this.#result === 'accepted';
  }
}

/** Under `manual`: whether the attempt determines how the message is settled. A plain return does not. */
export function hasOutcome({ decision, failure }: Attempt): boolean {
  return decision !== undefined || failure !== undefined;
}

export function isAcknowledged({ decision }: Attempt): boolean {
  return decision === 'ack';
}

export function requeueRequested({ decision, delivery }: Attempt): boolean {
  return decision === 'requeue' && !delivery.isEarlyAcked;
}

const noAttemptLeft = libraryFailure(
  'RetriesExhaustedError',
  'the handler requested a retry and has no attempt left',
  'retries-exhausted',
);
const resultRejected = libraryFailure(
  'ResultRejectedError',
  'retryOnResult rejected the result',
  'retries-exhausted',
);

const streamNotIdempotent = libraryFailure(
  'StreamNotIdempotentError',
  '@Idempotent() requires a single reply, which can be sent again to a duplicate; the handler emitted a second value',
  'fatal',
  { retryable: false },
);

function rejected(failure: Failure | undefined, why: string | undefined): Failure {
  const details = { retryable: false };
  if (why !== undefined) return libraryFailure('RejectedError', why, 'rejected', details);
  if (failure !== undefined) return { ...failure, reason: 'rejected' };
  return libraryFailure('RejectedError', 'the handler rejected the message', 'rejected', details);
}
