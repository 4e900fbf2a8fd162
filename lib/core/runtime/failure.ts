import { remoteCodes, type ErrorEnvelope } from './errors.js';

/** Why a message was dead-lettered; the value of the header `stork-death-reason`. @publicApi */
export type FailureReason =
  /** The handler failed and has no attempts left. */
  | 'retries-exhausted'
  /** The handler failed with an error that is not retried. */
  | 'fatal'
  /** The body or the headers cannot be decoded. */
  | 'undecodable'
  /**
   * The message was decoded but is invalid: it failed validation, is too large, or has an invalid reply
   * address.
   */
  | 'invalid'
  /** No handler matches its pattern. */
  | 'no-handler'
  /** The last attempt took longer than the handler's `timeoutMs`. */
  | 'timeout'
  /** The handler called `nack({ requeue: false })`. */
  | 'rejected'
  /** The message was requeued, e.g. by `ctx.nack()`, more often than `deliveryLimit` allows. */
  | 'delivery-limit';

/** A failed attempt, as the layer that caught the error describes it. */
export interface Failure {
  /** As thrown, before the layer above made anything of it. */
  readonly error: unknown;
  /** What the layer above made of the error. `failOn` and `retryOn` match it before the error. */
  readonly filtered?: { readonly error: unknown } | undefined;
  readonly reason: FailureReason;
  /** Class name and message of the error; the message has the constraints that failed in a validation. */
  readonly name: string;
  readonly message: string;
  /** Content of the error reply to the caller. */
  readonly envelope: ErrorEnvelope;
  /**
   * The envelope describes an error that was not meant for the caller, as the layer above classifies it.
   */
  readonly isInternal: boolean;
}

interface LibraryFailureDetails {
  /** @defaultValue true */
  readonly retryable?: boolean;
  /** @defaultValue HANDLER_FAILED */
  readonly code?: string;
  /** The original error, e.g. for its stack. */
  readonly error?: unknown;
  /** @defaultValue false */
  readonly isInternal?: boolean;
}

/** A failure that the library itself detects. */
export function libraryFailure(
  name: string,
  message: string,
  reason: FailureReason,
  {
    retryable = true,
    code = remoteCodes.handlerFailed,
    error,
    isInternal = false,
  }: LibraryFailureDetails = {},
): Failure {
  const envelope = { name, message, code, retryable };
  return { error: error ?? { name, message }, reason, name, message, envelope, isInternal };
}
