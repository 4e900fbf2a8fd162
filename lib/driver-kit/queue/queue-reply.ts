import {
  copyHeaders,
  headerNames,
  readText,
  type HeaderValue,
  type MessageHeaders,
} from '../../core/message/headers.js';
import { readReplyKind, type InboundReply, type OutboundReply } from '../../core/port/message.js';
import { propertyText } from './queue-message.js';

// Maps replies to AMQP messages and back.

export function queueReplyHeaders({ kind, headers }: OutboundReply): Record<string, HeaderValue> {
  const written = copyHeaders(headers);
  if (kind !== 'value') written[headerNames.reply] = kind;
  return written;
}

/** A reply as the broker delivers it; properties can have any type. */
export interface DeliveredReply {
  readonly body: Buffer;
  readonly headers: MessageHeaders;
  readonly correlationId: unknown;
  readonly contentType: unknown;
}

export function inboundQueueReply({
  body,
  headers,
  correlationId,
  contentType,
}: DeliveredReply): InboundReply {
  return {
    kind: readReplyKind(readText(headers, headerNames.reply)),
    correlationId: propertyText(correlationId) ?? '',
    body,
    contentType: propertyText(contentType),
    headers,
  };
}
