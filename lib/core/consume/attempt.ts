import type { ReplyWriter } from './reply-writer.js';
import type { Delivery } from '../port/delivery.js';
import { ownFailure, type Failure } from '../runtime/failure.js';
import type { Handler } from './handler.js';
import type { HandlerAttempt, Verb } from './handler-attempt.js';
import type { DeliveryMetadata } from '../message/delivery-metadata.js';
import { maxAttemptsOf } from '../retry/retry-policy.js';

/** What the runs of one delivery share. */
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

/** One run of one handler, and what came of it: a verb of the handler's or, without one, its end. */
export class Attempt implements HandlerAttempt {
  readonly handler: Handler;
  readonly pattern: string;
  readonly value: unknown;
  readonly delivery: Delivery;
  readonly metadata: DeliveryMetadata;
  readonly replyWriter: ReplyWriter | undefined;
  readonly number: number;
  firstFailedAt: number | undefined;
  /** When this run ended without success. */
  failedAt: number | undefined;
  /** Called after each verb that decides; for `manual`, where verbs need not wait for the end. */
  onVerb: (() => void) | undefined;
  /** The message comes back through the broker, after so long. */
  redeliverInMs: number | undefined;
  /** It comes back for this same run, which has not begun. */
  isDeferred = false;
  /** The work was done before; the answer, if there is one, is that of then. */
  isDuplicate = false;
  /** The wait for the next run was cut short: the message goes back as it is. */
  isInterrupted = false;
  #verb: Verb | undefined;
  #failure: Failure | undefined;
  #hasEnded = false;
  /** Somebody is told when the message is taken away, and may stop half-way. */
  #isWatched = false;
  #isStreamed = false;
  /** What `retryOnResult` thinks of the first value. */
  #result: 'unseen' | 'wanted' | 'unwanted' = 'unseen';

  constructor(
    handler: Handler,
    { delivery, metadata, replyWriter }: AttemptFields,
    { pattern, value }: AttemptInput,
    attempt: number,
  ) {
    this.handler = handler;
    this.pattern = pattern;
    this.value = value;
    this.delivery = delivery;
    this.metadata = metadata;
    this.replyWriter = replyWriter;
    this.number = attempt;
    this.firstFailedAt = metadata.firstFailedAt;
  }

  get maxAttempts(): number {
    return this.handler.retry === undefined ? 1 : maxAttemptsOf(this.handler.retry);
  }

  get verb(): Verb['kind'] | undefined {
    return this.#verb?.kind;
  }

  /** How the handler failed, whatever it had said before. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** When the handler itself wants its next run; undefined: whenever its policy says. */
  get requestedDelayMs(): number | undefined {
    return this.#verb?.kind === 'retry' ? this.#verb.delayMs : undefined;
  }

  /** Refused by a pipe or a guard, or a deliberate answer to a request: not something that passes. */
  get isRetryable(): boolean {
    if (this.#failure === undefined) return true;
    const { reason } = this.#failure;
    return (reason === 'retries-exhausted' || reason === 'timeout') && !this.isDeliberateErrorReply;
  }

  /** The handler has told its caller so on purpose; nothing is wrong with the message. */
  get isDeliberateErrorReply(): boolean {
    return (
      this.#verb === undefined &&
      this.replyWriter !== undefined &&
      this.#failure?.envelope.retryable === false
    );
  }

  /** What the message is kept for as a dead letter. A message that has no way back is kept instead of given back. */
  get deadLetterCause(): Failure | undefined {
    const verb = this.#verb;
    switch (verb?.kind) {
      case undefined:
        return this.#failure;
      case 'ack':
        return undefined;
      case 'retry':
        return this.#failure ?? noRunLeft;
      case 'requeue':
      case 'reject':
        return rejected(this.#failure, verb?.kind === 'reject' ? verb.why : undefined);
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

  /** Taken away while it ran, and it could know: what it has done may be half. Who does not look does his work to its end. */
  get abortObserved(): boolean {
    return this.delivery.aborted && (this.#isWatched || this.handler.idempotency === undefined);
  }

  async execute(): Promise<void> {
    this.#failure = await this.handler.run(this);
    if (this.#isStreamed) this.#failure = streamedAnswer;
    else if (this.#result === 'unwanted') this.#failure ??= unwantedResult;
    this.#hasEnded = true;
  }

  /** Ends it before it has begun. */
  failWithoutExecuting(failure: Failure): void {
    this.#failure = failure;
    this.#hasEnded = true;
  }

  /** To be run later, after the message has come back through the broker. */
  defer(delayMs: number): void {
    this.redeliverInMs = delayMs;
    this.isDeferred = true;
  }

  /** The one after it, here and now. */
  next(): Attempt {
    const next = new Attempt(this.handler, this, this, this.number + 1);
    next.firstFailedAt = this.firstFailedAt;
    next.onVerb = this.onVerb;
    return next;
  }

  /** Its failure is one that no further run can mend. */
  markFatal(): void {
    const failure = this.#failure;
    if (failure?.reason === 'retries-exhausted') this.#failure = { ...failure, reason: 'fatal' };
  }

  emit(value: unknown): boolean {
    if (this.abortObserved || (this.#verb !== undefined && this.#verb.kind !== 'ack')) return false;
    if (this.handler.retry?.retryOnResult !== undefined && !this.#isWanted(value)) return false;
    if (this.replyWriter === undefined) return true;
    if (this.handler.idempotency !== undefined && this.replyWriter.hasBufferedValue) {
      this.#isStreamed = true;
      return false;
    }
    return this.replyWriter.emit(value);
  }

  decide(verb: Verb): boolean {
    const { delivery } = this;
    if (this.#verb !== undefined || !delivery.open || delivery.aborted) return false;
    // The end of the run has decided.
    if (this.#hasEnded && (delivery.mode !== 'manual' || this.#failure !== undefined)) return false;
    this.#verb = verb;
    this.onVerb?.();
    return true;
  }

  #isWanted(value: unknown): boolean {
    if (this.#result === 'unseen') {
      this.#result = this.handler.retry!.retryOnResult!(value) ? 'unwanted' : 'wanted';
    }
    return this.#result === 'wanted';
  }
}

/** Whether it is known what the run means for its message, where its end without a failure says nothing. */
export function hasOutcome({ verb, failure }: Attempt): boolean {
  return verb !== undefined || failure !== undefined;
}

export function isAcknowledged({ verb }: Attempt): boolean {
  return verb === 'ack';
}

export function requeueRequested({ verb, delivery }: Attempt): boolean {
  return verb === 'requeue' && !delivery.isEarlyAcked;
}

export function interrupted(run: Attempt): boolean {
  return run.isInterrupted;
}

const noRunLeft = ownFailure(
  'RetriesExhaustedError',
  'the handler asked for another run and has none left',
  'retries-exhausted',
);
const unwantedResult = ownFailure(
  'ResultRejectedError',
  'the result is one that retryOnResult refuses',
  'retries-exhausted',
);

const streamedAnswer = ownFailure(
  'StreamNotIdempotentError',
  '@Idempotent() needs one answer, which a duplicate can be given again; the handler emitted a second value',
  'fatal',
  { retryable: false },
);

function rejected(failure: Failure | undefined, why: string | undefined): Failure {
  const ofHandler = { retryable: false };
  if (why !== undefined) return ownFailure('RejectedError', why, 'rejected', ofHandler);
  if (failure !== undefined) return { ...failure, reason: 'rejected' };
  return ownFailure('RejectedError', 'the handler rejected the message', 'rejected', ofHandler);
}
