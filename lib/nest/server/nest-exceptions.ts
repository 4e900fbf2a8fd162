import type { HttpException } from '@nestjs/common';
import type { RpcException } from '@nestjs/microservices';

/**
 * Recognised by methods, because the application may load another copy of Nest. An error of a user's class
 * with the same methods counts as Nest's. Never throws.
 */
export function isHttpException(error: unknown): error is HttpException {
  return isErrorWith(error, ['getStatus', 'getResponse', 'initMessage']);
}

export function isRpcException(error: unknown): error is RpcException {
  return isErrorWith(error, ['getError', 'initMessage']);
}

/** What an `RpcException` was made of. Never throws: the method may be a user's. */
export function contentOf(error: RpcException): unknown {
  try {
    return error.getError();
  } catch {
    return undefined;
  }
}

/** Whether a validation pipe has refused the payload, by the exception of its `exceptionFactory` too. */
export function isValidationError(error: unknown): boolean {
  if (isHttpException(error)) return [400, 422].includes(error.getStatus());
  if (!isRpcException(error)) return false;
  // Class names in the stack say where `exceptionFactory` was called.
  return constraintsIn(contentOf(error)).length > 0 || /\bValidationPipe\./.test(error.stack ?? '');
}

/** Deeper content is not searched: it may refer to itself. */
const maxDepth = 8;

/** The violated constraints of the `ValidationError`s in a content, as text. */
export function constraintsIn(content: unknown, depth = 0): string[] {
  if (typeof content !== 'object' || content === null || depth > maxDepth) return [];
  const constraints = propertyOf(content, 'constraints');
  const isValidation = typeof propertyOf(content, 'property') === 'string' && isRecord(constraints);
  const own = isValidation ? Object.values(constraints).filter((text) => typeof text === 'string') : [];
  const names = Object.keys(content).filter((name) => !notSearched.has(name));
  return [...own, ...names.flatMap((name) => constraintsIn(propertyOf(content, name), depth + 1))];
}

/** Of a `ValidationError`: the validated object and the refused value. */
const notSearched = new Set(['target', 'value', 'constraints']);

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Never throws: a getter of the thrown object may. */
export function propertyOf(value: unknown, name: string): unknown {
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
