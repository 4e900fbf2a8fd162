import type { StoredDeadLetter } from '../../port/dead-letter-store.js';
import type { FailureReason } from '../../runtime/failure.js';
import {
  headerNames,
  readCount,
  readText,
  readTime,
  type MessageHeaders,
  type HeaderValue,
} from '../../message/headers.js';

/**
 * Why a message is a dead letter: a consumer's reason, or the broker's own. `unknown`: nobody who wrote it says.
 *
 * @publicApi
 */
export type DeadLetterReason = FailureReason | 'expired' | 'max-length' | 'delivery-limit' | 'unknown';

/**
 * A dead letter as it lies in its queue or topic. Every field but `id`, `body` and `headers` is what its writer claims.
 *
 * @publicApi
 */
export interface DeadLetterRecord {
  /** Names it for `show`, `replay` and `discard`: on a log `partition/offset`; on a queue made of what the letter says. */
  readonly id: string;
  readonly reason: DeadLetterReason;
  /** Queue or topic in which it failed; undefined where nobody says. */
  readonly source: string | undefined;
  /** The group that failed it; undefined on a queue. */
  readonly group: string | undefined;
  /** Id of the handler that failed; undefined where it came to none. */
  readonly handler: string | undefined;
  readonly pattern: string;
  readonly messageId: string | undefined;
  readonly correlationId: string | undefined;
  readonly key: string | undefined;
  readonly failedAt: Date | undefined;
  readonly firstFailedAt: Date | undefined;
  /** Number of its last run, from 1; 0 where it is not said. */
  readonly attempts: number;
  /** How often it was replayed before. */
  readonly replays: number;
  readonly error: DeadLetterErrorInfo | undefined;
  /** Who failed it: `<hostname>/<pid>/<transport>`. */
  readonly consumer: string | undefined;
  readonly contentType: string | undefined;
  /** When the message was sent, as its sender says. */
  readonly sentAt: Date | undefined;
  /** `null` is a Kafka tombstone. */
  readonly body: Buffer | null;
  /** All of them, ours included, as the broker's client decoded them. */
  readonly headers: MessageHeaders;
}

/** What is known of the error that killed it. @publicApi */
export interface DeadLetterErrorInfo {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

/** As long as a letter's error can be. */
const longestText = 16_384;

/** Total: whatever the headers hold, a letter. */
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
    error: errorOf(headers),
    consumer: readText(headers, headerNames.consumer),
    contentType: message.contentType,
    sentAt: dateOf(readTime(headers, headerNames.originTimestamp) ?? message.timestamp),
    body: message.body,
    headers,
  };
}

function errorOf(headers: MessageHeaders): DeadLetterErrorInfo | undefined {
  const name = readText(headers, headerNames.errorName);
  const message = readText(headers, headerNames.errorMessage, longestText);
  if (name === undefined && message === undefined) return undefined;
  const stack = readText(headers, headerNames.errorStack, longestText);
  return { name: name ?? 'Error', message: message ?? '', stack };
}

/** A foreign sender's time may be none that a date can hold. */
function dateOf(epochMs: number | undefined): Date | undefined {
  if (epochMs === undefined) return undefined;
  const date = new Date(epochMs);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

/** A header's value as people write it. */
export function headerText(value: HeaderValue): string {
  if (typeof value === 'string') return value;
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString();
  if (value instanceof Date) return dateOf(value.getTime())?.toISOString() ?? 'no date';
  if (typeof value === 'object' && value !== null) return jsonOf(value);
  return String(value);
}

function jsonOf(value: object): string {
  try {
    return JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part));
  } catch {
    // Nested too deep to be written.
    return '…';
  }
}
