import { messageOf, nameOf, remoteCodes, type ErrorEnvelope } from '../../core/runtime/errors.js';
import type { Failure } from '../../core/runtime/failure.js';
import type { HttpException } from '@nestjs/common';
import type { RpcException } from '@nestjs/microservices';

/** Message of the `RpcException` that Nest throws when a guard's `canActivate` returns false. */
const guardRefusal = 'Forbidden resource';
/**
 * 4xx statuses after which a later attempt may succeed: 408 Request Timeout, 425 Too Early, 429 Too Many
 * Requests.
 */
const transientStatuses = new Set([408, 425, 429]);

/**
 * Describes a failed attempt. Its class, its reason and whether it is retried come from the error as
 * thrown; what the caller of a request is told comes from the outcome of the application's exception
 * filters. Never throws, also for thrown values whose getters or proxies throw.
 *
 * @param outcome what the call ended with
 * @param original the error before the filters, if one was recorded
 */
export function describeFailure(
  outcome: unknown,
  original: { readonly error: unknown } | undefined,
): Failure {
  const error = original === undefined ? outcome : original.error;
  const filtered = isUnchanged(outcome, error) ? undefined : { error: outcome };
  const name = nameOf(error);
  try {
    const reason = reasonOf(error);
    const envelope = filtered === undefined ? envelopeOf(error) : envelopeOfOutcome(outcome, error);
    const isInternal = filtered === undefined ? !isNestException(error) : isUnknownError(outcome);
    return { error, filtered, reason, name, message: detailedMessageOf(error), envelope, isInternal };
  } catch {
    const message = messageOf(error);
    const envelope = { name, message, code: remoteCodes.handlerFailed, retryable: true };
    return { error, filtered, reason: 'retries-exhausted', name, message, envelope, isInternal: true };
  }
}

/** Whether the outcome is the error itself, or what Nest's documentation makes of an `RpcException`. */
function isUnchanged(outcome: unknown, error: unknown): boolean {
  if (outcome === error) return true;
  if (!isRpcException(error)) return false;
  const content = contentOf(error);
  return (
    outcome === content ||
    (propertyOf(outcome, 'status') === 'error' && propertyOf(outcome, 'message') === content)
  );
}

function isNestException(error: unknown): boolean {
  return isHttpException(error) || isRpcException(error);
}

function isUnknownError(outcome: unknown): boolean {
  return isError(outcome) && !isNestException(outcome);
}

function isRefusal(error: RpcException): boolean {
  return error.message === guardRefusal || [401, 403].includes(statusOf(contentOf(error)) ?? 0);
}

function reasonOf(error: unknown): Failure['reason'] {
  if (isValidationError(error)) return 'invalid';
  if (isHttpException(error) && [401, 403].includes(error.getStatus())) return 'fatal';
  if (isRpcException(error) && isRefusal(error)) return 'fatal';
  return 'retries-exhausted';
}

/** A validation pipe throws `Bad Request Exception`; the failed constraints are only in its response. */
function detailedMessageOf(error: unknown): string {
  const listed = isHttpException(error)
    ? listIn(propertyOf(error.getResponse(), 'message'))
    : isRpcException(error)
      ? constraintsIn(contentOf(error))
      : [];
  return listed.length === 0 ? messageOf(error) : listed.join('; ');
}

function listIn(message: unknown): string[] {
  if (!Array.isArray(message)) return [];
  return message.map((line) => (typeof line === 'string' ? line : messageOf(line)));
}

/** What the caller is told if a filter has changed the error. */
function envelopeOfOutcome(outcome: unknown, error: unknown): ErrorEnvelope {
  const retryable = isRetryable(error);
  return isError(outcome)
    ? { ...envelopeOf(outcome), retryable }
    : { ...contentEnvelope(outcome, nameOf(error), messageOf(error)), retryable };
}

function envelopeOf(error: unknown): ErrorEnvelope {
  const retryable = isRetryable(error);
  const message = detailedMessageOf(error);
  const name = nameOf(error);
  if (isHttpException(error)) {
    const code = isValidationError(error) ? remoteCodes.invalid : remoteCodes.handlerFailed;
    return { name, message, code, status: error.getStatus(), details: error.getResponse(), retryable };
  }
  if (!isRpcException(error)) return { name, message, code: remoteCodes.handlerFailed, retryable };
  const envelope = contentEnvelope(contentOf(error), name, message);
  const isInvalid = isValidationError(error) && envelope.code === remoteCodes.handlerFailed;
  return { ...envelope, ...(isInvalid ? { code: remoteCodes.invalid } : {}), retryable };
}

/** The object in an `RpcException`, or that a filter throws, travels whole. */
function contentEnvelope(content: unknown, name: string, message: string): Omit<ErrorEnvelope, 'retryable'> {
  if (typeof content === 'string') return { name, message: content, code: remoteCodes.handlerFailed };
  const text = propertyOf(content, 'message');
  const code = propertyOf(content, 'code');
  const status = statusOf(content);
  return {
    name,
    message: typeof text === 'string' ? text : message,
    code: typeof code === 'string' && code !== '' ? code : remoteCodes.handlerFailed,
    ...(status === undefined ? {} : { status }),
    ...(typeof content === 'object' && content !== null ? { details: content } : {}),
  };
}

function statusOf(content: unknown): number | undefined {
  const values = ['status', 'statusCode', 'code'].map((name) => propertyOf(content, name));
  return values.find((value) => typeof value === 'number');
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

/** What an `RpcException` was made of. Never throws: the method may be a user's. */
function contentOf(error: RpcException): unknown {
  try {
    return error.getError();
  } catch {
    return undefined;
  }
}

/** Whether a validation pipe has refused the payload, by the exception of its `exceptionFactory` too. */
function isValidationError(error: unknown): boolean {
  if (isHttpException(error)) return [400, 422].includes(error.getStatus());
  if (!isRpcException(error)) return false;
  // Class names in the stack say where `exceptionFactory` was called.
  return constraintsIn(contentOf(error)).length > 0 || /\bValidationPipe\./.test(error.stack ?? '');
}

/** Bounds the search: the content may be an entity with all that it refers to. */
const maxSearched = 1_000;

/** The violated constraints of the `ValidationError`s in a content, as text. */
function constraintsIn(content: unknown, searched = new Set<unknown>()): string[] {
  if (!isRecord(content) || searched.has(content) || searched.size >= maxSearched) return [];
  searched.add(content);
  const constraints = propertyOf(content, 'constraints');
  const isValidation = typeof propertyOf(content, 'property') === 'string' && isRecord(constraints);
  const own = isValidation ? Object.values(constraints).filter((text) => typeof text === 'string') : [];
  const names = Object.keys(content).filter((name) => !notSearched.has(name));
  return [...own, ...names.flatMap((name) => constraintsIn(propertyOf(content, name), searched))];
}

/** Of a `ValidationError`: the validated object and the refused value. */
const notSearched = new Set(['target', 'value', 'constraints']);

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Never throws: a getter of the thrown object may. */
function propertyOf(value: unknown, name: string): unknown {
  try {
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
  } catch {
    return undefined;
  }
}

function isErrorWith(value: unknown, methods: readonly string[]): boolean {
  return isError(value) && methods.every((name) => typeof propertyOf(value, name) === 'function');
}

/** Never throws: `instanceof` throws on a revoked proxy. */
export function isError(value: unknown): value is Error {
  try {
    return value instanceof Error;
  } catch {
    return false;
  }
}
