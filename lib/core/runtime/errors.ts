/** What a caller can branch on; stable over versions. */
export const errorCodes = {
  config: 'CONFIG',
  noRoute: 'NO_ROUTE',
  requestTimeout: 'REQUEST_TIMEOUT',
  connectionLost: 'CONNECTION_LOST',
  closed: 'CLOSED',
  publishRejected: 'PUBLISH_REJECTED',
  publishUnconfirmed: 'PUBLISH_UNCONFIRMED',
  tooLarge: 'TOO_LARGE',
  bufferFull: 'BUFFER_FULL',
  tooManyPending: 'TOO_MANY_PENDING',
  storeUnavailable: 'STORE_UNAVAILABLE',
  storeFull: 'STORE_FULL',
  handlerTimeout: 'HANDLER_TIMEOUT',
} as const;

/** Codes that a server's error reply carries, besides those that a handler sets itself. */
export const remoteCodes = {
  handlerFailed: 'HANDLER_FAILED',
  noHandler: 'NO_HANDLER',
  undecodable: 'UNDECODABLE',
  invalid: 'INVALID',
  tooLarge: 'TOO_LARGE',
} as const;

const brand = Symbol.for('nestjs-stork.error');

/**
 * Base of every error that this library creates.
 *
 * @publicApi
 */
export class StorkError extends Error {
  readonly [brand] = true;
  /** Stable, e.g. `REQUEST_TIMEOUT`; a `RemoteError` carries the server's. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** Recognises our errors even when two copies of the package are installed. @publicApi */
export function isStorkError(error: unknown): error is StorkError {
  return typeof error === 'object' && error !== null && brand in error;
}

/** One thing wrong with the options: where, what was expected, what was given. @publicApi */
export interface ConfigProblem {
  /** Path of the option, e.g. `transports.orders.queue`. */
  readonly name: string;
  readonly expected: string;
  /** Printable and without secrets. */
  readonly given: string;
}

/**
 * The code or the options must change; the transport does not start and the call is not sent. `problems`
 * lists everything that is wrong, not only the first thing.
 *
 * @publicApi
 */
export class StorkConfigError extends StorkError {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[] | string, options?: ErrorOptions) {
    super(errorCodes.config, typeof problems === 'string' ? problems : describeProblems(problems), options);
    this.problems = typeof problems === 'string' ? [] : problems;
  }
}

function describeProblems(problems: readonly ConfigProblem[]): string {
  const lines = problems.map(({ name, expected, given }) => `${name}: expected ${expected}, given ${given}`);
  return lines.length === 1 ? lines[0]! : `${lines.length} problems:\n  ${lines.join('\n  ')}`;
}

/**
 * Nothing is bound where the message was sent: no such queue, no binding for the key, or no such topic.
 *
 * @publicApi
 */
export class NoRouteError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.noRoute, message, options);
  }
}

/** No reply came in time; the handler may still be running, or have run. @publicApi */
export class RequestTimeoutError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.requestTimeout, message, options);
  }
}

/** The connection went away while the call was under way; whether it was handled is unknown. @publicApi */
export class ConnectionLostError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.connectionLost, message, options);
  }
}

/** The client was closed, by the application's shutdown or by `close()`. @publicApi */
export class ClientClosedError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.closed, message, options);
  }
}

/** The broker refused the message, e.g. because a queue is full. It is not stored. @publicApi */
export class PublishRejectedError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.publishRejected, message, options);
  }
}

/** Whether the broker has stored the message is unknown; sending it again may double it. @publicApi */
export class PublishUnconfirmedError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.publishUnconfirmed, message, options);
  }
}

/** The message does not fit through the broker, whatever is done. It was not sent. @publicApi */
export class MessageTooLargeError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.tooLarge, message, options);
  }
}

/** Too many messages wait for a broker that is away or slow. This one was not sent. @publicApi */
export class BufferFullError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.bufferFull, message, options);
  }
}

/** More requests without an answer than `maxPending` allows. Nothing was sent. @publicApi */
export class TooManyPendingError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.tooManyPending, message, options);
  }
}

/**
 * The idempotency store did not answer, or refused. What it was asked may have been done or not.
 *
 * @publicApi
 */
export class StoreUnavailableError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.storeUnavailable, message, options);
  }
}

/** The idempotency store has no room. What it was asked was not done. @publicApi */
export class StoreFullError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.storeFull, message, options);
  }
}

/**
 * A run of a handler took longer than its `timeoutMs`. Its caller gets it by its code; `retryOn` and `failOn`
 * may name it.
 *
 * @publicApi
 */
export class HandlerTimeoutError extends StorkError {
  constructor(message: string, options?: ErrorOptions) {
    super(errorCodes.handlerTimeout, message, options);
  }
}

/** What travels in an error reply. */
export interface ErrorEnvelope {
  readonly name: string;
  readonly message: string;
  readonly code: string;
  readonly details?: unknown;
  readonly retryable: boolean;
}

/**
 * The server's handler answered with an error. `code` is the server's own, else `HANDLER_FAILED`;
 * `NO_HANDLER`, `UNDECODABLE`, `INVALID` and `TOO_LARGE` (the reply) come from the server's transport.
 *
 * @publicApi
 */
export class RemoteError extends StorkError {
  /** Name of the error's class on the server. */
  readonly remoteName: string;
  /** What the server's error said beyond its message, e.g. the list of invalid fields. */
  readonly details: unknown;
  /** False where sending the same request again cannot help. */
  readonly retryable: boolean;

  constructor(envelope: ErrorEnvelope) {
    super(envelope.code, envelope.message);
    this.remoteName = envelope.name;
    this.details = envelope.details;
    this.retryable = envelope.retryable;
  }
}

/**
 * Message of anything that was thrown. Total: getters that throw and values without a message are survived.
 */
export function messageOf(error: unknown): string {
  try {
    if (typeof error === 'object' && error !== null && 'message' in error) return String(error.message);
    return typeof error === 'string' ? error : `thrown ${typeof error}: ${String(error)}`;
  } catch {
    return 'an error whose message cannot be read';
  }
}

/** Class name of anything that was thrown. Total, like `messageOf`. */
export function nameOf(error: unknown): string {
  try {
    if (typeof error === 'object' && error !== null && 'name' in error && typeof error.name === 'string') {
      return error.name;
    }
    return error instanceof Error ? 'Error' : typeof error;
  } catch {
    return 'Error';
  }
}

/** Stack of anything that was thrown, if it has one. Total, like `messageOf`. */
export function stackOf(error: unknown): string | undefined {
  try {
    if (error instanceof Error && typeof error.stack === 'string') return error.stack;
  } catch {
    return undefined;
  }
  return undefined;
}
