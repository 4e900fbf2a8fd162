import { messageOf, StoreFullError, StoreUnavailableError } from '../core/runtime/errors.js';
import { maskCredentials } from '../core/message/text.js';

/** Where a connection goes, without its password. */
export function addressOf(url: string): string {
  return maskCredentials(url.replace(/\?.*$/s, ''));
}

/** What an error says, without a password. Errors of several addresses at once have no message of their own, only a code. */
export function describeError(error: unknown): string {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return maskCredentials(messageOf(error)) || (typeof code === 'string' ? code : 'no answer');
}

/** The client's errors are not passed on as a cause: they carry the command, which may hold a password or a reply. */
export function toStoreError(where: string, error: unknown): StoreUnavailableError | StoreFullError {
  const text = describeError(error);
  if (/\bOOM\b/.test(text)) return new StoreFullError(`${where} is full: ${text}`);
  if (/\b(NOAUTH|WRONGPASS|NOPERM)\b/.test(text)) {
    return new StoreUnavailableError(`${where}: ${text}; check user, password and permissions`);
  }
  // How the client says that the connection ended before the answer, or before the command was sent.
  const isLoss = /max retries per request|Stream isn't writeable/.test(text);
  return new StoreUnavailableError(`${where}: ${isLoss ? 'the connection was lost' : text}`);
}
