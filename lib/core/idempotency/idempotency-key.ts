import { createHash } from 'node:crypto';
import { messageOf } from '../runtime/errors.js';
import { ownFailure, type Failure } from '../runtime/failure.js';
import type { IdempotencyPolicy } from './idempotency-options.js';
import type { Attempt } from '../consume/attempt.js';
import { printable } from '../message/text.js';

/** An id that is longer is known by its hash: a sender must not fill the store. */
const longestId = 256;

/** What one handler of one consumer knows a message by; undefined where nothing tells it from others. */
export type FoundKey = { readonly key: string | undefined } | { readonly failure: Failure };

export function findKey(run: Attempt, { keyOf }: IdempotencyPolicy, consumerName: string): FoundKey {
  if (keyOf === undefined) return { key: scoped(idOf(run), run, consumerName) };
  let given: unknown;
  try {
    given = keyOf(run);
  } catch (error) {
    return { failure: keyFailure(`failed: ${messageOf(error)}`, error) };
  }
  if (given !== undefined && (typeof given !== 'string' || given === '')) {
    return { failure: keyFailure(`gave ${printable(given)}, expected text that is not empty, or undefined`) };
  }
  return { key: scoped(given, run, consumerName) };
}

/** A request's own id; a message's otherwise. */
function idOf({ delivery, metadata }: Attempt): string | undefined {
  const { correlationId, messageId } = delivery.message;
  return metadata.reply.kind === 'address' ? (correlationId ?? messageId) : messageId;
}

/** Neither another handler nor another consumer of the same message has this key. */
function scoped(id: string | undefined, { handler }: Attempt, consumerName: string): string | undefined {
  if (id === undefined) return undefined;
  const short = id.length <= longestId ? id : `sha256-${createHash('sha256').update(id).digest('hex')}`;
  // No : of theirs: what follows the second is the id, whatever it holds.
  return (
    [consumerName, handler.id].map((name) => name.replaceAll('%', '%25').replaceAll(':', '%3A')).join(':') +
    `:${short}`
  );
}

function keyFailure(what: string, cause?: unknown): Failure {
  const message = `the key function of @Idempotent() ${what}`;
  const error = Object.assign(new Error(message, { cause }), { name: 'IdempotencyKeyError' });
  return ownFailure(error.name, message, 'retries-exhausted', { error });
}
