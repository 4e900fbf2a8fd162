import type { ArgumentsHost, HttpException } from '@nestjs/common';
import { BaseRpcExceptionFilter, type RpcException } from '@nestjs/microservices';
import { messageOf, nameOf, remoteCodes, type ErrorEnvelope } from '../../core/runtime/errors.js';
import type { Failure } from '../../core/runtime/failure.js';
import { originalError } from '../context/stork.context.js';

/** Message of the `RpcException` that Nest throws when a guard's `canActivate` returns false. */
const guardRefusal = 'Forbidden resource';
/** Message by which Nest's default exception filter replaces any error that is not an `RpcException`. */
const maskedMessage = 'Internal server error';
/**
 * 4xx statuses after which a later attempt may succeed: 408 Request Timeout, 425 Too Early, 429 Too Many
 * Requests.
 */
const transientStatuses = new Set([408, 425, 429]);

/**
 * The error to classify: the result of the user's exception filter if one took the error, else the
 * original error behind the `{ status: 'error', message }` object of Nest's default filter.
 */
export function unmaskError(final: unknown, original: { readonly error: unknown } | undefined): unknown {
  if (original === undefined || final === original.error) return final;
  const { error } = original;
  // Nest masks an `RpcException` of another copy of its package too.
  if (isStatusError(final, maskedMessage)) return error;
  if (!isRpcException(error)) return final;
  const content = contentOf(error);
  return final === content || isStatusError(final, messageOf(content)) ? error : final;
}

/** Never throws: the method may be a user's. */
function contentOf(error: RpcException): unknown {
  try {
    return error.getError();
  } catch {
    return undefined;
  }
}

function isStatusError(value: unknown, message: string): boolean {
  if (isInstance(value, Error)) return false;
  return propertyOf(value, 'status') === 'error' && propertyOf(value, 'message') === message;
}

/** Never throws, also for thrown values whose getters or proxies throw. */
export function describeFailure(error: unknown): Failure {
  try {
    return { error, reason: reasonOf(error), envelope: envelopeOf(error) };
  } catch {
    const envelope = {
      name: nameOf(error),
      message: messageOf(error),
      code: remoteCodes.handlerFailed,
      retryable: true,
    };
    return { error, reason: 'retries-exhausted', envelope };
  }
}

function reasonOf(error: unknown): Failure['reason'] {
  if (isHttpException(error)) {
    const status = error.getStatus();
    if (status === 400 || status === 422) return 'invalid';
    if (status === 401 || status === 403) return 'fatal';
  }
  if (isRpcException(error) && error.message === guardRefusal) return 'fatal';
  return 'retries-exhausted';
}

function envelopeOf(error: unknown): ErrorEnvelope {
  const envelope = {
    name: nameOf(error),
    message: detailedMessageOf(error),
    code: errorCodeOf(error),
    retryable: isRetryable(error),
  };
  const details = detailsOf(error);
  return details === undefined ? envelope : { ...envelope, details };
}

/** A validation pipe throws `Bad Request Exception`; the failed constraints are only in its response. */
function detailedMessageOf(error: unknown): string {
  const listed = isHttpException(error) ? propertyOf(error.getResponse(), 'message') : undefined;
  if (!Array.isArray(listed)) return messageOf(error);
  return listed.map((line) => (typeof line === 'string' ? line : messageOf(line))).join('; ');
}

/** The `code` of the error or of the object in an `RpcException`; else a code by the kind of failure. */
function errorCodeOf(error: unknown): string {
  if (isHttpException(error)) {
    return reasonOf(error) === 'invalid' ? remoteCodes.invalid : remoteCodes.handlerFailed;
  }
  const carrier = isRpcException(error) ? contentOf(error) : error;
  const code = propertyOf(carrier, 'code');
  return typeof code === 'string' && code !== '' ? code : remoteCodes.handlerFailed;
}

function detailsOf(error: unknown): unknown {
  if (isHttpException(error)) return error.getResponse();
  return propertyOf(isRpcException(error) ? contentOf(error) : error, 'details');
}

/** An `RpcException` and most 4xx statuses are deliberate error replies: a retry would give the same. */
function isRetryable(error: unknown): boolean {
  if (isRpcException(error)) return false;
  if (!isHttpException(error)) return true;
  const status = error.getStatus();
  return status < 400 || status > 499 || transientStatuses.has(status);
}

/**
 * Recognised by methods, because the application may load another copy of Nest. An error of a user's class
 * with the same methods counts as Nest's. Never throws.
 */
function isHttpException(error: unknown): error is HttpException {
  return isErrorWith(error, ['getStatus', 'getResponse', 'initMessage']);
}

function isRpcException(error: unknown): error is RpcException {
  return isErrorWith(error, ['getError', 'initMessage']);
}

function isErrorWith(value: unknown, methods: readonly string[]): boolean {
  return isInstance(value, Error) && methods.every((name) => typeof propertyOf(value, name) === 'function');
}

/** Never throws: `instanceof` throws on a revoked proxy. */
function isInstance<T>(value: unknown, type: abstract new (...args: never[]) => T): value is T {
  try {
    return value instanceof type;
  } catch {
    return false;
  }
}

/** Never throws: a getter of the thrown object may. */
function propertyOf(value: unknown, name: string): unknown {
  try {
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
  } catch {
    return undefined;
  }
}

/** Marks the filter as patched, also for another copy of this package in the process. */
const isPatched = Symbol.for('nestjs-stork.records-errors');

/**
 * Nest's `BaseRpcExceptionFilter` replaces every error by `Internal server error` before the transport
 * sees it. The patched filter first records the original error on the context, only for messages of stork
 * transports, and then works as before. Every error reaches this filter, in workers and in hybrid
 * applications, unless a user's filter catches it; then the result of that filter decides.
 *
 * A pre-request hook would see the same errors, but while one is registered Nest wraps each message in six
 * Observables, which doubles the cost of a message.
 */
export function recordOriginalErrors(): void {
  const filter = BaseRpcExceptionFilter.prototype;
  // oxlint-disable-next-line typescript/unbound-method -- called below with `this` of the patched method
  const original = filter.catch;
  if (isPatched in original) return;
  const recordThenCatch = function (this: BaseRpcExceptionFilter, exception: unknown, host: ArgumentsHost) {
    const context: unknown = host.switchToRpc().getContext();
    if (typeof context === 'object' && context !== null && originalError in context)
      context[originalError] = { error: exception };
    return original.call(this, exception, host);
  };
  filter.catch = Object.assign(recordThenCatch, { [isPatched]: true });
}
