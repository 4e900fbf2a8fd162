import type { ArgumentsHost } from '@nestjs/common';
import { BaseRpcExceptionFilter, type MessageHandler } from '@nestjs/microservices';
import { RpcExceptionsHandler } from '@nestjs/microservices/exceptions/rpc-exceptions-handler.js';
import { from, isObservable, mergeMap, of, Subscriber, throwError, type Observable } from 'rxjs';
import {
  runInCorrelation,
  type CorrelationContext,
  type CorrelationTracking,
} from '../../core/publish/correlation-context.js';
import type { Failure } from '../../core/runtime/failure.js';
import type { Handler } from '../../core/consume/handler.js';
import type { HandlerAttempt } from '../../core/consume/handler-attempt.js';
import { originalError, type StorkContext } from '../context/stork.context.js';
import { describeFailure, isError } from './error-mapping.js';

/**
 * Runs Nest's processing start and end hooks around one attempt. `body` gets the function that calls the
 * end hook. The hooks' return value does not affect the outcome of the attempt.
 */
export type ProcessingHooks = (
  context: StorkContext,
  body: (runEndHook: () => void) => Promise<void>,
) => void | Promise<void>;

/** The hooks of the application, which may be set later than its handlers are bound. */
export interface HookSettings {
  /** Undefined if the application has set none. */
  around: ProcessingHooks | undefined;
}

/** A handler as Nest bound it. */
export interface BoundHandler {
  readonly transport: string;
  readonly handler: MessageHandler;
  /** Class of the context, e.g. `RabbitMqContext`. */
  readonly context: typeof StorkContext;
  /** Undefined without a `CorrelationInterceptor`. */
  readonly correlationHeaders: readonly string[] | undefined;
  readonly correlation: CorrelationTracking;
  readonly hooks: HookSettings;
}

/** Returns the function that calls the handler once, with a new context, and waits until it has completed. */
export function toRun(bound: BoundHandler): Handler['run'] {
  return (attempt) => callHandler(bound, attempt);
}

function callHandler(bound: BoundHandler, attempt: HandlerAttempt): Promise<Failure | undefined> {
  const context = new bound.context(bound.transport, attempt, bound.correlationHeaders);
  const withHooks = bound.hooks.around;
  // Most applications set no hooks, and the hooked path costs two more promises a message.
  if (withHooks === undefined) return callInCorrelation(bound, context, attempt);
  return new Promise((resolve) => {
    // A hook that throws before it calls `body` would otherwise occupy the concurrency slot forever.
    const failByHook = (error: unknown): void => resolve(describeFailure(error, undefined));
    const body = async (runEndHook: () => void): Promise<void> => {
      resolve(await callInCorrelation(bound, context, attempt));
      runEndHook();
    };
    try {
      const hooked = withHooks(context, body);
      if (hooked instanceof Promise) hooked.catch(failByHook);
    } catch (error) {
      failByHook(error);
    }
  });
}

function callInCorrelation(
  { handler, correlation }: BoundHandler,
  context: StorkContext,
  attempt: HandlerAttempt,
): Promise<Failure | undefined> {
  if (!correlation.isEnabled) return invokeHandler(handler, context, attempt);
  const { correlationId, messageId } = context;
  // Without the message: what the handler leaves behind would otherwise keep it in memory.
  const sending = { correlationId, messageId, handlerId: attempt.handler.id };
  return runInCorrelation(sending, invokeCorrelated, { handler, sending }, context, attempt);
}

/** What the handler has left behind, e.g. an interval, sends messages with ids of their own. */
async function invokeCorrelated(
  { handler, sending }: { readonly handler: MessageHandler; readonly sending: CorrelationContext },
  context: StorkContext,
  attempt: HandlerAttempt,
): Promise<Failure | undefined> {
  try {
    return await invokeHandler(handler, context, attempt);
  } finally {
    sending.handlerId = undefined;
    sending.sent = undefined;
  }
}

/**
 * Calls the handler with its guards, interceptors, pipes and filters and waits for completion: of a
 * promise, that it resolves; of an Observable, that it completes, empty or not. Filters run inside the
 * call, so an exception filter can turn a failure into a success.
 */
async function invokeHandler(
  handler: MessageHandler,
  context: StorkContext,
  attempt: HandlerAttempt,
): Promise<Failure | undefined> {
  try {
    const result: unknown = await handler(attempt.value, context);
    if (isReturnedError(result, context)) throw result;
    const emitted = isObservable(result) ? drainStream(result, { attempt, context }) : attempt.emit(result);
    if (emitted instanceof Promise) await emitted;
    return undefined;
  } catch (error) {
    return describeFailure(error, context[originalError]);
  }
}

/** A filter that returns an error leaves the message failed. */
function isReturnedError(value: unknown, context: StorkContext): boolean {
  return context[originalError] !== undefined && isError(value);
}

/** Emits every value. Unsubscribes when no more values are wanted and when the attempt is aborted. */
function drainStream(
  stream: Observable<unknown>,
  { attempt, context }: { readonly attempt: HandlerAttempt; readonly context: StorkContext },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const accept = (value: unknown): boolean | Promise<boolean> => {
      if (isReturnedError(value, context)) throw value;
      return attempt.emit(value);
    };
    const subscriber = new ResultSubscriber(accept, { resolve, reject });
    stream.subscribe(subscriber);
    if (!subscriber.closed) attempt.onAbort(() => subscriber.complete());
  });
}

/**
 * Values that wait for an asynchronous codec. A handler's stream has no back-pressure, so beyond this limit
 * it fails instead of filling the memory.
 */
const maxWaitingValues = 10_000;

/**
 * Unsubscribes by itself before the stream does: what a `finalize()` of the handler throws is then caught
 * here, and not thrown into whatever has ended the stream.
 */
class ResultSubscriber extends Subscriber<unknown> {
  readonly #accept: (value: unknown) => boolean | Promise<boolean>;
  readonly #result: { resolve(): void; reject(error: unknown): void };
  /** Settles when the values so far are encoded, if a codec encodes asynchronously. Never rejects. */
  #emitting: Promise<void> | undefined;
  #waiting = 0;
  #hasFailed = false;

  constructor(
    accept: (value: unknown) => boolean | Promise<boolean>,
    result: { resolve(): void; reject(error: unknown): void },
  ) {
    super();
    this.#accept = accept;
    this.#result = result;
  }

  override next(value?: unknown): void {
    if (this.closed) return;
    if (this.#waiting >= maxWaitingValues)
      return this.error(new RangeError(`the stream has ${this.#waiting} values that are not encoded`));
    const emitted = this.#emitting === undefined ? this.#emit(value) : this.#emitAfter(this.#emitting, value);
    if (emitted instanceof Promise) this.#emitting = emitted;
  }

  override error(error?: unknown): void {
    this.#hasFailed = true;
    this.#result.reject(error);
    this.#teardown();
  }

  override complete(): void {
    this.#teardown();
    if (this.#emitting === undefined) this.#result.resolve();
    else void this.#emitting.then(() => this.#result.resolve());
  }

  async #emitAfter(previous: Promise<void>, value: unknown): Promise<void> {
    this.#waiting++;
    await previous;
    this.#waiting--;
    await this.#emit(value);
  }

  /** @returns a promise if the value is encoded asynchronously; it never rejects */
  #emit(value: unknown): void | Promise<void> {
    if (this.#hasFailed) return;
    try {
      const emitted = this.#accept(value);
      if (emitted instanceof Promise) return emitted.then(this.#completeUnless, (error) => this.error(error));
      this.#completeUnless(emitted);
    } catch (error) {
      this.error(error);
    }
  }

  readonly #completeUnless = (isMoreWanted: boolean): void => {
    if (!isMoreWanted && !this.closed) this.complete();
  };

  #teardown(): void {
    try {
      this.unsubscribe();
    } catch (error) {
      this.#result.reject(error);
    }
  }
}

/** Marks a method as wrapped, also for another copy of this package in the process. */
const isWrapped = Symbol.for('nestjs-stork.records-errors');

interface RecordingContext {
  [originalError]: { readonly error: unknown } | undefined;
}

/**
 * Records every error of a handler, its guards, pipes, interceptors and constructors on the context of its
 * message, before the application's exception filters see it. Where no filter takes the error, it reaches
 * the transport as it was thrown: Nest's own filter would log it and replace it by `Internal server error`.
 * Messages of other transports are handled as before.
 *
 * A pre-request hook would see the same errors, but while one is registered Nest wraps each message in six
 * Observables, which doubles the cost of a message.
 */
export function recordOriginalErrors(): void {
  wrapHandle(RpcExceptionsHandler.prototype);
  wrapCatch(BaseRpcExceptionFilter.prototype);
}

function wrapHandle(prototype: RpcExceptionsHandler): void {
  // oxlint-disable-next-line typescript/unbound-method -- called with `this` of the wrapped method
  const { handle } = prototype;
  if (isWrapped in handle) return;
  const recordThenHandle: typeof handle = function (this: RpcExceptionsHandler, exception, host, ...others) {
    const context = recordingContextOf(host);
    if (context === undefined) return handle.call(this, exception, host, ...others);
    context[originalError] = { error: exception };
    const result: unknown = this.invokeCustomFilters(exception, host);
    if (result instanceof Promise) return resultOfFilter(result, exception);
    return (result as Observable<unknown> | undefined) ?? throwError(() => exception);
  };
  prototype.handle = Object.assign(recordThenHandle, { [isWrapped]: true });
}

/** An asynchronous filter that gives nothing leaves the error as it is, like one that returns nothing. */
function resultOfFilter(result: Promise<unknown>, exception: unknown): Observable<unknown> {
  return from(result).pipe(
    mergeMap((given) => {
      if (isObservable(given)) return given;
      return given === undefined || given === null ? throwError(() => exception) : of(given);
    }),
  );
}

/** Filters that extend Nest's own one call it. */
function wrapCatch(prototype: BaseRpcExceptionFilter): void {
  // oxlint-disable-next-line typescript/unbound-method -- called with `this` of the wrapped method
  const original = prototype.catch;
  if (isWrapped in original) return;
  const rethrow: typeof original = function (this: BaseRpcExceptionFilter, exception, host) {
    if (recordingContextOf(host) === undefined) return original.call(this, exception, host);
    return throwError(() => exception as unknown);
  };
  prototype.catch = Object.assign(rethrow, { [isWrapped]: true });
}

function recordingContextOf(host: ArgumentsHost): RecordingContext | undefined {
  const context: unknown = host.switchToRpc().getContext();
  const isOurs = typeof context === 'object' && context !== null && originalError in context;
  return isOurs ? (context as RecordingContext) : undefined;
}
