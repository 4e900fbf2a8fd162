import type { RepublishedMessage } from '../../core/port/delivery.js';
import {
  copyHeaders,
  headerNames,
  readText,
  type MessageHeaders,
  type HeaderValue,
} from '../../core/message/headers.js';
import type { InboundMessage, Origin, OutboundMessage } from '../../core/port/message.js';

// What messages look like as records of a partitioned log, and how its companions are named: the same on Kafka and in memory.

/** A record as it lies in a partition. */
export interface LogRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly key: string | undefined;
  /** null is a tombstone. */
  readonly value: Buffer | null;
  readonly headers: MessageHeaders;
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

/** A record as core sees it. What few handlers ask for is read when they do: it would cost each message. */
export class RecordMessage implements InboundMessage {
  readonly body: Buffer | null;
  readonly headers: MessageHeaders;
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
function patternsOf(headers: MessageHeaders, source: string): readonly string[] {
  const origin = readText(headers, headerNames.origin);
  return origin === undefined || origin === source ? [source] : [origin, source];
}

/** FastStream writes an empty one where it knows none. */
export function contentTypeOf(headers: MessageHeaders): string | undefined {
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
export function republishedHeaders(copy: RepublishedMessage, group: string): Record<string, HeaderValue> {
  const headers = copyHeaders(copy.headers);
  headers[headerNames.group] = group;
  if (copy.to === 'redelivery') return headers;
  delete headers[kafkaHeaders.replyTopic];
  delete headers[kafkaHeaders.replyPartition];
  return headers;
}
