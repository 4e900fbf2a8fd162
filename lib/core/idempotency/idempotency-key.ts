import { createHash } from 'node:crypto';
import { messageOf } from '../runtime/errors.js';
import { libraryFailure, type Failure } from '../runtime/failure.js';
import { ignoreRejection } from '../runtime/user-hooks.js';
import type { IdempotencyPolicy } from './idempotency-options.js';
import type { Attempt } from '../consume/attempt.js';
import { printable } from '../message/text.js';

/** Longer ids are replaced by their hash, so that a sender cannot fill the store. */
const maxIdLength = 256;

/** `key` is undefined if the message has no id. `failure`: the user's key function failed. */
export type KeyResult = { readonly key: string | undefined } | { readonly failure: Failure };

export function deriveKey(attempt: Attempt, { keyOf }: IdempotencyPolicy, consumerName: string): KeyResult {
  if (keyOf === undefined) return { key: scopeToHandler(idOf(attempt), attempt, consumerName) };
  let custom: unknown;
  try {
    custom = keyOf(attempt);
    ignoreRejection(custom);
  } catch (error) {
    return { failure: keyFailure(`failed: ${messageOf(error)}`, error) };
  }
  if (custom !== undefined && (typeof custom !== 'string' || custom === '')) {
    return {
      failure: keyFailure(`returned ${printable(custom)}, expected a non-empty string or undefined`),
    };
  }
  return { key: scopeToHandler(custom, attempt, consumerName) };
}

/** A request is identified by its correlation id, any other message by its message id. */
function idOf({ delivery, metadata }: Attempt): string | undefined {
  const { correlationId, messageId } = delivery.message;
  return metadata.reply.kind === 'address' ? (correlationId ?? messageId) : messageId;
}

/**
 * Each handler and each consumer of a message has its own key: one of them may be done while another is
 * not.
 */
function scopeToHandler(
  id: string | undefined,
  { handler }: Attempt,
  consumerName: string,
): string | undefined {
  if (id === undefined) return undefined;
  const boundedId = id.length <= maxIdLength ? id : `sha256-${createHash('sha256').update(id).digest('hex')}`;
  // The names must not contain a colon: the id is everything after the second one.
  return (
    [consumerName, handler.id].map((name) => name.replaceAll('%', '%25').replaceAll(':', '%3A')).join(':') +
    `:${boundedId}`
  );
}

function keyFailure(problem: string, cause?: unknown): Failure {
  const message = `the key function of @Idempotent() ${problem}`;
  const error = Object.assign(new Error(message, { cause }), { name: 'IdempotencyKeyError' });
  return libraryFailure(error.name, message, 'retries-exhausted', { error });
}
