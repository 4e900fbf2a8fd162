import { headerNames, type MessageHeaders } from '../core/message/headers.js';
import { kafkaHeaders } from '../driver-kit/log/log-record.js';
import type { KafkaOptions } from './options/options.js';

// Nest's Kafka transport writes objects and arrays as JSON and every other value as plain text, and sets no
// content type.

/**
 * Whether a request comes from Nest's own client: stork's client always sets a content type and a deadline.
 */
export function isNestRequest(headers: MessageHeaders): boolean {
  return (
    headers[kafkaHeaders.replyTopic] !== undefined &&
    headers[headerNames.contentType] === undefined &&
    headers[headerNames.deadline] === undefined
  );
}

/** Content type of a body in Nest's format; undefined if the record names one, or is not from Nest. */
export function guessContentType(
  headers: MessageHeaders,
  body: Buffer | null,
  wire: KafkaOptions['wire'] = 'auto',
): string | undefined {
  if (wire === 'plain' || (wire === 'auto' && !isNestRequest(headers))) return undefined;
  return headers[headerNames.contentType] === undefined ? nestContentType(body) : undefined;
}

/** Content type of a body in Nest's format: JSON if it parses, else text. */
export function nestContentType(body: Buffer | null): string {
  if (body === null || isJson(body)) return 'application/json';
  return 'text/plain';
}

/** Parses the whole body: plain text may begin like JSON, e.g. `[draft] hello`. */
function isJson(body: Buffer): boolean {
  try {
    JSON.parse(body.toString());
    return true;
  } catch {
    return false;
  }
}

/**
 * A JSON body in Nest's format: strings without quotes and null without a body, because Nest's transport
 * does not parse them.
 */
export function nestBody(body: Buffer, contentType: string): Buffer | null {
  if (contentType !== 'application/json') return body;
  if (body.length === 4 && body.toString() === 'null') return null;
  return body[0] === 0x22 ? Buffer.from(JSON.parse(body.toString()) as string) : body;
}
