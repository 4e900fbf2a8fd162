import type { Headers } from './headers.js';
import type { ReplyAddress } from './message.js';

/**
 * What one reply message says: `value` is the whole answer, `item` one of several, `end` that no more come (alone: an answer
 * without a value), `error` carries an error envelope as JSON.
 */
export type ReplyKind = 'value' | 'item' | 'end' | 'error';

/** The kind that a `stork-reply` header names; anything else, and none, is a plain value: a foreign server writes no header. */
export function readReplyKind(text: string | undefined): ReplyKind {
  return text === 'item' || text === 'end' || text === 'error' ? text : 'value';
}

export interface OutboundReply {
  readonly kind: ReplyKind;
  /** The request's own id. */
  readonly correlationId: string;
  readonly body: Buffer;
  readonly contentType: string;
  readonly headers: Headers;
}

/** `undeliverable`: nobody listens at the address. `too-large`: it does not fit through the broker. Trying again would help neither. */
export type ReplyOutcome = 'confirmed' | 'undeliverable' | 'too-large';

export interface InboundReply {
  readonly kind: ReplyKind;
  readonly correlationId: string;
  readonly body: Buffer | null;
  readonly contentType: string | undefined;
  readonly headers: Headers;
}

/** What a message says about where its answer goes. */
export type ReplyTarget =
  | { readonly kind: 'none' }
  | { readonly kind: 'address'; readonly address: ReplyAddress }
  /** An address that no client of ours can have written. `why` says so without repeating more than its first 100 characters. */
  | { readonly kind: 'forged'; readonly why: string };

export const noReply: ReplyTarget = { kind: 'none' };
