import { printable } from '../message/text.js';
import { StoreUnavailableError } from '../runtime/errors.js';
import type { BeginOutcome, StoredReply } from './idempotency-store.js';

/**
 * Checks the answer of an application's own store to `begin`. A reply that has lost its type, e.g. in a JSON
 * column, cannot be sent, and its request would be requeued without an end.
 *
 * @throws StoreUnavailableError for an answer that the contract does not allow
 */
export function validateBegin(outcome: BeginOutcome | undefined): BeginOutcome {
  if (outcome?.state === 'acquired' || outcome?.state === 'in-progress') return outcome;
  if (outcome?.state !== 'done') throw new StoreUnavailableError(answered('begin', printable(outcome)));
  return outcome.reply === undefined ? outcome : { state: 'done', reply: validateReply(outcome.reply) };
}

/** `Uint8Array` bodies are accepted too: some database clients do not return a `Buffer`. */
function validateReply(reply: StoredReply | null): StoredReply {
  const { body, contentType }: { readonly body?: unknown; readonly contentType?: unknown } = reply ?? {};
  if (body instanceof Uint8Array && typeof contentType === 'string') {
    return Buffer.isBuffer(body)
      ? { body, contentType }
      : { body: Buffer.from(body.buffer, body.byteOffset, body.byteLength), contentType };
  }
  const given =
    typeof reply === 'object' && reply !== null
      ? `body: ${withoutContent(body)}, contentType: ${printable(contentType)}`
      : withoutContent(reply);
  const expected = 'undefined, or a body that is a Buffer or Uint8Array and a contentType that is a text';
  throw new StoreUnavailableError(answered('begin', `the reply ${given}; expected ${expected}`));
}

/** The content of a reply must not get into the log. */
function withoutContent(value: unknown): string {
  return typeof value === 'string' ? 'a text' : printable(value);
}

/** @throws StoreUnavailableError for an answer that is not a boolean */
export function validateBoolean(call: 'renew' | 'complete' | 'release', answer: unknown): boolean {
  if (typeof answer === 'boolean') return answer;
  throw new StoreUnavailableError(answered(call, `${printable(answer)}; expected true or false`));
}

function answered(call: string, answer: string): string {
  return `the idempotency store answered ${call} with ${answer}`;
}
