/** A header's value as brokers carry it: AMQP has types of its own, Kafka only bytes and lists of them. */
export type HeaderValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | undefined
  | Uint8Array
  | Date
  | readonly HeaderValue[]
  | { readonly [name: string]: HeaderValue };

/** Headers of a message. Objects that we make have no prototype, so a header named `__proto__` is only a header. */
export type MessageHeaders = Readonly<Record<string, HeaderValue>>;

/** Every name of ours on the wire. Text; times ISO 8601 UTC with milliseconds; counts decimal; overwritten, never appended. */
export const headerNames = {
  attempt: 'stork-attempt',
  firstFailedAt: 'stork-first-failed-at',
  dueAt: 'stork-due-at',
  group: 'stork-group',
  deadline: 'stork-deadline',
  handler: 'stork-handler',
  pattern: 'stork-pattern',
  key: 'stork-key',
  messageId: 'stork-message-id',
  contentType: 'content-type',
  correlationId: 'stork-correlation-id',
  causationId: 'stork-causation-id',
  reply: 'stork-reply',
  origin: 'stork-origin',
  originExchange: 'stork-origin-exchange',
  originRoutingKey: 'stork-origin-routing-key',
  originPartition: 'stork-origin-partition',
  originOffset: 'stork-origin-offset',
  originTimestamp: 'stork-origin-timestamp',
  originExpiration: 'stork-origin-expiration',
  originUserId: 'stork-origin-user-id',
  originCc: 'stork-origin-cc',
  replayCount: 'stork-replay-count',
  deathReason: 'stork-death-reason',
  failedAt: 'stork-failed-at',
  errorName: 'stork-error-name',
  errorMessage: 'stork-error-message',
  errorStack: 'stork-error-stack',
  consumer: 'stork-consumer',
} as const;

/** What a dead letter says of its death. */
export const deadLetterHeaders = [
  headerNames.deathReason,
  headerNames.failedAt,
  headerNames.errorName,
  headerNames.errorMessage,
  headerNames.errorStack,
  headerNames.consumer,
] as const;

/** Names that only the library may set. */
export const reservedPrefix = 'stork-';

export function emptyHeaders(): Record<string, HeaderValue> {
  return Object.create(null) as Record<string, HeaderValue>;
}

/** Copies own enumerable entries into an object without a prototype. */
export function copyHeaders(from: MessageHeaders | undefined): Record<string, HeaderValue> {
  const copy = emptyHeaders();
  if (from === undefined) return copy;
  for (const name of Object.keys(from)) copy[name] = from[name];
  return copy;
}

/** Text of a header, at most `maxLength` characters; bytes are read as UTF-8, of a repeated header the first value counts. */
export function readText(headers: MessageHeaders, name: string, maxLength = 1_024): string | undefined {
  const value = headers[name];
  if (value === undefined) return undefined;
  const first: HeaderValue = Array.isArray(value) ? (value as readonly HeaderValue[])[0] : value;
  const text =
    first instanceof Uint8Array
      ? Buffer.from(first.buffer, first.byteOffset, first.byteLength).toString()
      : first;
  return typeof text === 'string' && text.length <= maxLength ? text : undefined;
}

/** A key, of whatever length; foreign senders may write a number. */
export function readKey(headers: MessageHeaders, name: string): string | undefined {
  const value = headers[name];
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  return readText(headers, name, Infinity);
}

/** A count of ours. Anything but 1 to 9 decimal digits, e.g. `-1` or `NaN`, counts as absent. */
export function readCount(headers: MessageHeaders, name: string): number | undefined {
  const text = readText(headers, name, 9);
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** A time of ours in milliseconds since the epoch; what is not ISO 8601 counts as absent. */
export function readTime(headers: MessageHeaders, name: string): number | undefined {
  const text = readText(headers, name, 40);
  if (text === undefined || !/^\d{4}-\d\d-\d\dT/.test(text)) return undefined;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}

/** The farthest time that a date can hold, in milliseconds since the epoch. */
export const latestTimeMs = 8.64e15;

/** The form in which times travel; undefined for what is no time, which a foreign sender may claim. */
export function timeText(epochMs: number): string | undefined {
  return Math.abs(epochMs) <= latestTimeMs ? new Date(epochMs).toISOString() : undefined;
}
