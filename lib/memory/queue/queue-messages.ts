import type { RepublishedMessage } from '../../core/port/delivery.js';
import { copyHeaders, headerNames, readKey, readText } from '../../core/message/headers.js';
import {
  type InboundMessage,
  readReplyKind,
  type InboundReply,
  type OutboundReply,
} from '../../core/port/message.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import type { MemoryMessage, MemoryProperties } from '../broker/message.js';

export function deadLetterQueue(queue: string): string {
  return `${queue}.dlq`;
}

/** Holds messages back for so long and gives them to their queue again. @returns its name */
export function declareRetryQueue(broker: MemoryBroker, queue: string, delayMs: number): string {
  const name = `${queue}.retry.${delayMs}`;
  broker.declareQueue(name, {
    messageTtlMs: delayMs,
    deadLetterExchange: '',
    deadLetterRoutingKey: queue,
  });
  return name;
}

export function isDeadLetterQueue(queue: string): boolean {
  return queue.endsWith('.dlq');
}

/** A message on its way to an exchange. */
export type Publishable = Pick<MemoryMessage, 'body' | 'headers' | 'properties'>;

export function inboundMessage(message: MemoryMessage, queue: string, keyHeader: string): InboundMessage {
  const { headers, properties } = message;
  return {
    body: message.body,
    headers,
    patterns: patternsOf(message),
    contentType: text(properties.contentType),
    contentEncoding: text(properties.contentEncoding),
    messageId: text(properties.messageId),
    correlationId: text(properties.correlationId),
    key: readKey(headers, keyHeader),
    timestamp: typeof properties.timestamp === 'number' ? properties.timestamp : undefined,
    origin: { source: queue, exchange: message.exchange, routingKey: message.routingKey },
    raw: message,
  };
}

/** The client's object of a message that this driver made. */
export function rawOf(message: InboundMessage): MemoryMessage {
  return message.raw as MemoryMessage;
}

/** A republish through the default exchange leaves the queue's name as routing key: the original one is in a header then. */
function patternsOf({ headers, properties, routingKey }: MemoryMessage): readonly string[] {
  const origin = readText(headers, headerNames.originRoutingKey);
  return [text(properties.type), origin, routingKey].filter((pattern) => pattern !== undefined);
}

/** An empty property says nothing, and a test may write what no client could. */
function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Written by the broker about a journey that ends here; a copy that carried them would be taken for a message of that journey. */
const brokerOwned = /^x-(death|first-death-|last-death-|delivery-count|acquired-count)/;

/** What of a message goes with its copy. No TTL: the copy stays. A letter has no reply address: whoever waited there was told, or is gone. */
export function copyOf(message: MemoryMessage, copy: RepublishedMessage): Publishable {
  const headers = copyHeaders(copy.headers);
  for (const name of Object.keys(headers)) if (brokerOwned.test(name)) delete headers[name];
  const { expirationMs, replyTo, ...kept } = message.properties;
  if (expirationMs !== undefined) headers[headerNames.originExpiration] = String(expirationMs);
  const answered = copy.to === 'redelivery' && replyTo !== undefined ? { replyTo } : {};
  return { body: message.body, headers, properties: { ...kept, ...answered, persistent: true } };
}

export function outboundReply({
  kind,
  correlationId,
  body,
  contentType,
  headers,
}: OutboundReply): Publishable {
  const written = copyHeaders(headers);
  if (kind !== 'value') written[headerNames.reply] = kind;
  const properties: MemoryProperties = { contentType, correlationId };
  return { body, headers: written, properties };
}

export function inboundReply({ headers, properties, body }: MemoryMessage): InboundReply {
  return {
    kind: readReplyKind(readText(headers, headerNames.reply)),
    correlationId: text(properties.correlationId) ?? '',
    body,
    contentType: text(properties.contentType),
    headers,
  };
}
