import type { ArgumentsHost } from '@nestjs/common';
import { BaseRpcExceptionFilter } from '@nestjs/microservices';
import { RpcExceptionsHandler } from '@nestjs/microservices/exceptions/rpc-exceptions-handler.js';
import { throwError } from 'rxjs';
import { originalError } from '../context/stork.context.js';

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
    return this.invokeCustomFilters(exception, host) ?? throwError(() => exception);
  };
  prototype.handle = Object.assign(recordThenHandle, { [isWrapped]: true });
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
