import { messageOf, StoreFullError, StoreUnavailableError } from '../core/runtime/errors.js';
import { maskCredentials } from '../core/message/text.js';

/**
 * Message of an error, without credentials. An `AggregateError` of several addresses has no message, only a
 * code.
 */
export function describeError(error: unknown): string {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return maskCredentials(messageOf(error)) || (typeof code === 'string' ? code : 'no answer');
}

/**
 * An error of ioredis is not used as `cause`: it contains the command, and with it a password or a reply.
 */
export function toStoreError(where: string, error: unknown): StoreUnavailableError | StoreFullError {
  const text = describeError(error);
  if (/\bOOM\b/.test(text)) return new StoreFullError(`${where} is full: ${text}`);
  if (/\b(NOAUTH|WRONGPASS|NOPERM)\b/.test(text)) {
    return new StoreUnavailableError(`${where}: ${text}; check user, password and permissions`);
  }
  // Messages of ioredis for a connection that was lost before the answer, or before the command was sent.
  const isLoss = /max retries per request|Stream isn't writeable/.test(text);
  return new StoreUnavailableError(`${where}: ${isLoss ? 'the connection was lost' : text}`);
}
