import { createHash } from 'node:crypto';
import type { BrokerDeath } from './dead-letters.js';
import { headerNames, readText, type Headers, type HeaderValue } from './headers.js';
import type { InboundMessage } from './message.js';

// What dead letters look like in a queue: the same on RabbitMQ and in memory.

/** A queue has no places: a letter is known by what it says. Two that say the same are one to us. */
export function queueLetterId(message: InboundMessage, death: BrokerDeath | undefined): string {
  const { headers, messageId, body } = message;
  const hash = createHash('sha256');
  const said = [messageId, readText(headers, headerNames.handler), readText(headers, headerNames.failedAt)];
  hash.update(JSON.stringify([...said, death?.at, death?.source]));
  if (body !== null) hash.update(body);
  return hash.digest('hex').slice(0, 12);
}

const reasons: Readonly<Record<string, BrokerDeath['reason']>> = {
  rejected: 'rejected',
  expired: 'expired',
  maxlen: 'max-length',
  delivery_limit: 'delivery-limit',
};

/**
 * The broker's own note of the last death, which stands first in `x-death`. None where a consumer of ours has signed the letter, and
 * none in what is no such note: anybody may write the header.
 */
export function brokerDeathOf(headers: Headers): BrokerDeath | undefined {
  if (headers[headerNames.deathReason] !== undefined) return undefined;
  const deaths = headers['x-death'];
  const last = Array.isArray(deaths) ? (deaths as readonly HeaderValue[])[0] : undefined;
  if (!isTable(last)) return undefined;
  const source = readText(last, 'queue');
  if (source === undefined) return undefined;
  const reason = readText(last, 'reason');
  return {
    reason: (reason === undefined ? undefined : reasons[reason]) ?? 'unknown',
    source,
    exchange: readText(last, 'exchange'),
    routingKey: readText(last, 'routing-keys'),
    at: timeOf(last['time']),
  };
}

/** In memory a date; RabbitMQ's client wraps its seconds since the epoch. */
function timeOf(value: HeaderValue): number | undefined {
  if (value instanceof Date) return value.getTime();
  if (!isTable(value) || value['!'] !== 'timestamp') return undefined;
  const seconds = value['value'];
  return typeof seconds === 'number' ? seconds * 1_000 : undefined;
}

function isTable(value: HeaderValue): value is Headers {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Date) &&
    !(value instanceof Uint8Array)
  );
}
