import type { Driver } from './driver.js';
import { headerNames, readCount, readText, readTime, type Headers } from './headers.js';
import type { InboundMessage } from './message.js';
import { noReply, type ReplyTarget } from './reply.js';

/** What our own headers say about a message; hostile values count as absent. */
export interface HeaderFacts {
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
export function readHeaderFacts(
  message: InboundMessage,
  driver: Pick<Driver, 'parseReplyAddress'>,
): HeaderFacts | Promise<HeaderFacts> {
  const { headers } = message;
  if (headers[headerNames.deathReason] !== undefined) return factsOfLetter(message);
  const reply = driver.parseReplyAddress(message);
  return reply instanceof Promise
    ? reply.then((target) => factsOf(headers, target))
    : factsOf(headers, reply);
}

function factsOf(headers: Headers, reply: ReplyTarget): HeaderFacts {
  const attempt = readCount(headers, headerNames.attempt);
  return {
    attempt: attempt === undefined || attempt < 1 ? 1 : attempt,
    firstFailedAt: readTime(headers, headerNames.firstFailedAt),
    // An event has nobody who stops waiting for it.
    deadline: reply.kind === 'address' ? readTime(headers, headerNames.deadline) : undefined,
    handlerId: addressee(headers),
    reply,
  };
}

/** The one handler that a copy is for; undefined: all. */
export function addressee(headers: Headers): string | undefined {
  if (headers[headerNames.handler] === undefined || headers[headerNames.deathReason] !== undefined)
    return undefined;
  return readText(headers, headerNames.handler);
}

function factsOfLetter({ headers }: InboundMessage): HeaderFacts {
  return {
    attempt: 1,
    firstFailedAt: readTime(headers, headerNames.firstFailedAt),
    deadline: undefined,
    handlerId: undefined,
    reply: noReply,
  };
}
