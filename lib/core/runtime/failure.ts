import { remoteCodes, type ErrorEnvelope } from './errors.js';

/** Why a message became a dead letter; what `stork-death-reason` holds. @publicApi */
export type FailureReason =
  /** The handler failed and has no attempt left. */
  | 'retries-exhausted'
  /** The handler's failure was one that no further attempt can mend. */
  | 'fatal'
  /** The body cannot be read. */
  | 'undecodable'
  /**
   * The message is readable and wrong: refused by validation, too large, or with a reply address that is not
   * one.
   */
  | 'invalid'
  /** Nothing here listens to its pattern. */
  | 'no-handler'
  /** The handler's last run took longer than its `timeoutMs`. */
  | 'timeout'
  /** The handler said `nack({ requeue: false })`. */
  | 'rejected';

/** A handler's failure, named by the layer that knows the error. */
export interface Failure {
  readonly error: unknown;
  readonly reason: FailureReason;
  /** What a caller is told. */
  readonly envelope: ErrorEnvelope;
}

interface OwnFailureDetails {
  /** @defaultValue true */
  readonly retryable?: boolean;
  /** @defaultValue HANDLER_FAILED */
  readonly code?: string;
  /** Where there is one with more to tell, e.g. a stack. */
  readonly error?: unknown;
}

/** What the library itself finds wrong with a run. */
export function ownFailure(
  name: string,
  message: string,
  reason: FailureReason,
  { retryable = true, code = remoteCodes.handlerFailed, error }: OwnFailureDetails = {},
): Failure {
  return { error: error ?? { name, message }, reason, envelope: { name, message, code, retryable } };
}
