import { headerNames } from '../core/headers.js';
import { kafkaHeaders } from '../core/log-records.js';
// Nest's own Kafka transport writes objects and lists as JSON, everything else as its plain text, and names no content type.
/** Whether a request was written by Nest's own client: ours always names a content type and a deadline. */
export function isNestRequest(headers) {
  return (
    headers[kafkaHeaders.replyTopic] !== undefined &&
    headers[headerNames.contentType] === undefined &&
    headers[headerNames.deadline] === undefined
  );
}
/** How to read a body that Nest's transport wrote: JSON where it is that, else text. */
export function nestContentType(body) {
  if (body === null || isJson(body)) return 'application/json';
  return 'text/plain';
}
/** Text may begin like JSON: only what can be read as a whole is. */
function isJson(body) {
  try {
    JSON.parse(body.toString());
    return true;
  } catch {
    return false;
  }
}
/** A JSON body as Nest's transport would write it: it reads a quoted string with its quotes. */
export function nestBody(body, contentType) {
  if (contentType !== 'application/json' || body[0] !== 0x22) return body;
  return Buffer.from(JSON.parse(body.toString()));
}
