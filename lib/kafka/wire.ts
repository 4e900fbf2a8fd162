import { headerNames, type MessageHeaders } from '../core/message/headers.js';
import { kafkaHeaders } from '../driver-kit/log/log-record.js';
import type { KafkaOptions } from './options/options.js';

// Nest's own Kafka transport writes objects and lists as JSON, everything else as its plain text, and names no content type.

/** Whether a request was written by Nest's own client: ours always names a content type and a deadline. */
export function isNestRequest(headers: MessageHeaders): boolean {
  return (
    headers[kafkaHeaders.replyTopic] !== undefined &&
    headers[headerNames.contentType] === undefined &&
    headers[headerNames.deadline] === undefined
  );
}

/** What a body is whose record names no content type, as one of Nest's transport does not; undefined where it is not Nest's. */
export function guessContentType(
  headers: MessageHeaders,
  body: Buffer | null,
  wire: KafkaOptions['wire'] = 'auto',
): string | undefined {
  if (wire === 'plain' || (wire === 'auto' && !isNestRequest(headers))) return undefined;
  return headers[headerNames.contentType] === undefined ? nestContentType(body) : undefined;
}

/** How to read a body that Nest's transport wrote: JSON where it is that, else text. */
export function nestContentType(body: Buffer | null): string {
  if (body === null || isJson(body)) return 'application/json';
  return 'text/plain';
}

/** Text may begin like JSON: only what can be read as a whole is. */
function isJson(body: Buffer): boolean {
  try {
    JSON.parse(body.toString());
    return true;
  } catch {
    return false;
  }
}

/** A JSON body as Nest's transport would write it: it reads a quoted string with its quotes. */
export function nestBody(body: Buffer, contentType: string): Buffer {
  if (contentType !== 'application/json' || body[0] !== 0x22) return body;
  return Buffer.from(JSON.parse(body.toString()) as string);
}
