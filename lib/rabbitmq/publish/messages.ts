import type { ConsumeMessage, Options } from 'amqplib';
import type { RepublishedMessage } from '../../core/port/delivery.js';
import {
  copyHeaders,
  emptyHeaders,
  readKey,
  reservedPrefix,
  type HeaderValue,
  type MessageHeaders,
} from '../../core/message/headers.js';
import { StorkConfigError } from '../../core/runtime/errors.js';
import type {
  InboundMessage,
  InboundReply,
  OutboundMessage,
  OutboundReply,
} from '../../core/port/message.js';
import {
  isBrokerOwned,
  expiryMs,
  patternsOf,
  propertyText,
  republishedHeaders,
  republishedReplyTo,
} from '../../driver-kit/queue/queue-message.js';
import { inboundQueueReply, queueReplyHeaders } from '../../driver-kit/queue/queue-reply.js';

const noHeaders: MessageHeaders = emptyHeaders();

export function inboundMessage(message: ConsumeMessage, queue: string, keyHeader: string): InboundMessage {
  const { fields, properties, content } = message;
  const headers = properties.headers ?? noHeaders;
  return {
    body: content,
    headers,
    patterns: patternsOf(properties.type, headers, fields.routingKey),
    contentType: propertyText(properties.contentType),
    contentEncoding: propertyText(properties.contentEncoding),
    messageId: propertyText(properties.messageId),
    correlationId: propertyText(properties.correlationId),
    key: readKey(headers, keyHeader),
    timestamp: typeof properties.timestamp === 'number' ? properties.timestamp * 1_000 : undefined,
    expiresInMs: expiryMs(properties.expiration, headers),
    origin: { source: queue, exchange: fields.exchange, routingKey: fields.routingKey },
    isProtocolHeader: isBrokerOwned,
    raw: message,
  };
}

export function publishOptions(message: OutboundMessage, keyHeader: string): Options.Publish {
  const { key, expiresInMs, priority, appId, correlationId } = message;
  const headers = amqpHeaders(message.headers);
  if (key !== undefined) headers[keyHeader] = key;
  return {
    headers,
    contentType: message.contentType,
    type: message.pattern,
    messageId: message.messageId,
    // AMQP timestamps are in seconds.
    timestamp: Math.floor(message.timestamp / 1_000),
    persistent: message.persistent ?? true,
    mandatory: true,
    ...(correlationId === undefined ? {} : { correlationId }),
    ...(expiresInMs === undefined ? {} : { expiration: expiresInMs }),
    ...(priority === undefined ? {} : { priority }),
    ...(appId === undefined ? {} : { appId }),
  };
}

/**
 * A message on its way to a retry or dead letter queue, or a dead letter on its way to its source queue.
 */
interface Republish {
  readonly to: RepublishedMessage['to'] | 'replay';
  readonly headers: MessageHeaders;
}

/**
 * Properties of a republished message: an allow-list. Expiration and user id are not on it, because the
 * broker would act on them again; headers keep them as text.
 */
export function republishOptions(
  message: ConsumeMessage,
  { to, headers: given }: Republish,
): Options.Publish {
  const { properties } = message;
  const { expiration, userId } = properties;
  const headers = republishedHeaders(given, { expiration, userId, cc: properties.headers?.['CC'] });
  fitHeaders(headers);
  const options: Options.Publish = { headers, persistent: true, mandatory: true };
  for (const name of [
    'contentType',
    'contentEncoding',
    'correlationId',
    'messageId',
    'type',
    'appId',
  ] as const) {
    const value: unknown = properties[name];
    if (typeof value === 'string') options[name] = value;
  }
  if (typeof properties.timestamp === 'number') options.timestamp = properties.timestamp;
  if (typeof properties.priority === 'number') options.priority = properties.priority;
  const replyTo = republishedReplyTo(to, properties.replyTo);
  if (replyTo !== undefined) options.replyTo = replyTo;
  return options;
}

/**
 * amqplib encodes headers and properties in one frame of at most 64 KiB; the rest is for the other
 * properties.
 */
const maxHeaderBytes = 60 * 1024;

/**
 * Drops the longest foreign headers until the others fit into a frame. A dead letter that cannot be
 * encoded would never leave its source queue; its body and the stork headers are always kept.
 */
function fitHeaders(headers: Record<string, HeaderValue>): void {
  const sizes = Object.entries(headers).map(([name, value]) => ({ name, bytes: sizeOf(name, value) }));
  let total = sizes.reduce((sum, { bytes }) => sum + bytes, 0);
  const foreign = sizes
    .filter(({ name }) => !name.startsWith(reservedPrefix))
    .toSorted((a, b) => b.bytes - a.bytes);
  for (const { name, bytes } of foreign) {
    if (total <= maxHeaderBytes) return;
    delete headers[name];
    total -= bytes;
  }
}

/** An upper bound of the encoded size; nested values are estimated by their JSON. */
function sizeOf(name: string, value: HeaderValue): number {
  const bytes =
    typeof value === 'string' ? Buffer.byteLength(value) : value instanceof Uint8Array ? value.length : 16;
  const nested = typeof value === 'object' && value !== null && !(value instanceof Uint8Array);
  return Buffer.byteLength(name) + 8 + (nested ? Buffer.byteLength(jsonOf(value)) * 2 : bytes);
}

function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? '';
  } catch {
    // Nested too deeply for JSON, so too deeply for amqplib as well: counted as too large, which drops it.
    return ' '.repeat(maxHeaderBytes);
  }
}

/** Converts values that amqplib would encode as empty tables, or refuse: dates, byte arrays, bigints. */
function amqpHeaders(given: MessageHeaders): Record<string, HeaderValue> {
  const headers = copyHeaders(given);
  for (const name of Object.keys(headers)) {
    const value = headers[name];
    if (value instanceof Date)
      headers[name] = { '!': 'timestamp', value: Math.floor(value.getTime() / 1_000) };
    else if (value instanceof Uint8Array && !Buffer.isBuffer(value)) headers[name] = Buffer.from(value);
    else if (typeof value === 'bigint') headers[name] = String(value);
    else if (typeof value === 'number' && !isAmqpNumber(value)) {
      throw new StorkConfigError([
        { name: `headers.${name}`, expected: 'a number that AMQP can carry', given: String(value) },
      ]);
    }
  }
  return headers;
}

/** amqplib encodes integers in 64 bits and other numbers as doubles. */
function isAmqpNumber(value: number): boolean {
  return Number.isFinite(value) && (!Number.isInteger(value) || Math.abs(value) < 2 ** 63);
}

/** The smallest form of a dead letter: its body and the stork headers, which are text. */
export function minimalProperties(copy: RepublishedMessage): Options.Publish {
  const own = Object.entries(copy.headers).filter(([name]) => name.startsWith(reservedPrefix));
  return { headers: Object.fromEntries(own), persistent: true, mandatory: true };
}

export function replyOptions(reply: OutboundReply): Options.Publish {
  const { contentType, correlationId } = reply;
  return { headers: queueReplyHeaders(reply), contentType, correlationId, persistent: false };
}

export function inboundReply({ properties, content }: ConsumeMessage): InboundReply {
  return inboundQueueReply({
    body: content,
    headers: properties.headers ?? noHeaders,
    correlationId: properties.correlationId,
    contentType: properties.contentType,
  });
}
