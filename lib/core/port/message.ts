import type { MessageHeaders } from '../message/headers.js';

/** Where a message came from: what a later replay or a person needs to find its source again. */
export interface Origin {
  /** Queue or topic that it was consumed from. */
  readonly source: string;
  readonly exchange?: string;
  readonly routingKey?: string;
  readonly partition?: number;
  readonly offset?: string;
}

/** A message as a driver hands it in: bytes and what the broker says about them. */
export interface InboundMessage {
  /** `null` is a Kafka tombstone. */
  readonly body: Buffer | null;
  readonly headers: MessageHeaders;
  /** Where the pattern may be written, most telling first; the first that a handler matches counts. Never empty. */
  readonly patterns: readonly string[];
  readonly contentType: string | undefined;
  readonly contentEncoding?: string | undefined;
  /** The sender's id, else one that stays the same for every delivery of this message, else undefined. */
  readonly messageId: string | undefined;
  /** The sender's correlation id; on a request its own id. */
  readonly correlationId: string | undefined;
  readonly key: string | undefined;
  /** Milliseconds since the epoch. */
  readonly timestamp: number | undefined;
  readonly origin: Origin;
  /** The client library's own objects, for the context's `raw`. */
  readonly raw: unknown;
}

/** Where to send, instead of the transport's own destination. @publicApi */
export type MessageDestination =
  | { readonly queue: string }
  | { readonly exchange: string; readonly routingKey?: string }
  | { readonly topic: string };

/** Where a reply is wanted, as the driver that opened the inbox writes it on the wire. Opaque to core. */
export type ReplyAddress = unknown;

/** A message on its way to a driver: encoded, every option checked against the driver's capabilities. */
export interface OutboundMessage {
  readonly pattern: string;
  readonly body: Buffer | null;
  readonly headers: MessageHeaders;
  readonly contentType: string;
  readonly messageId: string;
  readonly correlationId?: string | undefined;
  /** Set on requests only. */
  readonly replyTo?: ReplyAddress;
  readonly key?: string | undefined;
  readonly timestamp: number;
  readonly to?: MessageDestination | undefined;
  readonly persistent?: boolean | undefined;
  readonly expiresInMs?: number | undefined;
  readonly delayMs?: number | undefined;
  readonly priority?: number | undefined;
  readonly partition?: number | undefined;
  readonly appId?: string | undefined;
}

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
  readonly headers: MessageHeaders;
}

/** `undeliverable`: nobody listens at the address. `too-large`: it does not fit through the broker. Trying again would help neither. */
export type ReplyOutcome = 'confirmed' | 'undeliverable' | 'too-large';

export interface InboundReply {
  readonly kind: ReplyKind;
  readonly correlationId: string;
  readonly body: Buffer | null;
  readonly contentType: string | undefined;
  readonly headers: MessageHeaders;
}

/** What a message says about where its answer goes. */
export type ReplyTarget =
  | { readonly kind: 'none' }
  | { readonly kind: 'address'; readonly address: ReplyAddress }
  /** An address that no client of ours can have written. `why` says so without repeating more than its first 100 characters. */
  | { readonly kind: 'forged'; readonly why: string };

export const noReply: ReplyTarget = { kind: 'none' };
