import type { StoredDeadLetter } from '../../port/dead-letter-store.js';
import { headersErrorName, type InboundMessage } from '../../port/message.js';
import type { FailureReason } from '../../runtime/failure.js';
import {
  headerNames,
  isBytes,
  readCount,
  readText,
  readTime,
  type MessageHeaders,
  type HeaderValue,
} from '../../message/headers.js';

/**
 * Why a message was dead-lettered, by a consumer or by the broker. `unknown`: neither recorded a reason.
 *
 * @publicApi
 */
export type DeadLetterReason = FailureReason | 'expired' | 'max-length' | 'unknown';

/**
 * A dead letter as it is stored in its queue or topic. All fields except `id` and `body` come from headers,
 * which any publisher can forge.
 *
 * @publicApi
 */
export interface DeadLetterRecord {
  /**
   * Identifies it for `show`, `replay` and `discard`: `partition/offset` on a log, a hash of its content on
   * a queue.
   */
  readonly id: string;
  readonly reason: DeadLetterReason;
  /** Queue or topic in which it failed; undefined if not recorded. */
  readonly source: string | undefined;
  /** Consumer group in which it failed; undefined on a queue. */
  readonly group: string | undefined;
  /** Id of the handler that failed; undefined if no handler was called. */
  readonly handler: string | undefined;
  readonly pattern: string;
  readonly messageId: string | undefined;
  readonly correlationId: string | undefined;
  readonly key: string | undefined;
  readonly failedAt: Date | undefined;
  readonly firstFailedAt: Date | undefined;
  /** Number of the last attempt, from 1; 0 if not recorded. */
  readonly attempts: number;
  /** Number of earlier replays. */
  readonly replays: number;
  readonly error: DeadLetterErrorInfo | undefined;
  /** Consumer in which it failed: `<hostname>/<pid>/<transport>`. */
  readonly consumer: string | undefined;
  readonly contentType: string | undefined;
  /** Timestamp of the message, set by its sender. */
  readonly sentAt: Date | undefined;
  /** `null` is a tombstone of a log. */
  readonly body: Buffer | null;
  /** All headers, including `stork-*`, as the broker's client decoded them. */
  readonly headers: MessageHeaders;
}

/** The error of the last attempt. @publicApi */
export interface DeadLetterErrorInfo {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  /** Name and message of what an exception filter made of it; undefined if none changed it. */
  readonly filterError: string | undefined;
}

/** Maximum length of an error message or stack in the headers. */
const maxErrorTextLength = 16_384;

/** Never throws, whatever the headers contain. */
export function readDeadLetter({ id, message, brokerCause }: StoredDeadLetter): DeadLetterRecord {
  const { headers } = message;
  const reason = readText(headers, headerNames.deathReason);
  return {
    id,
    reason: (reason as DeadLetterReason | undefined) ?? brokerCause?.reason ?? 'unknown',
    source: readText(headers, headerNames.origin) ?? brokerCause?.source,
    group: readText(headers, headerNames.group),
    handler: readText(headers, headerNames.handler),
    pattern: message.patterns[0]!,
    messageId: message.messageId,
    correlationId: readText(headers, headerNames.correlationId) ?? message.correlationId,
    key: message.key,
    failedAt: dateOf(readTime(headers, headerNames.failedAt) ?? brokerCause?.at),
    firstFailedAt: dateOf(readTime(headers, headerNames.firstFailedAt)),
    attempts: readCount(headers, headerNames.attempt) ?? 0,
    replays: readCount(headers, headerNames.replayCount) ?? 0,
    error: errorOf(message),
    consumer: readText(headers, headerNames.consumer),
    contentType: message.contentType,
    sentAt: dateOf(readTime(headers, headerNames.originTimestamp) ?? message.timestamp),
    body: message.body,
    headers,
  };
}

function errorOf({ headers, headersError }: InboundMessage): DeadLetterErrorInfo | undefined {
  if (headersError !== undefined)
    return { name: headersErrorName, message: headersError, stack: undefined, filterError: undefined };
  const name = readText(headers, headerNames.errorName);
  const message = readText(headers, headerNames.errorMessage, maxErrorTextLength);
  if (name === undefined && message === undefined) return undefined;
  const stack = readText(headers, headerNames.errorStack, maxErrorTextLength);
  const filterError = readText(headers, headerNames.filterError, maxErrorTextLength);
  return { name: name ?? 'Error', message: message ?? '', stack, filterError };
}

/** Undefined for a number that a `Date` cannot hold: the sender may have written any. */
function dateOf(epochMs: number | undefined): Date | undefined {
  if (epochMs === undefined) return undefined;
  const date = new Date(epochMs);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

/** A header value as readable text. */
export function headerText(value: HeaderValue): string {
  if (typeof value === 'string') return value;
  if (isBytes(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString();
  if (value instanceof Date) return dateOf(value.getTime())?.toISOString() ?? 'no date';
  if (typeof value === 'object' && value !== null) return jsonOf(value);
  return String(value);
}

function jsonOf(value: object): string {
  try {
    return JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part));
  } catch {
    // Nested too deep for `JSON.stringify`.
    return '…';
  }
}
