import type { ConsumeMessage, MessageProperties, Options } from 'amqplib';
import type { RepublishedMessage } from '../../core/port/delivery.js';
import {
  copyHeaders,
  emptyHeaders,
  readKey,
  type HeaderValue,
  type MessageHeaders,
} from '../../core/message/headers.js';
import {
  remoteCodes,
  StorkConfigError,
  type ConfigProblem,
  type ErrorEnvelope,
} from '../../core/runtime/errors.js';
import {
  headersErrorName,
  type InboundMessage,
  type InboundReply,
  type OutboundMessage,
  type OutboundReply,
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
import { headersErrorOf } from '../connection/undecodable-headers.js';
import { fitHeaders, ownHeaders } from './header-budget.js';
import { encodableHeader } from './header-values.js';

export function inboundMessage(message: ConsumeMessage, queue: string, keyHeader: string): InboundMessage {
  const { fields, properties, content } = message;
  const headers = properties.headers ?? emptyHeaders();
  return {
    body: content,
    headers,
    headersError: headersErrorOf(properties),
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
  const replyTo = republishedReplyTo(to, properties.replyTo);
  return {
    ...encodableProperties({ ...properties, replyTo, expiration: undefined }),
    headers: fitHeaders(headers),
    persistent: true,
    mandatory: true,
  };
}

/**
 * Properties of a dead letter that is moved to the end of its own queue: all of them, also the broker's own
 * headers. RabbitMQ would refuse the user id of another user, and route the message by `CC` once more.
 */
export function movedOptions({ properties }: ConsumeMessage): Options.Publish {
  const headers = copyHeaders(properties.headers);
  for (const name of ['x-delivery-count', 'CC', 'BCC']) delete headers[name];
  return {
    ...encodableProperties(properties),
    headers: fitHeaders(headers),
    persistent: properties.deliveryMode === 2,
    mandatory: true,
  };
}

const textProperties = [
  'contentType',
  'contentEncoding',
  'correlationId',
  'replyTo',
  'expiration',
  'messageId',
  'type',
  'appId',
] as const;

/** A property that is not UTF-8 grows when it is decoded, beyond what amqplib can encode: it is left out. */
function encodableProperties(properties: Partial<MessageProperties>): Options.Publish {
  const options: Options.Publish = {};
  for (const name of textProperties) {
    const value: unknown = properties[name];
    if (typeof value === 'string' && Buffer.byteLength(value) <= 255) options[name] = value;
  }
  const { timestamp, priority } = properties as Readonly<Record<string, unknown>>;
  if (typeof timestamp === 'number' && timestamp >= 0 && timestamp < 2 ** 64) options.timestamp = timestamp;
  if (typeof priority === 'number') options.priority = priority;
  return options;
}

/** The smallest form of a republished message: its body and stork's own headers, which are text. */
export function minimalProperties({ headers }: RepublishedMessage): Options.Publish {
  return { headers: ownHeaders(headers), persistent: true, mandatory: true };
}

/** @throws StorkConfigError that names each header that AMQP cannot carry */
function amqpHeaders(given: MessageHeaders): Record<string, HeaderValue> {
  const headers = emptyHeaders();
  const problems: ConfigProblem[] = [];
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const encodable = encodableHeader(name, value);
    if (encodable === undefined)
      problems.push({
        name: `headers.${name}`,
        expected: 'a value that AMQP can carry, and a name of at most 255 bytes',
        given: typeof value === 'object' ? 'an object with a part that it cannot' : String(value),
      });
    else headers[name] = encodable.value;
  }
  if (problems.length > 0) throw new StorkConfigError(problems);
  return headers;
}

export function replyOptions(reply: OutboundReply): Options.Publish {
  const { contentType, correlationId } = reply;
  return { headers: queueReplyHeaders(reply), contentType, correlationId, persistent: false };
}

export function inboundReply({ properties, content }: ConsumeMessage): InboundReply {
  const headersError = headersErrorOf(properties);
  const { correlationId, contentType } = properties;
  if (headersError !== undefined) return undecodableReply(correlationId, headersError);
  const headers = properties.headers ?? emptyHeaders();
  return inboundQueueReply({ body: content, headers, correlationId, contentType });
}

/** The headers say whether a reply is a value or an error: without them it is neither. */
function undecodableReply(correlationId: unknown, why: string): InboundReply {
  const envelope: ErrorEnvelope = {
    name: headersErrorName,
    message: `the reply cannot be decoded: ${why}`,
    code: remoteCodes.undecodable,
    retryable: false,
  };
  return {
    kind: 'error',
    correlationId: propertyText(correlationId) ?? '',
    body: Buffer.from(JSON.stringify(envelope)),
    contentType: 'application/json',
    headers: emptyHeaders(),
  };
}
