import type { StoredDeadLetter } from '../port/dead-letter-store.js';
import {
  copyHeaders,
  deadLetterHeaders,
  headerNames,
  readCount,
  type MessageHeaders,
  timeText,
} from '../message/headers.js';
import { headerSetter, writeOrigin, writeDeadLetterOrigin } from '../message/origin.js';
import { hostname } from 'node:os';
import type { DeadLetterPolicy } from './dead-letter-options.js';
import type { RepublishedMessage } from '../port/delivery.js';
import { stackOf } from '../runtime/errors.js';
import type { Failure } from '../runtime/failure.js';
import type { InboundMessage } from '../port/message.js';
import { cutToBytes } from '../message/text.js';

/**
 * Limits of the error's texts: a dead letter's headers must fit into one frame of 128 KiB, together with
 * the message's own.
 */
const maxNameBytes = 256;
const maxMessageBytes = 1_024;
const maxStackBytes = 4_096;

export interface DeadLetterCause {
  readonly failure: Failure;
  /** Id of the failed handler; undefined if there was none. */
  readonly handlerId: string | undefined;
  /** Number of the last attempt. */
  readonly attempt: number;
  readonly firstFailedAt: number | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly failedAt: number;
  readonly subscription: string;
  /** What may be disclosed about the error; undefined: everything. */
  readonly policy?: Pick<DeadLetterPolicy, 'includeStack' | 'redact'> | undefined;
  /** The handler's own dead letter queue or topic; undefined: the default of the source. */
  readonly target?: string | undefined;
}

const host = hostname();

/**
 * Builds the dead letter: the message with its own headers, overwritten by those that describe the failure.
 */
export function buildDeadLetter(message: InboundMessage, cause: DeadLetterCause): RepublishedMessage {
  const headers = copyHeaders(message.headers);
  const set = headerSetter(headers);
  writeDeadLetterOrigin(headers, message);
  const { reason, envelope, error } = cause.failure;
  set(headerNames.deathReason, reason);
  set(headerNames.failedAt, timeText(cause.failedAt));
  set(headerNames.firstFailedAt, timeText(cause.firstFailedAt ?? cause.failedAt));
  set(headerNames.attempt, String(cause.attempt));
  set(headerNames.handler, cause.handlerId);
  set(headerNames.errorName, cutToBytes(envelope.name, maxNameBytes));
  const stack = cause.policy?.includeStack === false ? undefined : stackOf(error);
  const disclose = (text: string, maxBytes: number): string => cutToBytes(redacted(text, cause), maxBytes);
  set(headerNames.errorMessage, disclose(envelope.message, maxMessageBytes));
  set(headerNames.errorStack, stack === undefined ? undefined : disclose(stack, maxStackBytes));
  set(headerNames.consumer, `${host}/${process.pid}/${cause.subscription}`);
  return cause.target === undefined
    ? { to: 'dead-letter', headers }
    : { to: 'dead-letter', headers, target: cause.target };
}

/** If `redact` fails, the text is not stored at all. */
function redacted(text: string, { policy }: DeadLetterCause): string {
  if (policy?.redact === undefined) return text;
  try {
    const redactedText: unknown = policy.redact(text);
    return typeof redactedText === 'string' ? redactedText : '(redacted)';
  } catch {
    return '(redacted)';
  }
}

/**
 * Headers about earlier attempts, which a replay removes: the attempts of a replayed message start at 1
 * again. The handler header stays, so that the replay reaches only the handler that failed.
 */
const attemptHeaders = [
  headerNames.attempt,
  headerNames.firstFailedAt,
  headerNames.dueAt,
  headerNames.deadline,
];

/** Headers of a replayed message: with an incremented replay count and the original source. */
export function replayHeaders({ message, brokerCause }: StoredDeadLetter): MessageHeaders {
  const headers = copyHeaders(message.headers);
  const set = headerSetter(headers);
  // If the broker dead-lettered the message, no consumer has written the origin headers.
  if (brokerCause !== undefined) writeOrigin(headers, { origin: brokerCause, timestamp: message.timestamp });
  for (const name of [...attemptHeaders, ...deadLetterHeaders]) set(name, undefined);
  set(headerNames.replayCount, String((readCount(headers, headerNames.replayCount) ?? 0) + 1));
  return headers;
}
