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
 * What a record says about where its answer goes. A reply topic is one by name or by the user's word and is none that we consume;
 * whether it exists, only its broker knows.
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

/** Nest's clients know an error and the end by its own headers, ours by `stork-reply`. */
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

/** @param bare what a reply is that says nothing of itself: Nest's servers write one item of a stream so, others the whole answer */
export function readLogReply(
  { headers, value }: Pick<LogRecord, 'headers' | 'value'>,
  bare: 'value' | 'item' = 'value',
): InboundReply {
  const said = readText(headers, headerNames.reply);
  const nestError = said === undefined ? readText(headers, kafkaHeaders.error, Infinity) : undefined;
  return {
    kind: said === undefined ? foreignReplyKind(headers, value, bare) : readReplyKind(said),
    correlationId: readText(headers, kafkaHeaders.correlationId) ?? '',
    body: nestError === undefined ? value : errorBody(nestError),
    contentType: contentTypeOf(headers),
    headers,
  };
}

/** Nest writes an object as JSON and text as it is, also text that reads like a number. */
function errorBody(text: string): Buffer {
  return Buffer.from(text.startsWith('{') ? text : JSON.stringify({ message: text }));
}

function foreignReplyKind(headers: MessageHeaders, value: Buffer | null, bare: 'value' | 'item'): ReplyKind {
  if (headers[kafkaHeaders.error] !== undefined) return 'error';
  if (headers[kafkaHeaders.isDisposed] === undefined) return bare;
  return value === null ? 'end' : 'value';
}
