import type { RepublishedMessage } from '../../core/port/delivery.js';
import {
  copyHeaders,
  headerNames,
  readText,
  type MessageHeaders,
  type HeaderValue,
  type Origin,
} from '../../core/message/headers.js';
import type { InboundMessage, OutboundMessage } from '../../core/port/message.js';

// Maps messages to the records of a partitioned log and back, on Kafka and in the memory log broker.

/** A record of a partition. */
export interface LogRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly key: string | undefined;
  /** `null` is a tombstone. */
  readonly value: Buffer | null;
  readonly headers: MessageHeaders;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp: number;
}

/**
 * Headers of Nest's own Kafka transport, so that requests work between its clients and servers and those of
 * this library.
 */
export const kafkaHeaders = {
  correlationId: 'kafka_correlationId',
  replyTopic: 'kafka_replyTopic',
  replyPartition: 'kafka_replyPartition',
  error: 'kafka_nest-err',
  isDisposed: 'kafka_nest-is-disposed',
} as const;

const protocolHeaders: ReadonlySet<string> = new Set([
  ...Object.values(kafkaHeaders),
  headerNames.contentType,
]);

/** The partition of a reply topic that one client consumes. */
export interface LogReplyAddress {
  readonly topic: string;
  readonly partition: number | undefined;
}

/**
 * A record as an inbound message. Fields that few handlers read are getters, to keep the cost of a message
 * low.
 */
export class RecordMessage implements InboundMessage {
  readonly body: Buffer | null;
  readonly headers: MessageHeaders;
  readonly key: string | undefined;
  readonly patterns: readonly string[];
  readonly raw: unknown;
  readonly #record: LogRecord;
  readonly #source: string;
  /** Default if the record has no content type header. */
  readonly #contentType: string | undefined;

  /**
   * @param raw the record as an object of the client library
   * @param source the topic that it belongs to: for a record of a retry topic, the topic that it was first
   * consumed from
   */
  constructor(
    record: LogRecord,
    patternHeader: string | undefined,
    raw: unknown,
    contentType?: string,
    source = record.topic,
  ) {
    const { headers } = record;
    const pattern = patternHeader === undefined ? undefined : readText(headers, patternHeader);
    this.body = record.value;
    this.headers = headers;
    this.key = record.key;
    this.patterns = pattern === undefined ? patternsOf(headers, source) : [pattern];
    this.raw = raw;
    this.#record = record;
    this.#source = source;
    this.#contentType = contentType;
  }

  get contentType(): string | undefined {
    return contentTypeOf(this.headers) ?? this.#contentType;
  }

  get messageId(): string {
    const id = readText(this.headers, headerNames.messageId);
    return id === undefined || id === '' ? originId(this.#record) : id;
  }

  get correlationId(): string | undefined {
    return readText(this.headers, kafkaHeaders.correlationId);
  }

  /** A negative timestamp means that the record has none. */
  get timestamp(): number | undefined {
    return this.#record.timestamp < 0 ? undefined : this.#record.timestamp;
  }

  get origin(): Origin {
    const { partition, offset } = this.#record;
    return { source: this.#source, partition, offset: String(offset) };
  }

  isProtocolHeader(name: string): boolean {
    return protocolHeaders.has(name);
  }
}

/** A handler that consumes dead letters may name their original topic or the dead letter topic. */
function patternsOf(headers: MessageHeaders, source: string): readonly string[] {
  const origin = readText(headers, headerNames.origin);
  return origin === undefined || origin === source ? [source] : [origin, source];
}

/** FastStream writes an empty content type if a message has none. */
export function contentTypeOf(headers: MessageHeaders): string | undefined {
  const text = readText(headers, headerNames.contentType);
  return text === '' ? undefined : text;
}

/**
 * Topic, partition and offset at which the record was first written, which no retry changes. If the origin
 * headers are incomplete, the current position counts: an incomplete origin would not be unique.
 */
function originId({ headers, topic, partition, offset }: LogRecord): string {
  const position = [headerNames.originPartition, headerNames.originOffset].map((name) =>
    readText(headers, name),
  );
  const source = readText(headers, headerNames.origin);
  const isComplete =
    source !== undefined && position.every((number) => number !== undefined && /^\d+$/.test(number));
  return isComplete ? [source, ...position].join('/') : `${topic}/${partition}/${offset}`;
}

/** Headers of a published message. */
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

/** A dead letter has no reply address: its caller got an error reply or has timed out. */
export function republishedHeaders(
  republished: RepublishedMessage,
  group: string,
): Record<string, HeaderValue> {
  const headers = copyHeaders(republished.headers);
  headers[headerNames.group] = group;
  if (republished.to === 'redelivery') return headers;
  delete headers[kafkaHeaders.replyTopic];
  delete headers[kafkaHeaders.replyPartition];
  return headers;
}
