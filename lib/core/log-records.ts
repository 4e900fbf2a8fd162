import { createHash } from 'node:crypto';
import type { Copy } from './driver.js';
import { copyHeaders, headerNames, readText, type Headers, type HeaderValue } from './headers.js';
import type { InboundMessage, Origin, OutboundMessage } from './message.js';
import {
  noReply,
  readReplyKind,
  type InboundReply,
  type OutboundReply,
  type ReplyKind,
  type ReplyTarget,
} from './reply.js';

// What messages look like as records of a partitioned log, and how its companions are named: the same on Kafka and in memory.

/** A record as it lies in a partition. */
export interface LogRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly key: string | undefined;
  /** null is a tombstone. */
  readonly value: Buffer | null;
  readonly headers: Headers;
  /** Milliseconds since the epoch. */
  readonly timestamp: number;
}

/** Names that Nest's own Kafka transport writes: its clients can ask us, and ours them. */
export const kafkaHeaders = {
  correlationId: 'kafka_correlationId',
  replyTopic: 'kafka_replyTopic',
  replyPartition: 'kafka_replyPartition',
  error: 'kafka_nest-err',
  isDisposed: 'kafka_nest-is-disposed',
} as const;

/** A partition of a reply topic that one client reads. */
export interface LogReplyAddress {
  readonly topic: string;
  readonly partition: number | undefined;
}

/** What Kafka takes as a topic's name. */
export const legalTopic = /^(?!\.\.?$)[\w.-]{1,249}$/;

/** Companions of ours: never read by a RegExp, or their messages would be dead-lettered again without end. */
export function isCompanion(topic: string): boolean {
  return /(\.dlq|\.dlq\.marks|\.reply)$|\.retry\.|^__/.test(topic);
}

export function deadLetterTopic(topic: string): string {
  return `${legalName(topic)}.dlq`;
}

/** The topic whose letters lie there; undefined for any other. */
export function sourceOfLetters(topic: string): string | undefined {
  return topic.endsWith('.dlq') ? topic.slice(0, -'.dlq'.length) : undefined;
}

/**
 * Characters that no topic's name may have, and names that are too long, become a hash: two of them must not fall together.
 *
 * @param whole what it stands for, where something was left out
 * @param isAmbiguous whether another name could differ from it by `.` and `_` alone, which the broker takes for the same
 */
function legalName(text: string, whole = text, isAmbiguous = false): string {
  const legal = text.replaceAll(/[^\w.-]/g, '-').slice(0, longestPrefix);
  if (legal === whole && !isAmbiguous) return whole;
  return `${legal}-${createHash('sha256').update(whole).digest('hex').slice(0, 8)}`;
}

/** Leaves room for the hash and for what companions append. */
const longestPrefix = 220;
/** Characters of a group that stay in a name that is too long. */
const groupLeft = 60;

/** Where messages of a group wait for their next run, apart from those of other groups and of other delays. */
export function retryTopic(topic: string, group: string, delayMs: number): string {
  return `${retryPrefix(topic, group)}${delayMs}`;
}

/** What a topic is to whoever reads it. */
export interface Home {
  /** The topic whose messages it holds: its own name, but on a retry topic. */
  readonly source: string;
  /** How long messages wait in a retry topic; undefined on a source. */
  readonly delayMs: number | undefined;
}

/** Which of these names are retry topics of the group, and whose. */
export function findRetryTopics(
  names: readonly string[],
  sources: readonly string[],
  group: string,
): ReadonlyMap<string, Home> {
  const byPrefix = new Map(sources.map((source) => [retryPrefix(source, group), source]));
  const found = new Map<string, Home>();
  for (const name of names) {
    const end = name.lastIndexOf('.') + 1;
    const source = byPrefix.get(name.slice(0, end));
    const delay = name.slice(end);
    if (source !== undefined && /^\d{1,10}$/.test(delay)) found.set(name, { source, delayMs: Number(delay) });
  }
  return found;
}

/** Two sources cannot differ by `.` and `_` alone; two groups can. What is between the two tells a companion, so that stays. */
function retryPrefix(topic: string, group: string): string {
  const infix = '.retry.';
  const room = longestPrefix - infix.length - Math.min(group.length, groupLeft);
  const text = topic.slice(0, room) + infix + group;
  return `${legalName(text, topic + infix + group, group.includes('_'))}.`;
}

/** A record as core sees it. What few handlers ask for is read when they do: it would cost each message. */
export class RecordMessage implements InboundMessage {
  readonly body: Buffer | null;
  readonly headers: Headers;
  readonly key: string | undefined;
  readonly patterns: readonly string[];
  readonly raw: unknown;
  readonly #record: LogRecord;
  readonly #source: string;
  /** Where the record itself says nothing. */
  readonly #contentType: string | undefined;

  /**
   * @param raw the client library's own object
   * @param source the topic that it was read for: its own, but on a retry topic
   */
  constructor(
    record: LogRecord,
    patternHeader: string | undefined,
    raw: unknown,
    contentType?: string,
    source = record.topic,
  ) {
    const { headers } = record;
    const named = patternHeader === undefined ? undefined : readText(headers, patternHeader);
    this.body = record.value;
    this.headers = headers;
    this.key = record.key;
    this.patterns = named === undefined ? patternsOf(headers, source) : [named];
    this.raw = raw;
    this.#record = record;
    this.#source = source;
    this.#contentType = contentType;
  }

  get contentType(): string | undefined {
    return contentTypeOf(this.headers) ?? this.#contentType;
  }

  get messageId(): string {
    const said = readText(this.headers, headerNames.messageId);
    return said === undefined || said === '' ? originId(this.#record) : said;
  }

  get correlationId(): string | undefined {
    return readText(this.headers, kafkaHeaders.correlationId);
  }

  /** Below zero a record says that it has none. */
  get timestamp(): number | undefined {
    return this.#record.timestamp < 0 ? undefined : this.#record.timestamp;
  }

  get origin(): Origin {
    const { partition, offset } = this.#record;
    return { source: this.#source, partition, offset: String(offset) };
  }
}

/** Whoever reads letters may name what they were sent to, or where they lie. */
function patternsOf(headers: Headers, source: string): readonly string[] {
  const origin = readText(headers, headerNames.origin);
  return origin === undefined || origin === source ? [source] : [origin, source];
}

/** FastStream writes an empty one where it knows none. */
function contentTypeOf(headers: Headers): string | undefined {
  const text = readText(headers, headerNames.contentType);
  return text === '' ? undefined : text;
}

/** The place where a record was first written, which no retry changes. Half a place is none: others would have the same. */
function originId({ headers, topic, partition, offset }: LogRecord): string {
  const place = [headerNames.originPartition, headerNames.originOffset].map((name) =>
    readText(headers, name),
  );
  const source = readText(headers, headerNames.origin);
  const isWhole =
    source !== undefined && place.every((number) => number !== undefined && /^\d+$/.test(number));
  return isWhole ? [source, ...place].join('/') : `${topic}/${partition}/${offset}`;
}

/** Headers of a message that we send. */
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
export function headersOfCopy(copy: Copy, group: string): Record<string, HeaderValue> {
  const headers = copyHeaders(copy.headers);
  headers[headerNames.group] = group;
  if (copy.to === 'redelivery') return headers;
  delete headers[kafkaHeaders.replyTopic];
  delete headers[kafkaHeaders.replyPartition];
  return headers;
}

/**
 * What a record says about where its answer goes. A reply topic is one by name or by the user's word and is none that we consume;
 * whether it exists, only its broker knows.
 */
export function replyTargetOf(
  headers: Headers,
  replyTopics: readonly string[],
  isConsumed: (topic: string) => boolean,
): ReplyTarget & { readonly topic?: string } {
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
  return { kind: 'address', topic, address: { topic, partition } satisfies LogReplyAddress };
}

export function noSuchReplyTopic(topic: string): ReplyTarget {
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
export function inboundLogReply(
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

function foreignReplyKind(headers: Headers, value: Buffer | null, bare: 'value' | 'item'): ReplyKind {
  if (headers[kafkaHeaders.error] !== undefined) return 'error';
  if (headers[kafkaHeaders.isDisposed] === undefined) return bare;
  return value === null ? 'end' : 'value';
}
