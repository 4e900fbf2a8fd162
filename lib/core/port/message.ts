import type { MessageHeaders, Origin } from '../message/headers.js';

/**
 * A message as a driver delivers it: undecoded, with the properties that the broker reports.
 * @publicApi
 */
export interface InboundMessage {
  /** `null` is a tombstone: a record of a log without a value. */
  readonly body: Buffer | null;
  readonly headers: MessageHeaders;
  /** Why the headers cannot be decoded: then `headers` is empty and the message reaches no handler. */
  readonly headersError?: string | undefined;
  /**
   * Candidates for the pattern, most specific first; the first one that a handler matches is used. Never
   * empty.
   */
  readonly patterns: readonly string[];
  readonly contentType: string | undefined;
  readonly contentEncoding?: string | undefined;
  /** The sender's id, else an id that is the same for every delivery of the message, else undefined. */
  readonly messageId: string | undefined;
  /** For a request, the request's id; for an event, the sender's correlation id. */
  readonly correlationId: string | undefined;
  readonly key: string | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp: number | undefined;
  /**
   * How long after it was sent the message expires, in milliseconds, also where it was republished and the
   * broker does not expire it any more. Undefined if it does not expire.
   */
  readonly expiresInMs?: number | undefined;
  readonly origin: Origin;
  /** Whether the broker or the wire format writes a header of this name: it is no metadata of the sender. */
  readonly isProtocolHeader?: ((name: string) => boolean) | undefined;
  /** The client library's message object, which `StorkContext.raw` exposes. */
  readonly raw: unknown;
}

/** Name of the error of a message or reply whose headers cannot be decoded. */
export const headersErrorName = 'UndecodableHeadersError';

/** Where to publish a message, instead of the transport's default destination. @publicApi */
export type MessageDestination =
  | { readonly queue: string }
  | { readonly exchange: string; readonly routingKey?: string }
  | { readonly topic: string };

/** Where the reply to a request goes, in the form that the driver writes on the wire. Opaque to core. */
export type ReplyAddress = unknown;

/** A message to publish: encoded, with every option checked against the driver's capabilities. */
export interface OutboundMessage {
  readonly pattern: string;
  readonly body: Buffer | null;
  readonly headers: MessageHeaders;
  readonly contentType: string;
  readonly messageId: string;
  readonly correlationId?: string | undefined;
  /** Set only on requests. */
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
 * What a reply message contains. `value`: the complete reply. `item`: one value of a stream. `end`: the end
 * of a stream, or, without any item before it, a reply without a value. `error`: an error envelope as JSON.
 */
export type ReplyKind = 'value' | 'item' | 'end' | 'error';

/**
 * Reads the `stork-reply` header. Without a known kind the reply is a `value`: servers of other libraries
 * write no such header.
 */
export function readReplyKind(text: string | undefined): ReplyKind {
  return text === 'item' || text === 'end' || text === 'error' ? text : 'value';
}

export interface OutboundReply {
  readonly kind: ReplyKind;
  /** True for an `end` that follows items, false for one that is a reply without a value. */
  readonly endsStream: boolean;
  /** The request's id. */
  readonly correlationId: string;
  readonly body: Buffer;
  readonly contentType: string;
  readonly headers: MessageHeaders;
}

/**
 * `undeliverable`: the reply address has no listener. `too-large`: the reply exceeds a size limit of the
 * broker. A retry helps in neither case.
 */
export type ReplyOutcome = 'confirmed' | 'undeliverable' | 'too-large';

export interface InboundReply {
  readonly kind: ReplyKind;
  readonly correlationId: string;
  readonly body: Buffer | null;
  readonly contentType: string | undefined;
  readonly headers: MessageHeaders;
}

/** The reply address of a message. */
export type ReplyTarget =
  | { readonly kind: 'none' }
  | { readonly kind: 'address'; readonly address: ReplyAddress }
  /** No stork client can have written this address. `why` quotes at most its first 100 characters. */
  | { readonly kind: 'forged'; readonly why: string };

export const noReply: ReplyTarget = { kind: 'none' };
