import {
  ConnectionLostError,
  MessageTooLargeError,
  messageOf,
  StorkConfigError,
} from '../../core/runtime/errors.js';
import { maskCredentials, shownAddress } from '../../core/message/text.js';

/** The AMQP reply codes that the driver handles. */
export const replyCodes = {
  accessRefused: 403,
  notFound: 404,
  resourceLocked: 405,
  preconditionFailed: 406,
  notAllowed: 530,
  internalError: 541,
} as const;

/** The AMQP reply code of an error. amqplib has it as a field, or only in the message text. */
export function replyCodeOf(error: unknown): number | undefined {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'number')
    return error.code;
  const text = messageOf(error);
  // When the broker refuses the virtual host, amqplib reports only the unexpected frame, without the code.
  if (text.includes('Expected ConnectionOpenOk; got <ConnectionClose')) return replyCodes.notAllowed;
  const code = /\b(\d{3}) \([A-Z_-]+\)/.exec(text)?.[1];
  return code === undefined ? undefined : Number(code);
}

/** Wrong credentials, or a virtual host that is missing or forbidden. Retrying does not help. */
export function isAuthError(error: unknown): boolean {
  const code = replyCodeOf(error);
  return code === replyCodes.accessRefused || code === replyCodes.notAllowed;
}

/** Wraps the error of a failed or lost connection, with the address of the broker. */
export function connectError(url: string, error: unknown): Error {
  const reason = maskCredentials(messageOf(error)) || codeOf(error);
  const message = `RabbitMQ at ${shownAddress(url)}: ${reason}`;
  if (!isAuthError(error)) return new ConnectionLostError(message, { cause: error });
  return new StorkConfigError(`${message}; check user, password, virtual host and permissions`, {
    cause: error,
  });
}

/** Node's AggregateError, for a host with several addresses, has a code and no message. */
function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : 'no answer';
}

/** Wraps what amqplib throws synchronously from `publish` when it cannot encode a message. */
export function encodingError(error: unknown): Error {
  if (error instanceof RangeError)
    return new MessageTooLargeError(`the headers do not fit into a frame: ${error.message}`, {
      cause: error,
    });
  return new StorkConfigError(`the message cannot be encoded in AMQP: ${messageOf(error)}`, { cause: error });
}

/** True when amqplib cannot encode the message, so that publishing it again would fail too. */
export function isEncodingError(error: unknown): boolean {
  return error instanceof MessageTooLargeError || error instanceof StorkConfigError;
}
