import type { Driver } from '../port/driver.js';
import { headerNames, readCount, readText, readTime, type MessageHeaders } from './headers.js';
import { type InboundMessage, noReply, type ReplyTarget } from '../port/message.js';

/** What our own headers say about a message; hostile values count as absent. */
export interface DeliveryMetadata {
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
export function readDeliveryMetadata(
  message: InboundMessage,
  driver: Pick<Driver, 'parseReplyAddress'>,
): DeliveryMetadata | Promise<DeliveryMetadata> {
  const { headers } = message;
  if (headers[headerNames.deathReason] !== undefined) return metadataOfDeadLetter(message);
  const reply = driver.parseReplyAddress(message);
  return reply instanceof Promise
    ? reply.then((target) => metadataOf(headers, target))
    : metadataOf(headers, reply);
}

function metadataOf(headers: MessageHeaders, reply: ReplyTarget): DeliveryMetadata {
  const attempt = readCount(headers, headerNames.attempt);
  return {
    attempt: attempt === undefined || attempt < 1 ? 1 : attempt,
    firstFailedAt: readTime(headers, headerNames.firstFailedAt),
    // An event has nobody who stops waiting for it.
    deadline: reply.kind === 'address' ? readTime(headers, headerNames.deadline) : undefined,
    handlerId: targetHandlerId(headers),
    reply,
  };
}

/** The one handler that a copy is for; undefined: all. */
export function targetHandlerId(headers: MessageHeaders): string | undefined {
  if (headers[headerNames.handler] === undefined || headers[headerNames.deathReason] !== undefined)
    return undefined;
  return readText(headers, headerNames.handler);
}

function metadataOfDeadLetter({ headers }: InboundMessage): DeliveryMetadata {
  return {
    attempt: 1,
    firstFailedAt: readTime(headers, headerNames.firstFailedAt),
    deadline: undefined,
    handlerId: undefined,
    reply: noReply,
  };
}
