import { ConnectionLostError, messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import { maskCredentials } from '../../core/message/text.js';

/** AMQP reply codes that matter here. */
export const replyCodes = {
  accessRefused: 403,
  notFound: 404,
  resourceLocked: 405,
  preconditionFailed: 406,
  notAllowed: 530,
  internalError: 541,
} as const;

/** Code of an error of the client or the broker, which amqplib carries as a field or only in the text. */
export function replyCodeOf(error: unknown): number | undefined {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'number')
    return error.code;
  const text = messageOf(error);
  // A refused virtual host: amqplib says only which frame it did not expect.
  if (text.includes('Expected ConnectionOpenOk; got <ConnectionClose')) return replyCodes.notAllowed;
  const code = /\b(\d{3}) \([A-Z_-]+\)/.exec(text)?.[1];
  return code === undefined ? undefined : Number(code);
}

/** What waiting cannot mend: a wrong password, a virtual host that does not exist or is not ours. */
export function isRefusal(error: unknown): boolean {
  const code = replyCodeOf(error);
  return code === replyCodes.accessRefused || code === replyCodes.notAllowed;
}

/** Where a connection goes, without its password. */
export function addressOf(url: string): string {
  return maskCredentials(url.replace(/\?.*$/s, ''));
}

/** For the caller of `connect`: which address, and what it said. */
export function connectError(url: string, error: unknown): Error {
  const said = maskCredentials(messageOf(error)) || codeOf(error);
  const message = `RabbitMQ at ${addressOf(url)}: ${said}`;
  if (!isRefusal(error)) return new ConnectionLostError(message, { cause: error });
  return new StorkConfigError(`${message}; check user, password, virtual host and permissions`, {
    cause: error,
  });
}

/** Errors of several addresses at once have no message of their own, only a code. */
function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : 'no answer';
}
