import type { StorkClock } from '../runtime/clock.js';
import { settlesWithin } from '../runtime/with-timeout.js';
import type { Delivery } from '../port/delivery.js';
import { HandlerTimeoutError, messageOf } from '../runtime/errors.js';
import { libraryFailure, type Failure } from '../runtime/failure.js';
import type { Handler } from './handler.js';
import type { HandlerAttempt, HandlerDecision } from './handler-attempt.js';
import type { DeliveryMetadata } from '../message/delivery-metadata.js';
import type { StorkLogger } from '../runtime/reporting.js';
import { quoted } from '../message/text.js';

export interface TimeLimitScope {
  readonly name: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
}

/** How long the other messages of the key wait for a timed-out attempt to end. */
const graceMs = 5_000;

/**
 * Applies the handler's `timeoutMs`: an attempt that exceeds it fails. Returns a handler without time limit
 * unchanged.
 */
export function withTimeLimit(handler: Handler, scope: TimeLimitScope): Handler {
  const limitMs = handler.consume?.timeoutMs;
  if (limitMs === undefined) return handler;
  return { ...handler, run: (attempt) => runWithin(limitMs, handler, new TimedAttempt(attempt), scope) };
}

async function runWithin(
  limitMs: number,
  handler: Handler,
  attempt: TimedAttempt,
  { name, clock, logger }: TimeLimitScope,
): Promise<Failure | undefined> {
  const work = handler.run(attempt);
  if (await settlesWithin(clock, work, limitMs)) return work;
  const error = new HandlerTimeoutError(`the handler did not end within ${limitMs} ms`);
  attempt.expire(error);
  const who = `${name}: handler ${quoted(handler.id)}, message ${quoted(attempt.delivery.message.messageId)}`;
  void work.then((failure) => {
    const how = failure === undefined ? 'ended' : `failed: ${messageOf(failure.error)}`;
    logger.debug(`${who}: the timed-out attempt ${how}`);
  });
  if (!(await settlesWithin(clock, work, graceMs))) {
    logger.warn(
      `${who}: still running ${graceMs} ms after its timeout of ${limitMs} ms; other messages of its key are now processed`,
    );
  }
  return libraryFailure(error.name, error.message, 'timeout', { code: error.code, error });
}

/**
 * An attempt with a time limit. Once it has expired, emitted values and ack, nack and retry calls have no
 * effect.
 */
class TimedAttempt implements HandlerAttempt {
  readonly #attempt: HandlerAttempt;
  readonly #abort = new AbortController();
  #isLinked = false;
  #isExpired = false;

  constructor(attempt: HandlerAttempt) {
    this.#attempt = attempt;
  }

  get pattern(): string {
    return this.#attempt.pattern;
  }

  get value(): unknown {
    return this.#attempt.value;
  }

  get delivery(): Delivery {
    return this.#attempt.delivery;
  }

  get metadata(): DeliveryMetadata {
    return this.#attempt.metadata;
  }

  get number(): number {
    return this.#attempt.number;
  }

  get maxAttempts(): number {
    return this.#attempt.maxAttempts;
  }

  get firstFailedAt(): number | undefined {
    return this.#attempt.firstFailedAt;
  }

  /** Not the delivery's own signal: a timeout must not abort the next attempt of the message. */
  get signal(): AbortSignal {
    this.#linkToDelivery();
    return this.#abort.signal;
  }

  onAbort(listener: () => void): void {
    const { signal } = this;
    if (signal.aborted) listener();
    else signal.addEventListener('abort', listener, { once: true });
  }

  emit(value: unknown): boolean {
    return !this.#isExpired && this.#attempt.emit(value);
  }

  decide(decision: HandlerDecision): boolean {
    return !this.#isExpired && this.#attempt.decide(decision);
  }

  expire(reason: Error): void {
    this.#isExpired = true;
    this.#abort.abort(reason);
  }

  #linkToDelivery(): void {
    if (this.#isLinked) return;
    this.#isLinked = true;
    this.#attempt.onAbort(() => this.#abort.abort());
  }
}
