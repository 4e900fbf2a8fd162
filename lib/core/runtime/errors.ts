/** Values of `StorkError.code`; stable across versions. */
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

/** Codes of a server's error reply, besides those that a handler sets itself. */
export const remoteCodes = {
  handlerFailed: 'HANDLER_FAILED',
  noHandler: 'NO_HANDLER',
  undecodable: 'UNDECODABLE',
  invalid: 'INVALID',
  tooLarge: 'TOO_LARGE',
} as const;

/**
 * As the second argument of `Error`, whose type `ErrorOptions` needs the library of ES2022.
 * @publicApi
 */
export interface StorkErrorOptions {
  readonly cause?: unknown;
}

const brand = Symbol.for('nestjs-stork.error');
const hasInPrototypes = Function.prototype[Symbol.hasInstance];

/**
 * Base class of all errors of this library. `instanceof` also recognises the errors of another copy of the
 * package in the process.
 *
 * @publicApi
 */
export class StorkError extends Error {
  /**
   * Name of the class, as text because a minifier renames classes. `instanceof` compares it across copies
   * of the package.
   * @internal
   */
  static readonly [brand]: string = 'StorkError';

  /** @internal */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (hasInPrototypes.call(this, value)) return true;
    if (!Object.hasOwn(this, brand) || !isStorkError(value)) return false;
    return this[brand] === 'StorkError' || value[brand] === this[brand];
  }

  /** Stable, e.g. `REQUEST_TIMEOUT`. A `RemoteError` has the code of the server's error. */
  readonly code: string;

  constructor(code: string, message: string, options?: StorkErrorOptions) {
    super(message, options);
    this.name = Object.hasOwn(new.target, brand) ? new.target[brand] : new.target.name;
    this.code = code;
  }

  /** @internal */
  get [brand](): string {
    return (this.constructor as typeof StorkError)[brand];
  }
}

/** Recognises errors of this library even when two copies of the package are installed. @publicApi */
export function isStorkError(error: unknown): error is StorkError {
  return typeof error === 'object' && error !== null && brand in error;
}

/** One problem of the options: the option, what was expected and what was given. @publicApi */
export interface ConfigProblem {
  /** Path of the option, e.g. `transports.orders.queue`. */
  readonly name: string;
  readonly expected: string;
  /** The given value in short, without credentials. */
  readonly given: string;
}

/**
 * Invalid options or an invalid call. The transport does not start; the message is not sent. `problems`
 * lists all problems, not only the first.
 *
 * @publicApi
 */
export class StorkConfigError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'StorkConfigError';

  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[] | string, options?: StorkErrorOptions) {
    super(errorCodes.config, typeof problems === 'string' ? problems : describeProblems(problems), options);
    this.problems = typeof problems === 'string' ? [] : problems;
  }
}

function describeProblems(problems: readonly ConfigProblem[]): string {
  const lines = problems.map(({ name, expected, given }) => `${name}: expected ${expected}, given ${given}`);
  return lines.length === 1 ? lines[0]! : `${lines.length} problems:\n  ${lines.join('\n  ')}`;
}

/**
 * The message reached no queue or topic: it does not exist, or no binding matches the routing key.
 * @publicApi
 */
export class NoRouteError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'NoRouteError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.noRoute, message, options);
  }
}

/** No reply arrived in time. The handler may be running still, or may have finished. @publicApi */
export class RequestTimeoutError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'RequestTimeoutError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.requestTimeout, message, options);
  }
}

/**
 * There is no connection, or it was lost during the call. From `publish()`: the message was not sent, and
 * never will be. From `request()`: it is unknown whether the message was handled. @publicApi
 */
export class ConnectionLostError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'ConnectionLostError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.connectionLost, message, options);
  }
}

/** The client was closed by the application's shutdown or by `close()`. @publicApi */
export class ClientClosedError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'ClientClosedError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.closed, message, options);
  }
}

/** The broker rejected the message, e.g. because a queue is full. It is not stored. @publicApi */
export class PublishRejectedError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'PublishRejectedError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.publishRejected, message, options);
  }
}

/**
 * The message was sent, and no confirmation arrived in time or before the connection was lost. It is unknown
 * whether the broker stored it. Publishing it again may duplicate it. @publicApi
 */
export class PublishUnconfirmedError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'PublishUnconfirmedError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.publishUnconfirmed, message, options);
  }
}

/** The message exceeds the broker's size limit. It was not sent. @publicApi */
export class MessageTooLargeError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'MessageTooLargeError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.tooLarge, message, options);
  }
}

/**
 * The publish buffer is full, because the broker is unavailable or slow. The message was not sent.
 *
 * @publicApi
 */
export class BufferFullError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'BufferFullError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.bufferFull, message, options);
  }
}

/** More pending requests than `maxPending` allows. The request was not sent. @publicApi */
export class TooManyPendingError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'TooManyPendingError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.tooManyPending, message, options);
  }
}

/**
 * The idempotency store did not answer, or failed. It is unknown whether the call took effect. @publicApi
 */
export class StoreUnavailableError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'StoreUnavailableError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.storeUnavailable, message, options);
  }
}

/** The idempotency store is full. The call had no effect. @publicApi */
export class StoreFullError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'StoreFullError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.storeFull, message, options);
  }
}

/**
 * A handler took longer than its `timeoutMs`. The caller of a request gets the code `HANDLER_TIMEOUT`.
 * `retryOn` and `failOn` may name this class.
 *
 * @publicApi
 */
export class HandlerTimeoutError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'HandlerTimeoutError';

  constructor(message: string, options?: StorkErrorOptions) {
    super(errorCodes.handlerTimeout, message, options);
  }
}

/** Content of an error reply. @publicApi */
export interface ErrorEnvelope {
  readonly name: string;
  readonly message: string;
  readonly code: string;
  /** Status of an `HttpException`, or the number of an `RpcException`. */
  readonly status?: number;
  readonly details?: unknown;
  readonly retryable: boolean;
}

/**
 * The server replied with an error. `code` is that of the handler's error, else `HANDLER_FAILED`. The
 * server's transport itself sets `NO_HANDLER`, `UNDECODABLE`, `INVALID` and `TOO_LARGE` (of the reply).
 *
 * @publicApi
 */
export class RemoteError extends StorkError {
  /** @internal */
  static override readonly [brand]: string = 'RemoteError';

  /** Class name of the error on the server. */
  readonly remoteName: string;
  /** Status of an `HttpException`; `status`, `statusCode` or a numeric `code` of an `RpcException`. */
  readonly status: number | undefined;
  /** The object of an `RpcException`, or the response of an `HttpException`. */
  readonly details: unknown;
  /** False if the same request would fail again. */
  readonly retryable: boolean;

  constructor(envelope: ErrorEnvelope) {
    super(envelope.code, envelope.message);
    this.remoteName = envelope.name;
    this.status = envelope.status;
    this.details = envelope.details;
    this.retryable = envelope.retryable;
  }
}

/** Message of any thrown value. Never throws, even if a getter does. */
export function messageOf(error: unknown): string {
  try {
    if (typeof error === 'object' && error !== null && 'message' in error) return String(error.message);
    return typeof error === 'string' ? error : `thrown ${typeof error}: ${String(error)}`;
  } catch {
    return 'an error whose message cannot be read';
  }
}

/** Class name of any thrown value. Never throws. */
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

/** Stack of any thrown value, if it has one. Never throws. */
export function stackOf(error: unknown): string | undefined {
  try {
    if (error instanceof Error && typeof error.stack === 'string') return error.stack;
  } catch {
    return undefined;
  }
  return undefined;
}
