import { copyHeaders, type MessageHeaders, type HeaderValue } from '../../../core/message/headers.js';
import type { MemoryQueueOptions } from './queue-settings.js';
import type { MemoryMessage } from '../message.js';

export type BrokerDeadLetterReason = 'rejected' | 'expired' | 'maxlen' | 'delivery_limit';

/** One entry of `x-death`: how often a message was dead-lettered from one queue for one reason. */
interface DeathEntry {
  readonly [field: string]: HeaderValue;
}

/** The message as RabbitMQ publishes it to the dead letter exchange, with its history in `x-death`. */
export function deadLettered(
  message: MemoryMessage,
  { name: queue, deadLetterExchange = '', deadLetterRoutingKey = message.routingKey }: MemoryQueueOptions,
  reason: BrokerDeadLetterReason,
  nowMs: number,
): MemoryMessage {
  const headers = copyHeaders(message.headers);
  const history = deathsOf(headers);
  const earlier = history.find((death) => death['queue'] === queue && death['reason'] === reason);
  headers['x-death'] = [
    earlier === undefined
      ? firstDeath(message, queue, reason, nowMs)
      : { ...earlier, count: countOf(earlier) + 1 },
    ...history.filter((death) => death !== earlier),
  ];
  if (headers['x-first-death-queue'] === undefined) {
    headers['x-first-death-queue'] = queue;
    headers['x-first-death-reason'] = reason;
    headers['x-first-death-exchange'] = message.exchange;
  }
  // RabbitMQ removes the expiration: the message would expire again in the next queue.
  const { expirationMs: _, ...properties } = message.properties;
  return {
    body: message.body,
    headers,
    properties,
    exchange: deadLetterExchange,
    routingKey: deadLetterRoutingKey,
  };
}

/**
 * Whether a message is dead-lettered into a queue that it was dead-lettered from before, without a
 * rejection by a consumer since. RabbitMQ drops such a message; here it would cycle forever inside
 * one call.
 */
export function isDeadLetterCycle(headers: MessageHeaders, queue: string): boolean {
  const history = deathsOf(headers);
  const last = history.findIndex((death) => death['queue'] === queue);
  return last >= 0 && history.slice(0, last + 1).every((death) => death['reason'] !== 'rejected');
}

function firstDeath(
  message: MemoryMessage,
  queue: string,
  reason: BrokerDeadLetterReason,
  nowMs: number,
): DeathEntry {
  return {
    queue,
    reason,
    exchange: message.exchange,
    'routing-keys': [message.routingKey],
    count: 1,
    time: new Date(nowMs),
  };
}

/** A publisher can write any value into `x-death`; entries that are not tables are ignored. */
function deathsOf(headers: MessageHeaders): DeathEntry[] {
  const value = headers['x-death'];
  if (!Array.isArray(value)) return [];
  return (value as readonly HeaderValue[]).filter(isTable);
}

function isTable(value: HeaderValue): value is DeathEntry {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Date) &&
    !(value instanceof Uint8Array)
  );
}

function countOf(death: DeathEntry): number {
  const count = Number(death['count']);
  return Number.isSafeInteger(count) && count > 0 ? count : 1;
}
