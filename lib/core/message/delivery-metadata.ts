import type { Driver } from '../port/driver.js';
import { headerNames, readCount, readText, readTime, type MessageHeaders } from './headers.js';
import { type InboundMessage, noReply, type ReplyTarget } from '../port/message.js';

/**
 * What the `stork-*` headers and the reply address of a message say. An invalid header counts as absent.
 */
export interface DeliveryMetadata {
  /** Number of the next attempt, from 1. */
  readonly attempt: number;
  readonly firstFailedAt: number | undefined;
  /**
   * When the caller of a request stops waiting, in milliseconds since the Unix epoch. A request is not
   * handled after it.
   */
  readonly deadline: number | undefined;
  /** The only handler that a republished message is for. Undefined: all handlers of its pattern. */
  readonly handlerId: string | undefined;
  readonly reply: ReplyTarget;
}

/**
 * For a dead letter that a handler consumes from the dead letter queue or topic, the target handler, the
 * deadline and the reply address are ignored: they describe the failed delivery.
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
    // An event has no caller, so a deadline in its headers has no meaning.
    deadline: reply.kind === 'address' ? readTime(headers, headerNames.deadline) : undefined,
    handlerId: targetHandlerId(headers),
    reply,
  };
}

/** The only handler that a republished message is for. Undefined: all handlers of its pattern. */
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
