import type { BrokerDeath } from '../core/dead-letters.js';
import type { Headers, HeaderValue } from '../core/headers.js';

const reasons: ReadonlyMap<HeaderValue, BrokerDeath['reason']> = new Map([
  ['rejected', 'rejected'],
  ['expired', 'expired'],
  ['maxlen', 'max-length'],
  ['delivery_limit', 'delivery-limit'],
]);

/**
 * The last death that the broker itself has noted, which stands first: `x-first-death-*` would tell of a wait in a retry queue. Total:
 * what is not as a broker writes it counts as absent.
 */
export function readBrokerDeath(headers: Headers): BrokerDeath | undefined {
  const deaths: unknown = headers['x-death'];
  const last: unknown = Array.isArray(deaths) ? deaths[0] : undefined;
  if (!isTable(last)) return undefined;
  const { queue, reason, exchange, time } = last;
  if (typeof queue !== 'string' || queue === '') return undefined;
  const keys: unknown = last['routing-keys'];
  return {
    reason: reasons.get(reason) ?? 'unknown',
    source: queue,
    exchange: typeof exchange === 'string' ? exchange : undefined,
    routingKey: Array.isArray(keys) && typeof keys[0] === 'string' ? keys[0] : undefined,
    at: timeOf(time),
  };
}

/** The client reads a timestamp as a table of its own; AMQP counts in seconds. */
function timeOf(value: HeaderValue): number | undefined {
  const seconds = isTable(value) ? value['value'] : undefined;
  return typeof seconds === 'number' && Number.isFinite(seconds) ? seconds * 1_000 : undefined;
}

function isTable(value: unknown): value is Headers {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
  );
}
