import { copyHeaders, headerNames, readText } from './headers.js';
import { noReply, readReplyKind } from './reply.js';
/** Names that Nest's own Kafka transport writes: its clients can ask us, and ours them. */
export const kafkaHeaders = {
  correlationId: 'kafka_correlationId',
  replyTopic: 'kafka_replyTopic',
  replyPartition: 'kafka_replyPartition',
  error: 'kafka_nest-err',
  isDisposed: 'kafka_nest-is-disposed',
};
/** What Kafka takes as a topic's name. */
export const legalTopic = /^(?!\.\.?$)[\w.-]{1,249}$/;
/** Companions of ours: never read by a RegExp, or their messages would be dead-lettered again without end. */
export function isCompanion(topic) {
  return /(\.dlq|\.dlq\.marks|\.reply)$|\.retry\.|^__/.test(topic);
}
export function deadLetterTopic(topic) {
  return `${topic}.dlq`;
}
/** @param raw the client library's own object */
export function inboundRecord(record, patternHeader, raw) {
  const { topic, partition, offset, headers } = record;
  const named = patternHeader === undefined ? undefined : readText(headers, patternHeader);
  return {
    body: record.value,
    headers,
    patterns: [named ?? readText(headers, headerNames.origin) ?? topic],
    contentType: contentTypeOf(headers),
    messageId: readText(headers, headerNames.messageId) ?? originId(record),
    correlationId: readText(headers, kafkaHeaders.correlationId),
    key: record.key,
    // Below zero a record says that it has none.
    timestamp: record.timestamp < 0 ? undefined : record.timestamp,
    origin: { source: topic, partition, offset: String(offset) },
    raw,
  };
}
/** FastStream writes an empty one where it knows none. */
function contentTypeOf(headers) {
  const text = readText(headers, headerNames.contentType);
  return text === '' ? undefined : text;
}
/** The place where a record was first written, which no retry changes. */
function originId({ headers, topic, partition, offset }) {
  const source = readText(headers, headerNames.origin);
  if (source === undefined) return `${topic}/${partition}/${offset}`;
  return `${source}/${readText(headers, headerNames.originPartition)}/${readText(headers, headerNames.originOffset)}`;
}
/** Headers of a message that we send. */
export function outboundHeaders(message, patternHeader) {
  const headers = copyHeaders(message.headers);
  headers[headerNames.messageId] = message.messageId;
  headers[headerNames.contentType] = message.contentType;
  if (patternHeader !== undefined) headers[patternHeader] = message.pattern;
  if (message.correlationId !== undefined) headers[kafkaHeaders.correlationId] = message.correlationId;
  const to = message.replyTo;
  if (to === undefined) return headers;
  headers[kafkaHeaders.replyTopic] = to.topic;
  headers[kafkaHeaders.replyPartition] = String(to.partition);
  return headers;
}
/** A letter has no reply address: whoever waited there was told, or is gone. */
export function letterHeaders(copy, group) {
  const headers = copyHeaders(copy.headers);
  headers[headerNames.group] = group;
  delete headers[kafkaHeaders.replyTopic];
  delete headers[kafkaHeaders.replyPartition];
  return headers;
}
/**
 * What a record says about where its answer goes. A reply topic is one by name or by the user's word and is none that we consume;
 * whether it exists, only its broker knows.
 */
export function replyTargetOf(headers, replyTopics, isConsumed) {
  if (headers[kafkaHeaders.replyTopic] === undefined) return noReply;
  const topic = readText(headers, kafkaHeaders.replyTopic, 249);
  const shown = JSON.stringify(topic?.slice(0, 100) ?? 'no text');
  if (topic === undefined || !(topic.endsWith('.reply') || replyTopics.includes(topic))) {
    const why = `${shown} is not a reply topic; it must end in .reply or be on the transport's replyTopics`;
    return { kind: 'forged', why };
  }
  if (isConsumed(topic)) return { kind: 'forged', why: `the reply topic ${shown} is consumed here` };
  const text = readText(headers, kafkaHeaders.replyPartition, 9);
  const partition = text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
  return { kind: 'address', topic, address: { topic, partition } };
}
export function noSuchReplyTopic(topic) {
  return { kind: 'forged', why: `the reply topic ${JSON.stringify(topic)} does not exist` };
}
/** Nest's clients know an error and the end by its own headers, ours by `stork-reply`. */
export function replyHeaders({ kind, correlationId, contentType, headers, body }) {
  const written = copyHeaders(headers);
  written[kafkaHeaders.correlationId] = correlationId;
  written[headerNames.contentType] = contentType;
  if (kind !== 'value') written[headerNames.reply] = kind;
  if (kind === 'value' || kind === 'end') written[kafkaHeaders.isDisposed] = '1';
  if (kind === 'error') written[kafkaHeaders.error] = body;
  return written;
}
/** @param bare what a reply is that says nothing of itself: Nest's servers write one item of a stream so, others the whole answer */
export function inboundLogReply({ headers, value }, bare = 'value') {
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
function errorBody(text) {
  return Buffer.from(text.startsWith('{') ? text : JSON.stringify({ message: text }));
}
function foreignReplyKind(headers, value, bare) {
  if (headers[kafkaHeaders.error] !== undefined) return 'error';
  if (headers[kafkaHeaders.isDisposed] === undefined) return bare;
  return value === null ? 'end' : 'value';
}
