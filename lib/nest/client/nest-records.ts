import { RmqRecord, type RmqRecordOptions } from '@nestjs/microservices';
import { StorkConfigError, type ConfigProblem } from '../../core/runtime/errors.js';
import type { MessageOptions } from '../../core/publish/outgoing-message.js';
import type { MessageHeaders } from '../../core/message/headers.js';
import { readJson } from '../../core/message/codec.js';
import { printable } from '../../core/message/text.js';

/** Data and options of a message, as a client of Nest takes them in one argument. */
export interface RecordedData {
  readonly data: unknown;
  readonly options: MessageOptions;
}

const read = new Set<string>([
  'headers',
  'priority',
  'messageId',
  'contentType',
  'appId',
  'persistent',
  'deliveryMode',
  'timestamp',
  'expiration',
] satisfies (keyof RmqRecordOptions)[]);

/** Expected texts of options of `RmqRecordBuilder` that have no equivalent here. */
const refused: Readonly<Record<string, string>> = {
  CC: 'nothing: publish to an exchange that routes to each queue',
  BCC: 'nothing: publish to an exchange that routes to each queue',
  userId: 'nothing: the broker would compare it with the user of the connection',
  contentEncoding: 'nothing: a codec compresses',
  mandatory: 'true: a message that reaches no queue rejects with NoRouteError',
  type: 'nothing: the type is the pattern',
};

/**
 * Reads what `RmqRecordBuilder` builds. Its time is in seconds, as amqplib takes it.
 *
 * @returns undefined if `data` is not an `RmqRecord`
 * @throws StorkConfigError that names each option that cannot be honoured
 */
export function readRmqRecord(data: unknown): RecordedData | undefined {
  if (!(data instanceof RmqRecord)) return undefined;
  const given: RmqRecordOptions = data.options ?? {};
  const problems: ConfigProblem[] = Object.entries(given)
    .filter(([name, value]) => value !== undefined && !read.has(name) && !isDefault(name, value))
    .map(([name, value]) => ({
      name: `RmqRecord.options.${name}`,
      expected: refused[name] ?? 'no such option',
      given: printable(value),
    }));
  if (problems.length > 0) throw new StorkConfigError(problems);
  const { headers, priority, messageId, contentType, appId, timestamp, expiration } = given;
  return {
    data: data.data,
    options: withoutUndefined({
      headers,
      priority,
      messageId,
      contentType,
      appId,
      persistent: given.persistent ?? persistentBy(given.deliveryMode),
      timestamp: timestamp === undefined ? undefined : timestamp * 1_000,
      expiresInMs: expiration === undefined ? undefined : Number(expiration),
    }),
  };
}

function isDefault(name: string, value: unknown): boolean {
  return name === 'mandatory' && value === true;
}

/** AMQP's delivery modes: 1 is transient, 2 persistent. */
function persistentBy(deliveryMode: RmqRecordOptions['deliveryMode']): boolean | undefined {
  return deliveryMode === undefined ? undefined : deliveryMode === 2 || deliveryMode === true;
}

const recordFields = new Set(['key', 'value', 'headers', 'partition', 'timestamp']);

/**
 * Reads the `{ key, value, headers }` that Nest's client for Kafka takes. An object with any other field is
 * data.
 *
 * @returns undefined if `data` is not of this shape
 */
export function readKafkaMessage(data: unknown): RecordedData | undefined {
  if (typeof data !== 'object' || data === null || !Object.hasOwn(data, 'value')) return undefined;
  if (!Object.keys(data).every((name) => recordFields.has(name))) return undefined;
  const { key, value, headers, partition, timestamp } = data as Readonly<Record<string, unknown>>;
  const isText = typeof value === 'string';
  return {
    data: isText ? Buffer.from(value) : value,
    options: withoutUndefined({
      contentType: isText ? contentTypeOf(value) : undefined,
      key: key === undefined || key === null ? undefined : textOf(key),
      headers: headers as MessageHeaders | undefined,
      partition: partition as number | undefined,
      timestamp: timestamp === undefined || timestamp === null ? undefined : Number(timestamp),
    }),
  };
}

/** Nest sends text as it is, and parses what begins like an object or an array. */
function contentTypeOf(text: string): string {
  return /^[[{]/.test(text) && readJson(Buffer.from(text)) !== undefined ? 'application/json' : 'text/plain';
}

function textOf(key: unknown): string {
  if (typeof key === 'string') return key;
  if (key instanceof Uint8Array) return Buffer.from(key).toString();
  return typeof key === 'object' ? JSON.stringify(key) : (key as number).toString();
}

function withoutUndefined(options: {
  readonly [Name in keyof MessageOptions]: MessageOptions[Name] | undefined;
}): MessageOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
