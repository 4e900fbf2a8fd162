/**
 * A header value: some protocols have typed values and tables, others only bytes, or a list of bytes for a
 * repeated header.
 */
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

/**
 * Headers of a message. Header objects created by the library have no prototype, so that `__proto__` is an
 * ordinary name.
 */
export type MessageHeaders = Readonly<Record<string, HeaderValue>>;

/**
 * Names of all headers that the library writes. Values are text: times in ISO 8601 UTC with milliseconds,
 * counts in decimal. A header is overwritten, never appended.
 */
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
  /** Number of an item of a streamed reply, from 1: an item that was sent again arrives once. */
  replyItem: 'stork-reply-item',
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
  /** How often the message has returned to its source because no handler took it. */
  unhandledCount: 'stork-unhandled-count',
  deathReason: 'stork-death-reason',
  failedAt: 'stork-failed-at',
  errorName: 'stork-error-name',
  errorMessage: 'stork-error-message',
  errorStack: 'stork-error-stack',
  filterError: 'stork-filter-error',
  consumer: 'stork-consumer',
} as const;

/** Headers that describe why a message was dead-lettered. */
export const deadLetterHeaders = [
  headerNames.deathReason,
  headerNames.failedAt,
  headerNames.errorName,
  headerNames.errorMessage,
  headerNames.errorStack,
  headerNames.filterError,
  headerNames.consumer,
] as const;

/** Prefix of the names that only the library may set. */
export const reservedPrefix = 'stork-';

export function emptyHeaders(): Record<string, HeaderValue> {
  return Object.create(null) as Record<string, HeaderValue>;
}

/** Copies own enumerable properties into an object without a prototype. */
export function copyHeaders(from: MessageHeaders | undefined): Record<string, HeaderValue> {
  const copy = emptyHeaders();
  if (from === undefined) return copy;
  for (const name of Object.keys(from)) copy[name] = from[name];
  return copy;
}

/** Not by `instanceof`: a table from the wire can have `__proto__` as a name, with bytes as its value. */
export function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value);
}

/**
 * A header as text, of at most `maxLength` characters; undefined if it is longer or not text. Bytes are
 * decoded as UTF-8. The first value of a repeated header counts.
 */
export function readText(headers: MessageHeaders, name: string, maxLength = 1_024): string | undefined {
  const value = headers[name];
  if (value === undefined) return undefined;
  const first: HeaderValue = Array.isArray(value) ? (value as readonly HeaderValue[])[0] : value;
  const text = isBytes(first)
    ? Buffer.from(first.buffer, first.byteOffset, first.byteLength).toString()
    : first;
  return typeof text === 'string' && text.length <= maxLength ? text : undefined;
}

/**
 * A header as text, whatever its type on the broker: bytes are decoded as UTF-8, numbers and booleans
 * written out, times in ISO 8601. The first value of a repeated header counts.
 *
 * @returns undefined if the header is absent, empty (`null`) or a table
 */
export function headerText(headers: MessageHeaders, name: string): string | undefined {
  const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
  const first: HeaderValue = Array.isArray(value) ? (value as readonly HeaderValue[])[0] : value;
  if (first === undefined || first === null) return undefined;
  if (first instanceof Date) return timeText(first.getTime());
  if (typeof first === 'object') return readText({ first }, 'first', Infinity);
  return String(first);
}

/** An ordering key, without a limit of its length. Other libraries may write a number. */
export function readKey(headers: MessageHeaders, name: string): string | undefined {
  const value = headers[name];
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  return readText(headers, name, Infinity);
}

/**
 * A count that the library has written. A value other than 1 to 9 decimal digits, e.g. `-1` or `NaN`,
 * counts as absent.
 */
export function readCount(headers: MessageHeaders, name: string): number | undefined {
  const text = readText(headers, name, 9);
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

/**
 * A time that the library has written, in milliseconds since the Unix epoch. A value that is not ISO 8601
 * counts as absent.
 */
export function readTime(headers: MessageHeaders, name: string): number | undefined {
  const text = readText(headers, name, 40);
  if (text === undefined || !/^\d{4}-\d\d-\d\dT/.test(text)) return undefined;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}

/** The latest time that a `Date` can hold, in milliseconds since the Unix epoch. */
export const latestTimeMs = 8.64e15;

/** A time as header text. Undefined if a `Date` cannot hold it: the sender may have written any number. */
export function timeText(epochMs: number): string | undefined {
  return Math.abs(epochMs) <= latestTimeMs ? new Date(epochMs).toISOString() : undefined;
}

/** Where a message was consumed from. Replays and operators find the source by it. */
export interface Origin {
  /** Name of the queue or topic. */
  readonly source: string;
  readonly exchange?: string;
  readonly routingKey?: string;
  readonly partition?: number;
  readonly offset?: string;
}

/** A message whose origin headers are written; only the source is always known. */
interface OriginatedMessage {
  readonly origin: { readonly [Name in keyof Origin]: Origin[Name] | undefined } & Pick<Origin, 'source'>;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp: number | undefined;
}

/** Returns a function that overwrites a header, or deletes it if the text is undefined. */
export function headerSetter(
  headers: Record<string, HeaderValue>,
): (name: string, text: string | undefined) => void {
  return (name, text) => {
    if (text === undefined) delete headers[name];
    else headers[name] = text;
  };
}

/**
 * Written when a message is first republished and never changed, because a replay goes to the first source.
 */
export function writeOrigin(
  headers: Record<string, HeaderValue>,
  { origin, timestamp }: OriginatedMessage,
): void {
  if (headers[headerNames.origin] !== undefined) return;
  const set = headerSetter(headers);
  set(headerNames.origin, origin.source);
  set(headerNames.originExchange, origin.exchange);
  set(headerNames.originRoutingKey, origin.routingKey);
  set(headerNames.originPartition, origin.partition?.toString());
  set(headerNames.originOffset, origin.offset);
  set(headerNames.originTimestamp, timestamp === undefined ? undefined : timeText(timestamp));
}

/**
 * Like `writeOrigin`, for a dead letter. An origin header that names another source than the one that was
 * consumed is replaced: the message was moved, or the header is forged, and the dead letter would be listed
 * under neither source. The origin is kept if the consumed source is itself a dead letter queue or topic.
 */
export function writeDeadLetterOrigin(
  headers: Record<string, HeaderValue>,
  message: OriginatedMessage,
): void {
  const { source } = message.origin;
  if (readText(headers, headerNames.origin) !== source && !source.endsWith('.dlq'))
    delete headers[headerNames.origin];
  writeOrigin(headers, message);
}
