import { HttpException } from '@nestjs/common';
import { RpcException } from '@nestjs/microservices';
import { messageOf, nameOf, remoteCodes, type ErrorEnvelope } from '../../core/runtime/errors.js';
import type { Failure } from '../../core/runtime/failure.js';

/** What Nest's guard consumer says when `canActivate` was false. */
const guardRefusal = 'Forbidden resource';
/** What Nest's default exception filter makes of any error that is not an `RpcException`. */
const maskedMessage = 'Internal server error';
/** Client errors that the same request can survive later: time-out, too early, too many requests. */
const passing = new Set([408, 425, 429]);

/**
 * The error that counts: what an exception filter of the user's made of it; where only Nest's own filter has spoken, the original.
 */
export function unmask(final: unknown, original: { readonly error: unknown } | undefined): unknown {
  if (original === undefined || final === original.error) return final;
  const { error } = original;
  if (isInstance(error, RpcException)) {
    const told: unknown = error.getError();
    return final === told || isStatusError(final, messageOf(told)) ? error : final;
  }
  return isStatusError(final, maskedMessage) ? error : final;
}

function isStatusError(value: unknown, message: string): boolean {
  if (isInstance(value, Error)) return false;
  return field(value, 'status') === 'error' && field(value, 'message') === message;
}

/** Total: whatever was thrown, also what resists being looked at. */
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
  if (error instanceof HttpException) {
    const status = error.getStatus();
    if (status === 400 || status === 422) return 'invalid';
    if (status === 401 || status === 403) return 'fatal';
  }
  if (error instanceof RpcException && error.message === guardRefusal) return 'fatal';
  return 'retries-exhausted';
}

function envelopeOf(error: unknown): ErrorEnvelope {
  const envelope = {
    name: nameOf(error),
    message: describe(error),
    code: codeOf(error),
    retryable: isRetryable(error),
  };
  const details = detailsOf(error);
  return details === undefined ? envelope : { ...envelope, details };
}

/** A validation pipe's message says only that something is wrong; what is wrong stands in its response. */
function describe(error: unknown): string {
  const listed = error instanceof HttpException ? field(error.getResponse(), 'message') : undefined;
  if (!Array.isArray(listed)) return messageOf(error);
  return listed.map((line) => (typeof line === 'string' ? line : messageOf(line))).join('; ');
}

/** The error's own `code` or that of what an `RpcException` carries; else what kind of failure it was. */
function codeOf(error: unknown): string {
  if (error instanceof HttpException) {
    return reasonOf(error) === 'invalid' ? remoteCodes.invalid : remoteCodes.handlerFailed;
  }
  const carrier = error instanceof RpcException ? error.getError() : error;
  const code = field(carrier, 'code');
  return typeof code === 'string' && code !== '' ? code : remoteCodes.handlerFailed;
}

function detailsOf(error: unknown): unknown {
  if (error instanceof HttpException) return error.getResponse();
  return field(error instanceof RpcException ? error.getError() : error, 'details');
}

/** Deliberate answers are final; any other failure may pass. */
function isRetryable(error: unknown): boolean {
  if (error instanceof RpcException) return false;
  if (!(error instanceof HttpException)) return true;
  const status = error.getStatus();
  return status < 400 || status > 499 || passing.has(status);
}

/** Total: what was thrown may refuse to be asked for its class. */
function isInstance<T>(value: unknown, type: abstract new (...args: never[]) => T): value is T {
  try {
    return value instanceof type;
  } catch {
    return false;
  }
}

/** Total: a getter of the user's may throw. */
function field(value: unknown, name: string): unknown {
  try {
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
  } catch {
    return undefined;
  }
}
