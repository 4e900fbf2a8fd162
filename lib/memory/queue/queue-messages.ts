import type { RepublishedMessage } from '../../core/port/delivery.js';
import { readKey } from '../../core/message/headers.js';
import type { InboundMessage, InboundReply, OutboundReply } from '../../core/port/message.js';
import {
  isBrokerOwned,
  expiryMs,
  patternsOf,
  propertyText,
  republishedHeaders,
  republishedReplyTo,
} from '../../driver-kit/queue/queue-message.js';
import { inboundQueueReply, queueReplyHeaders } from '../../driver-kit/queue/queue-reply.js';
import { retryQueue } from '../../driver-kit/queue/queue-topology.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import type { MemoryMessage } from '../broker/message.js';

/** Declares the queue in which messages wait `delayMs` before they return to `queue`. @returns its name */
export function declareRetryQueue(broker: MemoryBroker, queue: string, delayMs: number): string {
  const name = retryQueue(queue, delayMs);
  broker.declareQueue(name, {
    messageTtlMs: delayMs,
    deadLetterExchange: '',
    deadLetterRoutingKey: queue,
  });
  return name;
}

/** What is published: a message without its exchange and routing key. */
export type Publishable = Pick<MemoryMessage, 'body' | 'headers' | 'properties'>;

export function inboundMessage(message: MemoryMessage, queue: string, keyHeader: string): InboundMessage {
  const { headers, properties } = message;
  return {
    body: message.body,
    headers,
    patterns: patternsOf(properties.type, headers, message.routingKey),
    contentType: propertyText(properties.contentType),
    contentEncoding: propertyText(properties.contentEncoding),
    messageId: propertyText(properties.messageId),
    correlationId: propertyText(properties.correlationId),
    key: readKey(headers, keyHeader),
    timestamp: typeof properties.timestamp === 'number' ? properties.timestamp : undefined,
    expiresInMs: properties.expirationMs ?? expiryMs(undefined, headers),
    origin: { source: queue, exchange: message.exchange, routingKey: message.routingKey },
    isProtocolHeader: isBrokerOwned,
    raw: message,
  };
}

/** The broker's message behind an inbound message of this driver. */
export function rawOf(message: InboundMessage): MemoryMessage {
  return message.raw as MemoryMessage;
}

/**
 * A republished message never expires: it has to wait in its retry or dead letter queue until it is due.
 */
export function republishedMessage(message: MemoryMessage, { to, headers }: RepublishedMessage): Publishable {
  const { expirationMs, replyTo: caller, ...kept } = message.properties;
  const expiration = expirationMs === undefined ? undefined : String(expirationMs);
  const replyTo = republishedReplyTo(to, caller);
  return {
    body: message.body,
    headers: republishedHeaders(headers, { expiration, cc: message.headers['CC'] }),
    properties: { ...kept, ...(replyTo === undefined ? {} : { replyTo }), persistent: true },
  };
}

export function outboundReply(reply: OutboundReply): Publishable {
  const { body, contentType, correlationId } = reply;
  return {
    body,
    headers: queueReplyHeaders(reply),
    properties: { contentType, correlationId, persistent: false },
  };
}

export function inboundReply({ body, headers, properties }: MemoryMessage): InboundReply {
  const { correlationId, contentType } = properties;
  return inboundQueueReply({ body, headers, correlationId, contentType });
}
