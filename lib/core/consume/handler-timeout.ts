import type { StorkClock } from '../runtime/clock.js';
import { settlesWithin } from '../runtime/with-timeout.js';
import type { Delivery } from '../port/delivery.js';
import { HandlerTimeoutError, messageOf } from '../runtime/errors.js';
import { ownFailure, type Failure } from '../runtime/failure.js';
import type { Handler } from './handler.js';
import type { HandlerAttempt, Verb } from './handler-attempt.js';
import type { DeliveryMetadata } from '../message/delivery-metadata.js';
import type { StorkLogger } from '../runtime/logger.js';
import { quoted } from '../message/text.js';

export interface TimeLimitScope {
  readonly name: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
}

/** How long the lane of a run that is over its time waits for it to end. */
const graceMs = 5_000;

/** The same handler, each run of which ends in time or fails; as it is where it has no limit. */
export function withTimeLimit(handler: Handler, scope: TimeLimitScope): Handler {
  const limitMs = handler.consume?.timeoutMs;
  if (limitMs === undefined) return handler;
  return { ...handler, run: (run) => runWithin(limitMs, handler, new TimedAttempt(run), scope) };
}

async function runWithin(
  limitMs: number,
  handler: Handler,
  run: TimedAttempt,
  { name, clock, logger }: TimeLimitScope,
): Promise<Failure | undefined> {
  const work = handler.run(run);
  if (await settlesWithin(clock, work, limitMs)) return work;
  const error = new HandlerTimeoutError(`the handler did not end within ${limitMs} ms`);
  run.expire(error);
  const who = `${name}: handler ${quoted(handler.id)}, message ${quoted(run.delivery.message.messageId)}`;
  void work.then((failure) => {
    const how = failure === undefined ? 'ended' : `failed: ${messageOf(failure.error)}`;
    logger.debug(`${who}: the run that was over its time has ${how}`);
  });
  if (!(await settlesWithin(clock, work, graceMs))) {
    logger.warn(
      `${who}: still at work ${graceMs} ms after its time-out of ${limitMs} ms; what waits for it goes on`,
    );
  }
  return ownFailure(error.name, error.message, 'timeout', { code: error.code, error });
}

/** A run until its time is over: what the handler says and emits afterwards is nobody's. */
class TimedAttempt implements HandlerAttempt {
  readonly #run: HandlerAttempt;
  readonly #abort = new AbortController();
  #isFollowing = false;
  #isOver = false;

  constructor(run: HandlerAttempt) {
    this.#run = run;
  }

  get pattern(): string {
    return this.#run.pattern;
  }

  get value(): unknown {
    return this.#run.value;
  }

  get delivery(): Delivery {
    return this.#run.delivery;
  }

  get metadata(): DeliveryMetadata {
    return this.#run.metadata;
  }

  get number(): number {
    return this.#run.number;
  }

  get maxAttempts(): number {
    return this.#run.maxAttempts;
  }

  get firstFailedAt(): number | undefined {
    return this.#run.firstFailedAt;
  }

  /** Its own: the next run of the message has time anew. */
  get signal(): AbortSignal {
    this.#follow();
    return this.#abort.signal;
  }

  onAbort(listener: () => void): void {
    const { signal } = this;
    if (signal.aborted) listener();
    else signal.addEventListener('abort', listener, { once: true });
  }

  emit(value: unknown): boolean {
    return !this.#isOver && this.#run.emit(value);
  }

  decide(verb: Verb): boolean {
    return !this.#isOver && this.#run.decide(verb);
  }

  expire(why: Error): void {
    this.#isOver = true;
    this.#abort.abort(why);
  }

  #follow(): void {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    this.#run.onAbort(() => this.#abort.abort());
  }
}
