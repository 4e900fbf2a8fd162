import type { StoredDeadLetter } from '../port/dead-letter-store.js';
import {
  copyHeaders,
  deadLetterHeaders,
  headerNames,
  readCount,
  type MessageHeaders,
  timeText,
} from '../message/headers.js';
import { setterOf, writeOrigin, writeDeadLetterOrigin } from '../message/origin.js';
import { hostname } from 'node:os';
import type { DeadLetterPolicy } from './dead-letter-options.js';
import type { RepublishedMessage } from '../port/delivery.js';
import { stackOf } from '../runtime/errors.js';
import type { Failure } from '../runtime/failure.js';
import type { InboundMessage } from '../port/message.js';
import { cutToBytes } from '../message/text.js';

/** What is told of an error, so that it fits beside a message's own headers into one frame of 128 KiB or one Kafka header set. */
const maxNameBytes = 256;
const maxMessageBytes = 1_024;
const maxStackBytes = 4_096;

export interface DeadLetterCause {
  readonly failure: Failure;
  /** Id of the handler that failed; undefined where none was found. */
  readonly handlerId: string | undefined;
  /** Number of the last run. */
  readonly attempt: number;
  readonly firstFailedAt: number | undefined;
  /** Milliseconds since the epoch. */
  readonly failedAt: number;
  readonly subscription: string;
  /** What the handler's policy says of what may be told; undefined: everything. */
  readonly policy?: Pick<DeadLetterPolicy, 'includeStack' | 'redact'> | undefined;
  /** Where the handler wants it; undefined: the source's companion. */
  readonly target?: string | undefined;
}

const host = hostname();

/** The copy that goes to the dead letter queue or topic: the message's own headers, ours written over them. */
export function buildDeadLetter(message: InboundMessage, death: DeadLetterCause): RepublishedMessage {
  const headers = copyHeaders(message.headers);
  const set = setterOf(headers);
  writeDeadLetterOrigin(headers, message);
  const { reason, envelope, error } = death.failure;
  set(headerNames.deathReason, reason);
  set(headerNames.failedAt, timeText(death.failedAt));
  set(headerNames.firstFailedAt, timeText(death.firstFailedAt ?? death.failedAt));
  set(headerNames.attempt, String(death.attempt));
  set(headerNames.handler, death.handlerId);
  set(headerNames.errorName, cutToBytes(envelope.name, maxNameBytes));
  const stack = death.policy?.includeStack === false ? undefined : stackOf(error);
  const tell = (text: string, maxBytes: number): string => cutToBytes(redacted(text, death), maxBytes);
  set(headerNames.errorMessage, tell(envelope.message, maxMessageBytes));
  set(headerNames.errorStack, stack === undefined ? undefined : tell(stack, maxStackBytes));
  set(headerNames.consumer, `${host}/${process.pid}/${death.subscription}`);
  return death.target === undefined
    ? { to: 'dead-letter', headers }
    : { to: 'dead-letter', headers, target: death.target };
}

/** What cannot be made fit to be stored is not. */
function redacted(text: string, { policy }: DeadLetterCause): string {
  if (policy?.redact === undefined) return text;
  try {
    const fit: unknown = policy.redact(text);
    return typeof fit === 'string' ? fit : '(redacted)';
  } catch {
    return '(redacted)';
  }
}

/** What is told of the runs before it: the replayed message begins anew. Its handler's name stays: it is for nobody else. */
const ofItsRuns = [headerNames.attempt, headerNames.firstFailedAt, headerNames.dueAt, headerNames.deadline];

/** Headers of the copy that goes back: one replay more, and where the message first came from. */
export function replayHeaders({ message, brokerCause }: StoredDeadLetter): MessageHeaders {
  const headers = copyHeaders(message.headers);
  const set = setterOf(headers);
  // Where the broker has killed it, nobody of ours has written it down.
  if (brokerCause !== undefined) writeOrigin(headers, { origin: brokerCause, timestamp: message.timestamp });
  for (const name of [...ofItsRuns, ...deadLetterHeaders]) set(name, undefined);
  set(headerNames.replayCount, String((readCount(headers, headerNames.replayCount) ?? 0) + 1));
  return headers;
}
