import { createHash } from 'node:crypto';
import type { BrokerDeadLetterCause, StoredDeadLetter } from '../../core/port/dead-letter-store.js';
import { headerNames, readText, type MessageHeaders, type HeaderValue } from '../../core/message/headers.js';
import type { InboundMessage } from '../../core/port/message.js';

// What dead letters look like in a queue: the same on RabbitMQ and in memory.

/** A letter as it lies in a queue. Total: whatever its headers hold. */
export function readQueueDeadLetter(message: InboundMessage): StoredDeadLetter {
  const isOurs = readText(message.headers, headerNames.deathReason) !== undefined;
  const brokerCause = isOurs ? undefined : brokerCauseOf(message.headers);
  return { id: idOf(message, brokerCause), message: withKeyOf(brokerCause, message), brokerCause };
}

/** A queue has no places: a letter is known by what it says. Two that say the same are one to us. */
function idOf(
  { messageId, headers, body }: InboundMessage,
  death: BrokerDeadLetterCause | undefined,
): string {
  const handler = readText(headers, headerNames.handler);
  const failedAt = readText(headers, headerNames.failedAt) ?? death?.at;
  return createHash('sha256')
    .update(JSON.stringify([messageId, handler, failedAt]))
    .update(body ?? '')
    .digest('hex')
    .slice(0, 16);
}

/** Where the broker has put a message away, its routing key is the name of the box. */
function withKeyOf(death: BrokerDeadLetterCause | undefined, message: InboundMessage): InboundMessage {
  if (death?.routingKey === undefined) return message;
  return { ...message, patterns: [...message.patterns.slice(0, -1), death.routingKey] };
}

const reasons: ReadonlyMap<string | undefined, BrokerDeadLetterCause['reason']> = new Map([
  ['rejected', 'rejected'],
  ['expired', 'expired'],
  ['maxlen', 'max-length'],
  ['delivery_limit', 'delivery-limit'],
]);

/**
 * The last death that the broker itself has noted, which stands first: `x-first-death-*` would tell of a wait in a retry queue. What is
 * not as a broker writes it counts as absent: anybody may write the header.
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

/** In memory a date; RabbitMQ's client reads a timestamp as a table of its own, and AMQP counts in seconds. */
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
    !(value instanceof Uint8Array)
  );
}
