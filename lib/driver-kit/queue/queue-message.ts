import {
  copyHeaders,
  headerNames,
  readText,
  type HeaderValue,
  type MessageHeaders,
} from '../../core/message/headers.js';
import { headerText } from '../../core/dead-letter/admin/dead-letter-record.js';
import type { RepublishedMessage } from '../../core/port/delivery.js';
import { directReplyQueue } from './addressing.js';

// How stork reads AMQP messages, and how it republishes them.

/**
 * An AMQP property as text. Publishers can write any type, and an empty property carries no information.
 */
export function propertyText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/**
 * Where the pattern of a message may be written: the property `type`, the original routing key, the
 * routing key. A republish through the default exchange replaces the routing key by the queue's name, so
 * the original one is in a header.
 */
export function patternsOf(type: unknown, headers: MessageHeaders, routingKey: string): readonly string[] {
  const named = propertyText(type);
  const origin = readText(headers, headerNames.originRoutingKey);
  if (origin === undefined) return named === undefined ? [routingKey] : [named, routingKey];
  return named === undefined ? [origin, routingKey] : [named, origin, routingKey];
}

/**
 * How long a message may live, in milliseconds. A republished one has its expiration only in a header, so
 * that the broker does not expire it in a retry or dead letter queue.
 */
export function expiryMs(expiration: unknown, headers: MessageHeaders): number | undefined {
  const text = propertyText(expiration) ?? readText(headers, headerNames.originExpiration, 10);
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

/**
 * Headers that RabbitMQ reads or writes. With a republished `x-death` RabbitMQ treats the message as one
 * that cycles between dead letter exchanges, and drops it; with a republished `CC` or `BCC` it routes the
 * message a second time.
 */
const brokerOwned = /^(x-(death|delivery-count|acquired-count)|x-(first|last)-death-.*|CC|BCC)$/;

export function isBrokerOwned(header: string): boolean {
  return brokerOwned.test(header);
}

/** Properties that RabbitMQ would act on again: a republished message keeps them as text in headers. */
export interface OriginProperties {
  readonly expiration: HeaderValue;
  readonly userId?: HeaderValue;
  readonly cc: HeaderValue;
}

/** Headers of a republished message. Values of an earlier republish stay: they are the original ones. */
export function republishedHeaders(
  given: MessageHeaders,
  { expiration, userId, cc }: OriginProperties,
): Record<string, HeaderValue> {
  const headers = copyHeaders(given);
  for (const name of Object.keys(headers)) if (isBrokerOwned(name)) delete headers[name];
  const keep = (name: string, value: HeaderValue): void => {
    if (value !== undefined && headers[name] === undefined) headers[name] = headerText(value).slice(0, 1_024);
  };
  keep(headerNames.originExpiration, expiration);
  keep(headerNames.originUserId, userId);
  keep(headerNames.originCc, cc);
  return headers;
}

/**
 * The reply address of a republished message. Only a redelivered request has one: the caller of a
 * dead-lettered request got its error reply. RabbitMQ replaces the direct reply queue by the address of
 * the publishing channel, which would be the channel that republishes.
 */
export function republishedReplyTo(
  to: RepublishedMessage['to'] | 'replay',
  replyTo: unknown,
): string | undefined {
  const address = to === 'redelivery' ? propertyText(replyTo) : undefined;
  return address === directReplyQueue ? undefined : address;
}
