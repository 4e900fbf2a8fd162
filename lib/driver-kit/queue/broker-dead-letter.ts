import { createHash } from 'node:crypto';
import type { BrokerDeadLetterCause, StoredDeadLetter } from '../../core/port/dead-letter-store.js';
import {
  headerNames,
  isBytes,
  readText,
  type MessageHeaders,
  type HeaderValue,
} from '../../core/message/headers.js';
import type { InboundMessage } from '../../core/port/message.js';

// Reads dead letters from queues of RabbitMQ and of the memory queue broker.

/**
 * Never throws, whatever the headers contain. If they cannot be decoded, the broker has dead-lettered the
 * message: a consumer writes headers that can.
 *
 * @param source where such a message failed, as its headers do not say it
 */
export function readQueueDeadLetter(message: InboundMessage, source?: string): StoredDeadLetter {
  const brokerCause = message.headersError === undefined ? causeOf(message.headers) : unreadableCause(source);
  return { id: idOf(message, brokerCause), message: withRoutingKey(brokerCause, message), brokerCause };
}

function causeOf(headers: MessageHeaders): BrokerDeadLetterCause | undefined {
  const isByConsumer = readText(headers, headerNames.deathReason) !== undefined;
  return isByConsumer ? undefined : brokerCauseOf(headers);
}

function unreadableCause(source: string | undefined): BrokerDeadLetterCause | undefined {
  return source === undefined ? undefined : { reason: 'unknown', source };
}

/** A queue has no offsets: the id is a hash of the content. Identical dead letters have the same id. */
function idOf(
  { messageId, headers, body }: InboundMessage,
  brokerCause: BrokerDeadLetterCause | undefined,
): string {
  const handler = readText(headers, headerNames.handler);
  const failedAt = readText(headers, headerNames.failedAt) ?? brokerCause?.at;
  return createHash('sha256')
    .update(JSON.stringify([messageId, handler, failedAt]))
    .update(body ?? '')
    .digest('hex')
    .slice(0, 16);
}

/**
 * When the broker dead-letters a message, its routing key becomes the name of the dead letter queue;
 * `x-death` has the original.
 */
function withRoutingKey(
  brokerCause: BrokerDeadLetterCause | undefined,
  message: InboundMessage,
): InboundMessage {
  if (brokerCause?.routingKey === undefined) return message;
  return { ...message, patterns: [...message.patterns.slice(0, -1), brokerCause.routingKey] };
}

const reasons: ReadonlyMap<string | undefined, BrokerDeadLetterCause['reason']> = new Map([
  ['rejected', 'rejected'],
  ['expired', 'expired'],
  ['maxlen', 'max-length'],
  ['delivery_limit', 'delivery-limit'],
]);

/**
 * Reads the first entry of `x-death`, which is the latest. `x-first-death-*` may describe the expiry in a
 * retry queue. Any publisher can write the header: an entry that is not of the broker's form counts as
 * absent.
 */
function brokerCauseOf(headers: MessageHeaders): BrokerDeadLetterCause | undefined {
  const deaths = headers['x-death'];
  const last = Array.isArray(deaths) ? (deaths as readonly HeaderValue[])[0] : undefined;
  if (!isTable(last)) return undefined;
  const source = readText(last, 'queue');
  if (source === undefined || source === '') return undefined;
  return {
    reason: reasons.get(readText(last, 'reason')) ?? 'unknown',
    source,
    exchange: readText(last, 'exchange'),
    routingKey: readText(last, 'routing-keys'),
    at: timeOf(last['time']),
  };
}

/**
 * The memory broker writes a `Date`. amqplib decodes an AMQP timestamp as a table whose `value` is in
 * seconds.
 */
function timeOf(value: HeaderValue): number | undefined {
  if (value instanceof Date) return value.getTime();
  const seconds = isTable(value) ? value['value'] : undefined;
  return typeof seconds === 'number' && Number.isFinite(seconds) ? seconds * 1_000 : undefined;
}

function isTable(value: HeaderValue): value is MessageHeaders {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Date) &&
    !isBytes(value)
  );
}
