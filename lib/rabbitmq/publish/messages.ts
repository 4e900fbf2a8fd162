import type { ConsumeMessage, Options } from 'amqplib';
import type { RepublishedMessage } from '../../core/port/delivery.js';
import {
  copyHeaders,
  emptyHeaders,
  headerNames,
  readKey,
  readText,
  reservedPrefix,
  type MessageHeaders,
  type HeaderValue,
} from '../../core/message/headers.js';
import { StorkConfigError } from '../../core/runtime/errors.js';
import {
  type InboundMessage,
  type OutboundMessage,
  readReplyKind,
  type InboundReply,
  type OutboundReply,
} from '../../core/port/message.js';
import { directReplyQueue } from '../../driver-kit/queue/addressing.js';

const noHeaders: MessageHeaders = emptyHeaders();

export function inboundMessage(message: ConsumeMessage, queue: string, keyHeader: string): InboundMessage {
  const { fields, properties, content } = message;
  const headers = properties.headers ?? noHeaders;
  return {
    body: content,
    headers,
    patterns: patternsOf(properties.type as unknown, headers, fields.routingKey),
    contentType: text(properties.contentType),
    contentEncoding: text(properties.contentEncoding),
    messageId: text(properties.messageId),
    correlationId: text(properties.correlationId),
    key: readKey(headers, keyHeader),
    timestamp: typeof properties.timestamp === 'number' ? properties.timestamp * 1_000 : undefined,
    origin: { source: queue, exchange: fields.exchange, routingKey: fields.routingKey },
    raw: message,
  };
}

/** A republish through the default exchange leaves the queue's name as routing key: the original one is in a header then. */
function patternsOf(type: unknown, headers: MessageHeaders, routingKey: string): readonly string[] {
  const named = text(type);
  const origin = readText(headers, headerNames.originRoutingKey);
  if (origin === undefined) return named === undefined ? [routingKey] : [named, routingKey];
  return named === undefined ? [origin, routingKey] : [named, origin, routingKey];
}

/** An empty property says nothing. */
function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
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
    // AMQP counts in seconds.
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
 * Headers that a broker reads or writes. A copied `x-death` made a message vanish in what looked like a circle, a copied `CC` delivered
 * it a second time.
 */
const brokerOwned = /^(x-(death|delivery-count|acquired-count)|x-(first|last)-death-.*|CC|BCC)$/;

/** A copy for a companion, or a letter's for its source. */
interface CopiedAs {
  readonly to: RepublishedMessage['to'] | 'replay';
  readonly headers: MessageHeaders;
}

/**
 * Properties of a message's copy, built from what may be carried on. No expiration, no user id: the broker would act on them; what a
 * reader may want of them is kept as text. A reply address goes only with a request that comes back.
 */
export function republishOptions(message: ConsumeMessage, copy: CopiedAs): Options.Publish {
  const { properties } = message;
  const headers = copyHeaders(copy.headers);
  for (const name of Object.keys(headers)) if (brokerOwned.test(name)) delete headers[name];
  const keep = (name: string, value: unknown): void => {
    if (value !== undefined && headers[name] === undefined) headers[name] = shown(value);
  };
  keep(headerNames.originExpiration, properties.expiration);
  keep(headerNames.originUserId, properties.userId);
  keep(headerNames.originCc, properties.headers?.['CC']);
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
  const replyTo = copy.to === 'redelivery' ? text(properties.replyTo) : undefined;
  if (replyTo !== undefined && replyTo !== directReplyQueue) options.replyTo = replyTo;
  return options;
}

/** What the client writes of headers at most, 64 KiB, less what the other properties need. */
const maxHeaderBytes = 60 * 1024;

/** A letter that cannot be written would never leave its queue: the longest foreign headers stay behind, never the body. */
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

/** Never less than AMQP needs for it; of a nested value about what its text needs. */
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
    // Too deep to look at, so too deep to carry.
    return ' '.repeat(maxHeaderBytes);
  }
}

function shown(value: unknown): string {
  return (typeof value === 'string' ? value : (JSON.stringify(value) ?? '')).slice(0, 1_024);
}

/** Kinds of values that the client takes for plain objects, or not at all. */
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

/** The client writes whole numbers in 64 bits, others as they are. */
function isAmqpNumber(value: number): boolean {
  return Number.isFinite(value) && (!Number.isInteger(value) || Math.abs(value) < 2 ** 63);
}

/** The least that a letter can be: its body and our own headers, which are text. */
export function minimalProperties(copy: RepublishedMessage): Options.Publish {
  const own = Object.entries(copy.headers).filter(([name]) => name.startsWith(reservedPrefix));
  return { headers: Object.fromEntries(own), persistent: true, mandatory: true };
}

export function replyOptions({ kind, correlationId, contentType, headers }: OutboundReply): Options.Publish {
  const written = copyHeaders(headers);
  if (kind !== 'value') written[headerNames.reply] = kind;
  return { headers: written, contentType, correlationId, persistent: false };
}

export function inboundReply({ properties, content }: ConsumeMessage): InboundReply {
  const headers = properties.headers ?? noHeaders;
  return {
    kind: readReplyKind(readText(headers, headerNames.reply)),
    correlationId: text(properties.correlationId) ?? '',
    body: content,
    contentType: text(properties.contentType),
    headers,
  };
}
