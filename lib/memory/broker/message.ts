import type { MessageHeaders } from '../../core/message/headers.js';

/** AMQP's basic properties, with times in milliseconds. */
export interface MemoryProperties {
  readonly contentType?: string | undefined;
  readonly contentEncoding?: string | undefined;
  readonly type?: string | undefined;
  readonly messageId?: string | undefined;
  readonly correlationId?: string | undefined;
  readonly replyTo?: string | undefined;
  readonly appId?: string | undefined;
  /** Milliseconds since the epoch. */
  readonly timestamp?: number | undefined;
  readonly expirationMs?: number | undefined;
  readonly priority?: number | undefined;
  readonly persistent?: boolean | undefined;
}

/** A message in a queue. Body and headers are shared by all queues it was routed to: treat both as immutable. */
export interface MemoryMessage {
  readonly body: Buffer;
  readonly headers: MessageHeaders;
  readonly properties: MemoryProperties;
  readonly exchange: string;
  readonly routingKey: string;
}

/** What a publisher hands in; where it goes is said beside it. */
export interface MemoryContent {
  readonly body: Buffer;
  readonly headers?: MessageHeaders | undefined;
  readonly properties?: MemoryProperties | undefined;
}
