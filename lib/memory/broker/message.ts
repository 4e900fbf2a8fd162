import type { MessageHeaders } from '../../core/message/headers.js';

/** The basic properties of AMQP, with times in milliseconds. */
export interface MemoryProperties {
  readonly contentType?: string | undefined;
  readonly contentEncoding?: string | undefined;
  readonly type?: string | undefined;
  readonly messageId?: string | undefined;
  readonly correlationId?: string | undefined;
  readonly replyTo?: string | undefined;
  readonly appId?: string | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp?: number | undefined;
  readonly expirationMs?: number | undefined;
  readonly priority?: number | undefined;
  readonly persistent?: boolean | undefined;
}

/**
 * A message in a queue. All queues that it was routed to share its body and headers: both are immutable.
 */
export interface MemoryMessage {
  readonly body: Buffer;
  readonly headers: MessageHeaders;
  readonly properties: MemoryProperties;
  readonly exchange: string;
  readonly routingKey: string;
}

/** What is published; exchange and routing key are arguments of `publish`. */
export interface MemoryContent {
  readonly body: Buffer;
  readonly headers?: MessageHeaders | undefined;
  readonly properties?: MemoryProperties | undefined;
}
