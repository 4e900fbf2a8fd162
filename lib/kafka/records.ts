import { copyHeaders, timeText, type MessageHeaders, type HeaderValue } from '../core/message/headers.js';
import { RecordMessage } from '../driver-kit/log/log-record.js';
import type { InboundMessage } from '../core/port/message.js';
import type { FetchedRecord, RecordToSend, TopicPartition } from './client/client.js';

/** What is the same for every record of a partition. */
export interface Reading extends TopicPartition {
  /** The topic that it is read for: its own, but on a retry topic. */
  readonly source: string;
  readonly patternHeader: string | undefined;
  /** What a body is where its record does not say. */
  readonly guessContentType: (headers: MessageHeaders, body: Buffer | null) => string | undefined;
}

/** A fetched record as core sees it. A key that is not UTF-8 is shown as well as it can be; a copy keeps its bytes. */
export function inboundMessage(reading: Reading, record: FetchedRecord, offset: number): InboundMessage {
  const { topic, partition, source, patternHeader, guessContentType } = reading;
  const { key, value, headers, timestamp } = record;
  const carried = headers === undefined ? noHeaders : carriedHeaders(headers);
  const fields = {
    topic,
    partition,
    offset,
    key: key === null ? undefined : key.toString(),
    value,
    headers: carried,
    timestamp: Number(timestamp),
  };
  return new RecordMessage(fields, patternHeader, record, guessContentType(carried, value), source);
}

const noHeaders: MessageHeaders = Object.freeze(copyHeaders(undefined));

/** Headers with names of `Object.prototype`, e.g. `constructor`: the client puts what an object inherits before what was sent. */
export function carriedHeaders(headers: NonNullable<FetchedRecord['headers']>): MessageHeaders {
  if (!Object.keys(headers).some((name) => name in Object.prototype)) return headers;
  const carried = copyHeaders(headers);
  for (const name of Object.keys(carried)) {
    if (name in Object.prototype) carried[name] = withoutInherited(carried[name]);
  }
  return carried;
}

function withoutInherited(gathered: HeaderValue): HeaderValue {
  if (!Array.isArray(gathered)) return gathered;
  const values = gathered.slice(1) as HeaderValue[];
  return values.length === 1 ? values[0] : values;
}

/** Headers as Kafka carries them: bytes, and several under one name. */
export function headersToSend(headers: MessageHeaders): RecordToSend['headers'] {
  const written: Record<string, Buffer | string | (Buffer | string)[]> = {};
  for (const name of Object.keys(headers)) {
    const value = headers[name];
    if (value === undefined) continue;
    // Defined, not set: a header may be named __proto__.
    Object.defineProperty(written, name, {
      value: Array.isArray(value) ? (value as HeaderValue[]).map(bytesOf) : bytesOf(value),
      enumerable: true,
    });
  }
  return written;
}

function bytesOf(value: HeaderValue): Buffer | string {
  if (typeof value === 'string' || Buffer.isBuffer(value)) return value;
  if (value === null || value === undefined) return '';
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof Date) return timeText(value.getTime()) ?? '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
