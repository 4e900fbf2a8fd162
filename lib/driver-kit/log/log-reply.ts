import {
  copyHeaders,
  headerNames,
  readText,
  type MessageHeaders,
  type HeaderValue,
} from '../../core/message/headers.js';
import {
  noReply,
  readReplyKind,
  type InboundReply,
  type OutboundReply,
  type ReplyKind,
  type ReplyTarget,
} from '../../core/port/message.js';
import { contentTypeOf, kafkaHeaders, type LogRecord, type LogReplyAddress } from './log-record.js';

/**
 * Reads the reply address of a request. A reply topic must end in `.reply` or be listed in `replyTopics`,
 * and must not be consumed by this transport. Whether it exists is not checked here.
 */
export function replyTargetOf(
  headers: MessageHeaders,
  replyTopics: readonly string[],
  isConsumed: (topic: string) => boolean,
): ReplyTarget & { readonly topic?: string } {
  if (headers[kafkaHeaders.replyTopic] === undefined) return noReply;
  const topic = readText(headers, kafkaHeaders.replyTopic, 249);
  const quotedTopic = JSON.stringify(topic?.slice(0, 100) ?? 'no text');
  if (topic === undefined || !(topic.endsWith('.reply') || replyTopics.includes(topic))) {
    const why = `${quotedTopic} is not a reply topic; it must end in .reply or be on the transport's replyTopics`;
    return { kind: 'forged', why };
  }
  if (isConsumed(topic)) return { kind: 'forged', why: `the reply topic ${quotedTopic} is consumed here` };
  const text = readText(headers, kafkaHeaders.replyPartition, 9);
  const partition = text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
  return { kind: 'address', topic, address: { topic, partition } satisfies LogReplyAddress };
}

export function missingReplyTopic(topic: string): ReplyTarget {
  return { kind: 'forged', why: `the reply topic ${JSON.stringify(topic)} does not exist` };
}

/**
 * Nest's clients recognise an error and the end of a stream by Nest's own headers, clients of this library
 * by `stork-reply`.
 */
export function replyHeaders({
  kind,
  correlationId,
  contentType,
  headers,
  body,
}: OutboundReply): Record<string, HeaderValue> {
  const written = copyHeaders(headers);
  written[kafkaHeaders.correlationId] = correlationId;
  written[headerNames.contentType] = contentType;
  if (kind !== 'value') written[headerNames.reply] = kind;
  if (kind === 'value' || kind === 'end') written[kafkaHeaders.isDisposed] = '1';
  if (kind === 'error') written[kafkaHeaders.error] = body;
  return written;
}

/**
 * To a client of Nest the value of an end is one more item, and Kafka has no record without a value. The only
 * reply from which it takes no value is an error, and an empty one does not fail.
 */
export function nestReplyHeaders(reply: OutboundReply): Record<string, HeaderValue> {
  const written = replyHeaders(reply);
  // Clients of this library with Nest's format would take a null, which has no body there, for an end.
  written[headerNames.reply] = reply.kind;
  if (reply.endsStream) written[kafkaHeaders.error] = '';
  return written;
}

/**
 * @param defaultKind the kind of a reply without headers: Nest's servers send the items of a stream without
 * headers, other servers the whole reply
 */
export function readLogReply(
  { headers, value }: Pick<LogRecord, 'headers' | 'value'>,
  defaultKind: 'value' | 'item' = 'value',
): InboundReply {
  const kind = readText(headers, headerNames.reply);
  const nestError = kind === undefined ? readText(headers, kafkaHeaders.error, Infinity) : undefined;
  return {
    kind: kind === undefined ? nestReplyKind(headers, value, defaultKind) : readReplyKind(kind),
    correlationId: readText(headers, kafkaHeaders.correlationId) ?? '',
    body: nestError === undefined ? value : errorBody(nestError),
    contentType: contentTypeOf(headers),
    headers,
  };
}

/** Nest encodes an object as JSON and sends a string as it is, also one like `1`. */
function errorBody(text: string): Buffer {
  return Buffer.from(text.startsWith('{') ? text : JSON.stringify({ message: text }));
}

function nestReplyKind(
  headers: MessageHeaders,
  value: Buffer | null,
  defaultKind: 'value' | 'item',
): ReplyKind {
  if (headers[kafkaHeaders.error] !== undefined) return 'error';
  if (headers[kafkaHeaders.isDisposed] === undefined) return defaultKind;
  return value === null ? 'end' : 'value';
}
