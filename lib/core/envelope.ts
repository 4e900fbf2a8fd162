import type { Driver } from './driver.js';
import { headerNames, readCount, readText, readTime } from './headers.js';
import type { InboundMessage } from './message.js';
import { noReply, type ReplyTarget } from './reply.js';

/** What our own headers say about a delivery; hostile values count as absent. */
export interface Envelope {
  /** Number of the run that comes now, from 1. */
  readonly attempt: number;
  readonly firstFailedAt: number | undefined;
  /** Past it a request is not worth running. Milliseconds since the epoch. */
  readonly deadline: number | undefined;
  /** The one handler that this copy is for; undefined: all. */
  readonly handlerId: string | undefined;
  readonly reply: ReplyTarget;
}

/**
 * A dead letter that somebody reads like any message is addressed to whoever reads it: the handler, deadline and reply address in it
 * are the story of how it died.
 */
export function readEnvelope(message: InboundMessage, driver: Pick<Driver, 'parseReplyAddress'>): Envelope {
  const { headers } = message;
  const attempt = readCount(headers, headerNames.attempt);
  const isLetter = headers[headerNames.deathReason] !== undefined;
  return {
    attempt: attempt === undefined || attempt < 1 || isLetter ? 1 : attempt,
    firstFailedAt: readTime(headers, headerNames.firstFailedAt),
    deadline: isLetter ? undefined : readTime(headers, headerNames.deadline),
    handlerId: isLetter ? undefined : readText(headers, headerNames.handler),
    reply: isLetter ? noReply : driver.parseReplyAddress(message),
  };
}
