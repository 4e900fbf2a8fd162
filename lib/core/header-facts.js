import { headerNames, readCount, readText, readTime } from './headers.js';
import { noReply } from './reply.js';
/**
 * A dead letter that somebody reads like any message is addressed to whoever reads it: the handler, deadline and reply address in it
 * are the story of how it died.
 */
export function readHeaderFacts(message, driver) {
  const { headers } = message;
  if (headers[headerNames.deathReason] !== undefined) return factsOfLetter(message);
  const reply = driver.parseReplyAddress(message);
  return reply instanceof Promise
    ? reply.then((target) => factsOf(headers, target))
    : factsOf(headers, reply);
}
function factsOf(headers, reply) {
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
export function addressee(headers) {
  if (headers[headerNames.handler] === undefined || headers[headerNames.deathReason] !== undefined)
    return undefined;
  return readText(headers, headerNames.handler);
}
function factsOfLetter({ headers }) {
  return {
    attempt: 1,
    firstFailedAt: readTime(headers, headerNames.firstFailedAt),
    deadline: undefined,
    handlerId: undefined,
    reply: noReply,
  };
}
