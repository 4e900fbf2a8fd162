import type { Redelivery } from '../port/delivery.js';
import { copyHeaders, deadLetterHeaders, headerNames, timeText } from '../message/headers.js';
import type { InboundMessage } from '../port/message.js';
import { setterOf, writeOrigin } from '../message/origin.js';

export interface NextAttempt {
  /** The one handler that it is for. */
  readonly handlerId: string;
  readonly attempt: number;
  /** Undefined: no run has failed yet. */
  readonly firstFailedAt: number | undefined;
  readonly isDeferral: boolean;
  readonly delayMs: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** The copy that comes back later, to one handler, with the number of the run that it is for. */
export function buildRedelivery(message: InboundMessage, next: NextAttempt): Redelivery {
  const headers = copyHeaders(message.headers);
  const set = setterOf(headers);
  writeOrigin(headers, message);
  // How it died once is no part of its next run: with it, it would be taken for a letter, which is addressed to all.
  for (const name of deadLetterHeaders) set(name, undefined);
  set(headerNames.handler, next.handlerId);
  set(headerNames.attempt, String(next.attempt));
  set(headerNames.firstFailedAt, next.firstFailedAt === undefined ? undefined : timeText(next.firstFailedAt));
  set(headerNames.dueAt, timeText(next.now + next.delayMs));
  return { to: 'redelivery', delayMs: next.delayMs, headers, isDeferral: next.isDeferral };
}
