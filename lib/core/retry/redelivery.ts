import type { Redelivery } from '../port/delivery.js';
import {
  copyHeaders,
  deadLetterHeaders,
  headerNames,
  headerSetter,
  timeText,
  writeOrigin,
} from '../message/headers.js';
import type { InboundMessage } from '../port/message.js';

export interface NextAttempt {
  /** The only handler that processes the redelivery. */
  readonly handlerId: string;
  readonly attempt: number;
  /** Undefined: no attempt has failed yet. */
  readonly firstFailedAt: number | undefined;
  readonly isDeferral: boolean;
  readonly delayMs: number;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
}

/** The message as it is redelivered after a delay: to one handler, with the number of its next attempt. */
export function buildRedelivery(message: InboundMessage, next: NextAttempt): Redelivery {
  const headers = copyHeaders(message.headers);
  const set = headerSetter(headers);
  writeOrigin(headers, message);
  // Removes the headers of an earlier dead-lettering: with them the consumer would treat the redelivery as a
  // dead letter and ignore its handler and attempt headers.
  for (const name of deadLetterHeaders) set(name, undefined);
  set(headerNames.handler, next.handlerId);
  set(headerNames.attempt, String(next.attempt));
  set(headerNames.firstFailedAt, next.firstFailedAt === undefined ? undefined : timeText(next.firstFailedAt));
  set(headerNames.dueAt, timeText(next.now + next.delayMs));
  return { to: 'redelivery', delayMs: next.delayMs, headers, isDeferral: next.isDeferral };
}
