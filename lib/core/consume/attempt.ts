import { libraryFailure, type Failure } from '../runtime/failure.js';
import { guardListeners } from '../runtime/guarded-signal.js';
import { messageOf, nameOf } from '../runtime/errors.js';
import { ignoreRejection } from '../runtime/user-hooks.js';
import { acknowledge } from './settlement.js';
import { maxAttemptsOf } from '../retry/retry-policy.js';
import { describeAttempt, describeError, quoted } from '../message/text.js';
import type { DeliveryMetadata } from '../message/delivery-metadata.js';
import type { Delivery } from '../port/delivery.js';
import type { DeliveryContext } from './delivery-context.js';
import type { Handler } from './handler.js';
import { errorReply } from './reply-writer.js';
import type { HandlerAttempt, HandlerDecision } from './handler-attempt.js';
import {
  handled,
  interrupted,
  requeued,
  type AttemptFacts,
  type FailedOutcome,
  type Outcome,
} from './outcome.js';

/** Executes an attempt with what surrounds it: timeout, retries, idempotency. */
export type Execute = (attempt: Attempt) => Outcome | Promise<Outcome>;

export interface AttemptInput {
  readonly pattern: string;
  readonly value: unknown;
}

/** One call of one handler for one delivery: what the handler may see and decide. */
export class Attempt implements HandlerAttempt, AttemptFacts {
  readonly handler: Handler;
  readonly context: DeliveryContext;
  readonly pattern: string;
  readonly value: unknown;
  readonly number: number;
  readonly firstFailedAt: number | undefined;
  #decision: HandlerDecision | undefined;
  #hasEnded = false;
  #resolveDeferred: ((outcome: Outcome) => void) | undefined;
  /** Aborts with the delivery, and when the attempt has reached its time limit. */
  #abort: AbortController | undefined;
  #isStreamed = false;
  /** The handler's first attempt for this delivery. */
  #first: Attempt = this;
  /**
   * True if an attempt, of which this is the first, has read `signal` or called `onAbort`, and so may stop
   * half-way when aborted, or has called `nack`, `retry` or `deadLetter` after the abort.
   */
  #isAbortWatched = false;
  /** Why a value of the result cannot be sent. */
  #unsendable: Failure | undefined;
  /** What `retryOnResult` has returned for the first value. */
  #result: 'unchecked' | 'accepted' | 'rejected' = 'unchecked';

  constructor(
    handler: Handler,
    context: DeliveryContext,
    { pattern, value }: AttemptInput,
    number = context.metadata.attempt,
    firstFailedAt = context.metadata.firstFailedAt,
  ) {
    this.handler = handler;
    this.context = context;
    this.pattern = pattern;
    this.value = value;
    this.number = number;
    this.firstFailedAt = firstFailedAt;
  }

  get delivery(): Delivery {
    return this.context.delivery;
  }

  get metadata(): DeliveryMetadata {
    return this.context.metadata;
  }

  get subscription(): string {
    return this.context.scope.subscription;
  }

  get maxAttempts(): number {
    return this.handler.retry === undefined ? 1 : maxAttemptsOf(this.handler.retry);
  }

  get signal(): AbortSignal {
    this.#first.#isAbortWatched = true;
    return this.#abortController.signal;
  }

  onAbort(listener: () => void): void {
    this.#first.#isAbortWatched = true;
    // A time limit aborts the attempt alone.
    if (this.handler.consume?.timeoutMs === undefined) this.delivery.onAbort(listener);
    else if (this.#abortController.signal.aborted) listener();
    else this.#abortController.signal.addEventListener('abort', listener, { once: true });
  }

  /** Creates the next in-process attempt. */
  next({ failedAt }: FailedOutcome): Attempt {
    const firstFailedAt = this.firstFailedAt ?? failedAt;
    const next = new Attempt(this.handler, this.context, this, this.number + 1, firstFailedAt);
    next.#first = this.#first;
    return next;
  }

  /**
   * True if the delivery was aborted and the handler may have stopped half-way. A handler that reads
   * neither `signal` nor `onAbort` does not notice the abort and completes its work, which is then recorded
   * as processed, unless it calls `nack`, `retry` or `deadLetter`. Without idempotency nothing is recorded,
   * so every abort counts as noticed.
   */
  get abortObserved(): boolean {
    return this.delivery.aborted && (this.#first.#isAbortWatched || this.handler.idempotency === undefined);
  }

  /** Whether the caller of a request no longer waits after `delayMs`. */
  expiresWithin(delayMs: number): boolean {
    const { deadline } = this.metadata;
    return deadline !== undefined && this.context.scope.clock.now() + delayMs >= deadline;
  }

  emit(value: unknown): boolean | Promise<boolean> {
    if (!this.#acceptsValues) return false;
    if (this.handler.retry?.retryOnResult !== undefined && !this.#isAccepted(value)) return false;
    const { replyWriter } = this.context;
    if (replyWriter === undefined) return true;
    if (this.handler.idempotency !== undefined && replyWriter.hasBufferedValue) {
      this.#isStreamed = true;
      return false;
    }
    let encoded;
    try {
      encoded = replyWriter.encode(value);
    } catch (error) {
      return this.#failEncoding(error);
    }
    if (!(encoded instanceof Promise)) return replyWriter.emit(encoded);
    return encoded.then((reply) => this.#acceptsValues && replyWriter.emit(reply), this.#failEncoding);
  }

  get #acceptsValues(): boolean {
    if (this.#hasEnded || this.#unsendable !== undefined || this.abortObserved) return false;
    return this.#decision === undefined || this.#decision.kind === 'ack';
  }

  /** Another attempt would return the same value. */
  readonly #failEncoding = (error: unknown): false => {
    this.#unsendable ??= unsendable(error);
    return false;
  };

  decide(decision: HandlerDecision): boolean {
    const { delivery, context } = this;
    if (this.#hasEnded || this.#decision !== undefined) return false;
    if (!delivery.open || delivery.aborted) {
      // The handler has not completed its work, and its decision has no effect.
      if (decision.kind !== 'ack') this.#first.#isAbortWatched = true;
      return false;
    }
    this.#decision = decision;
    if (delivery.mode === 'manual' && decision.kind === 'ack' && --context.unacknowledged === 0)
      acknowledge(delivery, context.scope);
    this.#resolveDeferred?.(this.end(undefined));
    return true;
  }

  /** Ends an attempt that has reached its time limit: what its handler does from now on is ignored. */
  expire(reason: Error): void {
    this.#hasEnded = true;
    this.#abortController.abort(reason);
  }

  /** Ends the attempt, which returned or threw. Under `manual` a handler that returned may decide later. */
  end(failure: Failure | undefined): Outcome {
    const cause = this.#isStreamed
      ? streamNotIdempotent
      : (failure ?? this.#unsendable ?? this.#streamFailure());
    const decision = this.#decision;
    if (decision !== undefined) {
      this.#hasEnded = true;
      return this.#outcomeOf(decision, cause);
    }
    if (cause !== undefined || this.#result === 'rejected') return this.fail(cause ?? resultRejected);
    if (this.delivery.mode === 'manual') return this.#defer();
    this.#hasEnded = true;
    return handled;
  }

  /** Ends the attempt as failed, also if its handler was not called. */
  fail(failure: Failure, retry: FailedOutcome['retry'] = 'by-policy'): FailedOutcome {
    this.#hasEnded = true;
    const { replyWriter, scope } = this.context;
    const isDeliberate = !failure.envelope.retryable && !failure.isInternal;
    const isErrorReply = retry === 'by-policy' && replyWriter !== undefined && isDeliberate;
    return { kind: 'failed', attempt: this, failure, failedAt: scope.clock.now(), retry, isErrorReply };
  }

  #outcomeOf(decision: HandlerDecision, failure: Failure | undefined): Outcome {
    if (decision.kind === 'retry')
      return this.fail(failure ?? noAttemptLeft, { delayMs: decision.delayMs, failure });
    if (failure !== undefined) this.#logFailureAfter(decision, failure);
    switch (decision.kind) {
      case 'ack':
        return failure === undefined
          ? handled
          : { kind: 'handled', error: errorReply(failure, this, this.context.scope) };
      case 'reject':
        return this.fail(rejected(failure, decision.why), 'never');
      case 'requeue':
        // An early-acked message cannot be requeued.
        return this.delivery.isEarlyAcked ? this.fail(rejected(failure), 'never') : requeued;
    }
  }

  /** Created on first use, because most handlers do not read the signal. */
  get #abortController(): AbortController {
    if (this.#abort !== undefined) return this.#abort;
    const abort = (this.#abort = new AbortController());
    const { logger, subscription } = this.context.scope;
    guardListeners(abort.signal, (error) => {
      const who = `${subscription}: handler ${quoted(this.handler.id)}`;
      logger.error(`${who}: a listener of its abort signal failed: ${messageOf(error)}`);
    });
    this.delivery.onAbort(() => abort.abort());
    return abort;
  }

  #streamFailure(): Failure | undefined {
    const stream = this.context.replyWriter?.streamError;
    if (stream === undefined) return undefined;
    const { error } = stream;
    return unsendable(error);
  }

  #defer(): Outcome {
    const outcome = new Promise<Outcome>((resolve) => {
      this.#resolveDeferred = resolve;
      this.delivery.onAbort(() => resolve(interrupted(this)));
    });
    return { kind: 'deferred', outcome };
  }

  /** The decision stays the outcome, so the log is the only trace of the error. */
  #logFailureAfter({ kind }: HandlerDecision, failure: Failure): void {
    this.context.scope.logger.warn(
      `${describeAttempt(this)} failed after its ${kind}: ${describeError(failure, this.handler.deadLetter?.redact)}`,
    );
  }

  #isAccepted(value: unknown): boolean {
    if (this.#result === 'unchecked') {
      const isRejected: unknown = this.handler.retry!.retryOnResult!(value);
      ignoreRejection(isRejected);
      this.#result = isRejected ? 'rejected' : 'accepted';
    }
    return this.#result === 'accepted';
  }
}

/** Of a value of the result that cannot be encoded. */
function unsendable(error: unknown): Failure {
  const details = { retryable: false, error, isInternal: true };
  return libraryFailure(nameOf(error), messageOf(error), 'fatal', details);
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

function rejected(failure: Failure | undefined, why?: string): Failure {
  if (why === undefined && failure !== undefined) return { ...failure, reason: 'rejected' };
  const message = why ?? 'the handler rejected the message';
  return libraryFailure('RejectedError', message, 'rejected', { retryable: false });
}
