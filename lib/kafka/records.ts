import { copyHeaders, timeText, type MessageHeaders, type HeaderValue } from '../core/message/headers.js';
import { RecordMessage } from '../driver-kit/log/log-record.js';
import type { InboundMessage } from '../core/port/message.js';
import type { FetchedRecord, RecordToSend, TopicPartition } from './client/client.js';

/** Properties that all records of a partition share. */
export interface RecordSource extends TopicPartition {
  /** The source topic: `topic` itself, or for a retry topic the topic whose messages it holds. */
  readonly source: string;
  readonly patternHeader: string | undefined;
  /** Content type of a body whose record has no content type header. */
  readonly guessContentType: (headers: MessageHeaders, body: Buffer | null) => string | undefined;
}

/** Converts a fetched record. A key that is not UTF-8 is decoded lossily; republishing keeps its bytes. */
export function inboundMessage(
  recordSource: RecordSource,
  record: FetchedRecord,
  offset: number,
): InboundMessage {
  const { topic, partition, source, patternHeader, guessContentType } = recordSource;
  const { key, value, headers, timestamp } = record;
  const messageHeaders = headers === undefined ? noHeaders : headersAsSent(headers);
  const fields = {
    topic,
    partition,
    offset,
    key: key === null ? undefined : key.toString(),
    value,
    headers: messageHeaders,
    timestamp: Number(timestamp),
  };
  return new RecordMessage(fields, patternHeader, record, guessContentType(messageHeaders, value), source);
}

const noHeaders: MessageHeaders = Object.freeze(copyHeaders(undefined));

/**
 * Headers as they were sent. kafkajs gathers them in an object with a prototype: under names of
 * `Object.prototype`, e.g. `constructor`, it puts the inherited property before the values that were sent.
 * That one is removed.
 */
export function headersAsSent(headers: NonNullable<FetchedRecord['headers']>): MessageHeaders {
  if (!Object.keys(headers).some((name) => name in Object.prototype)) return headers;
  const sent = copyHeaders(headers);
  for (const name of Object.keys(sent)) {
    if (name in Object.prototype) sent[name] = withoutInherited(sent[name]);
  }
  return sent;
}

function withoutInherited(value: HeaderValue): HeaderValue {
  if (!Array.isArray(value)) return value;
  const values = value.slice(1) as HeaderValue[];
  return values.length === 1 ? values[0] : values;
}

/** Headers in kafkajs's form: strings and buffers, several values of one name as an array. */
export function headersToSend(headers: MessageHeaders): RecordToSend['headers'] {
  const kafkaHeaders: Record<string, Buffer | string | (Buffer | string)[]> = {};
  for (const name of Object.keys(headers)) {
    const value = headers[name];
    if (value === undefined) continue;
    // An assignment would set the prototype if a header is named __proto__.
    Object.defineProperty(kafkaHeaders, name, {
      value: Array.isArray(value) ? (value as HeaderValue[]).map(headerValueOf) : headerValueOf(value),
      enumerable: true,
    });
  }
  return kafkaHeaders;
}

function headerValueOf(value: HeaderValue): Buffer | string {
  if (typeof value === 'string' || Buffer.isBuffer(value)) return value;
  if (value === null || value === undefined) return '';
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof Date) return timeText(value.getTime()) ?? '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
