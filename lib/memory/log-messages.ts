import type { Copy } from '../core/driver.js';
import { copyHeaders, headerNames, readText, type HeaderValue } from '../core/headers.js';
import type { InboundMessage, OutboundMessage } from '../core/message.js';
import {
  noReply,
  readReplyKind,
  type InboundReply,
  type OutboundReply,
  type ReplyTarget,
} from '../core/reply.js';
import type { MemoryBroker } from './broker/memory-broker.js';
import type { MemoryRecord } from './broker/memory-topic.js';

/** Names that Nest's own Kafka transport writes: its clients can ask us, and ours them. */
export const kafkaHeaders = {
  correlationId: 'kafka_correlationId',
  replyTopic: 'kafka_replyTopic',
  replyPartition: 'kafka_replyPartition',
} as const;

/** A partition of a reply topic that one client reads. */
export interface LogReplyAddress {
  readonly topic: string;
  readonly partition: number | undefined;
}

/** Companions of ours: never read by a RegExp, or their messages would be dead-lettered again without end. */
export function isCompanion(topic: string): boolean {
  return /(\.dlq|\.dlq\.marks|\.reply)$|\.retry\.|^__/.test(topic);
}

export function deadLetterTopic(topic: string): string {
  return `${topic}.dlq`;
}

export function inboundRecord(record: MemoryRecord, patternHeader: string | undefined): InboundMessage {
  const { topic, partition, offset, headers } = record;
  const named = patternHeader === undefined ? undefined : readText(headers, patternHeader);
  return {
    body: record.value,
    headers,
    patterns: [named ?? readText(headers, headerNames.origin) ?? topic],
    contentType: readText(headers, headerNames.contentType),
    messageId: readText(headers, headerNames.messageId) ?? originId(record),
    correlationId: readText(headers, kafkaHeaders.correlationId),
    key: record.key,
    timestamp: record.timestamp,
    origin: { source: topic, partition, offset: String(offset) },
    raw: record,
  };
}

/** The place where a record was first written, which no retry changes. */
function originId({ headers, topic, partition, offset }: MemoryRecord): string {
  const source = readText(headers, headerNames.origin);
  if (source === undefined) return `${topic}/${partition}/${offset}`;
  return `${source}/${readText(headers, headerNames.originPartition)}/${readText(headers, headerNames.originOffset)}`;
}

export function outboundHeaders(
  message: OutboundMessage,
  patternHeader: string | undefined,
): Record<string, HeaderValue> {
  const headers = copyHeaders(message.headers);
  headers[headerNames.messageId] = message.messageId;
  headers[headerNames.contentType] = message.contentType;
  if (patternHeader !== undefined) headers[patternHeader] = message.pattern;
  if (message.correlationId !== undefined) headers[kafkaHeaders.correlationId] = message.correlationId;
  const to = message.replyTo as LogReplyAddress | undefined;
  if (to === undefined) return headers;
  headers[kafkaHeaders.replyTopic] = to.topic;
  headers[kafkaHeaders.replyPartition] = String(to.partition);
  return headers;
}

/** A letter has no reply address: whoever waited there was told, or is gone. */
export function letterHeaders(copy: Copy, group: string): Record<string, HeaderValue> {
  const headers = copyHeaders(copy.headers);
  headers[headerNames.group] = group;
  delete headers[kafkaHeaders.replyTopic];
  delete headers[kafkaHeaders.replyPartition];
  return headers;
}

/** A reply topic exists, is one by name or by the user's word, and is none that we consume. */
export function replyTargetOf(
  message: InboundMessage,
  broker: MemoryBroker,
  replyTopics: readonly string[],
  isConsumed: (topic: string) => boolean,
): ReplyTarget {
  if (message.headers[kafkaHeaders.replyTopic] === undefined) return noReply;
  const topic = readText(message.headers, kafkaHeaders.replyTopic, 249);
  const shown = JSON.stringify(topic?.slice(0, 100) ?? 'no text');
  if (topic === undefined || !(topic.endsWith('.reply') || replyTopics.includes(topic))) {
    return {
      kind: 'forged',
      why: `${shown} is not a reply topic; it must end in .reply or be on the transport's replyTopics`,
    };
  }
  if (broker.topic(topic) === undefined || isConsumed(topic)) {
    return { kind: 'forged', why: `the reply topic ${shown} does not exist, or is consumed here` };
  }
  const text = readText(message.headers, kafkaHeaders.replyPartition, 9);
  const partition = text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
  return { kind: 'address', address: { topic, partition } satisfies LogReplyAddress };
}

export function replyHeaders({
  kind,
  correlationId,
  contentType,
  headers,
}: OutboundReply): Record<string, HeaderValue> {
  const written = copyHeaders(headers);
  written[kafkaHeaders.correlationId] = correlationId;
  written[headerNames.contentType] = contentType;
  if (kind !== 'value') written[headerNames.reply] = kind;
  return written;
}

export function inboundLogReply({ headers, value }: MemoryRecord): InboundReply {
  return {
    kind: readReplyKind(readText(headers, headerNames.reply)),
    correlationId: readText(headers, kafkaHeaders.correlationId) ?? '',
    body: value,
    contentType: readText(headers, headerNames.contentType),
    headers,
  };
}
