import type { ConfirmChannel } from 'amqplib';
import {
  float,
  header,
  integer,
  nested,
  publishRaw,
  sized,
  value,
  type RawProperties,
} from './amqp-bytes.js';

/**
 * A message that RabbitMQ accepts and that harms a careless consumer. RabbitMQ 3.10 survives every one of
 * them, also when it dead-letters it: none has an `x-death` that is a list of other things than tables.
 */
export interface HostileMessage {
  readonly name: string;
  /**
   * False: amqplib cannot decode the headers, and closes the connection. Of a quorum queue it can decode the
   * type tag `L`, which RabbitMQ 3.10 writes as `l` there.
   */
  readonly isDecodable: boolean;
  readonly properties: RawProperties;
}

const notUtf8 = (length: number): Buffer => Buffer.alloc(length, 0xff);
const one = header('plain', sized('S', 'text'));

const odd = (name: string, encoded: Buffer): HostileMessage => ({
  name,
  isDecodable: true,
  properties: { headers: header('odd', encoded) },
});
const named = (name: string, ...headers: readonly Buffer[]): HostileMessage => ({
  name,
  isDecodable: true,
  properties: { headers: Buffer.concat(headers) },
});
const undecodable = (name: string, encoded: Buffer): HostileMessage => ({
  name,
  isDecodable: false,
  properties: { headers: Buffer.concat([one, header('odd', encoded)]) },
});

/** Entries of a table that amqplib takes for a type annotation. */
const annotated = (type: string, encoded: Buffer): Buffer =>
  sized('F', header('!', sized('S', type)), header('value', encoded));

const values: readonly HostileMessage[] = [
  odd('the double -1e300', float('d', -1e300)),
  odd('the fraction 2^51 + 0.5', float('d', 2 ** 51 + 0.5)),
  odd('the largest float', value('f', Buffer.from('7f7fffff', 'hex'))),
  odd('the integer 2^63 - 1', integer('l', 2n ** 63n - 1n)),
  odd('the integer -2^63', integer('l', -(2n ** 63n))),
  odd('the timestamp 2^64 - 1', integer('T', 2n ** 64n - 1n)),
  odd('the timestamp 2^53', integer('T', 2n ** 53n)),
  odd('the decimal of 255 places', value('D', Buffer.from('ffffffffff', 'hex'))),
  odd('a table with the name "!"', sized('F', header('!', sized('S', 'no type')))),
  odd('a table that says it is the double "NaN"', annotated('double', sized('S', 'none'))),
  odd('a table that says it is a byte of 1 000', annotated('byte', integer('s', 1_000))),
  odd('a table that says it is a decimal, without a value', sized('F', header('!', sized('S', 'decimal')))),
  odd('a table that says it is an object, nested', annotated('object', annotated('string', integer('b', 1)))),
  odd(
    'a table with the name "__proto__"',
    sized('F', header('__proto__', sized('F', header('!', sized('S', 'x'))))),
  ),
  odd('text that is not UTF-8', sized('S', notUtf8(300))),
  odd('nothing', value('V')),
  odd(
    'a list of every type',
    sized(
      'A',
      value('V'),
      value('t', '\x01'),
      integer('B', 255),
      integer('u', 65_535),
      integer('i', 2 ** 32 - 1),
      sized('x', notUtf8(5)),
      sized('A'),
    ),
  ),
  odd('tables nested 1 900 deep', nested('F', 1_900)),
  odd('lists nested 1 900 deep', nested('A', 1_900)),
];

const names: readonly HostileMessage[] = [
  named('a header name of 255 bytes that are not UTF-8', header(notUtf8(255), sized('S', 'x'))),
  named('a header name without a character', header('', sized('S', 'x'))),
  named(
    'the header name "__proto__"',
    header('__proto__', sized('F', header('stork-attempt', integer('b', 7)))),
  ),
  named(
    'an unknown header "stork-" and 120 bytes that are not UTF-8',
    header(Buffer.concat([Buffer.from('stork-'), notUtf8(120)]), sized('S', 'x')),
  ),
  named(
    'an unknown header "stork-x" of 65 300 characters',
    header('stork-x', sized('S', 'x'.repeat(65_300))),
  ),
  named('an unknown header "stork-x" that is the double -1e300', header('stork-x', float('d', -1e300))),
  named(
    'a "stork-origin-cc" of 65 300 characters',
    header('stork-origin-cc', sized('S', 'x'.repeat(65_300))),
  ),
  named(
    'a "stork-handler" that is a table',
    header('stork-handler', sized('F', header('!', sized('S', 'x')))),
  ),
  named('a "CC" nested 1 900 deep', header('CC', sized('A', nested('A', 1_900)))),
];

const sizes: readonly HostileMessage[] = [
  named(
    '64 KiB of headers',
    header('a', sized('S', 'a'.repeat(32_700))),
    header('b', sized('S', 'b'.repeat(32_700))),
  ),
  named('60 KB in one header', header('a', sized('S', 'a'.repeat(60_000)))),
  named('127 KiB in one header', header('a', sized('S', 'a'.repeat(130_000)))),
  named(
    '128 KiB of headers, most of them unknown ones of stork',
    header('a', sized('S', 'a'.repeat(30_000))),
    header('stork-b', sized('S', 'b'.repeat(100_000))),
  ),
  named(
    '2 000 headers',
    ...Array.from({ length: 2_000 }, (_, n) => header(`h${n}`.padEnd(40, '-'), value('V'))),
  ),
];

const deaths: readonly HostileMessage[] = [
  named('an "x-death" of text', header('x-death', sized('S', 'rejected'))),
  named('an "x-death" of a number', header('x-death', integer('l', 7))),
  named('an "x-death" of nothing', header('x-death', value('V'))),
  named('an "x-death" that is an empty list', header('x-death', sized('A'))),
  named('an "x-death" that is a list of an empty table', header('x-death', sized('A', sized('F')))),
  named(
    'an "x-death" that is a list of a table of other types',
    header(
      'x-death',
      sized('A', sized('F', header('queue', integer('b', 7)), header('count', sized('S', 'x')))),
    ),
  ),
  named('an "x-death" that is a table', header('x-death', sized('F', one))),
];

const undecodables: readonly HostileMessage[] = [
  undecodable('tables nested 9 000 deep', nested('F', 9_000)),
  undecodable('lists nested 9 000 deep', nested('A', 9_000)),
  undecodable('the type tag "L"', integer('L', 7)),
];

const properties: readonly HostileMessage[] = [
  { name: 'a message id that is not UTF-8', isDecodable: true, properties: { messageId: notUtf8(255) } },
  {
    name: 'a correlation id that is not UTF-8',
    isDecodable: true,
    properties: { correlationId: notUtf8(255) },
  },
  { name: 'a content type that is not UTF-8', isDecodable: true, properties: { contentType: notUtf8(255) } },
  { name: 'the time stamp 2^64 - 1', isDecodable: true, properties: { timestamp: 2n ** 64n - 1n } },
];

export const hostileMessages: readonly HostileMessage[] = [
  ...values,
  ...names,
  ...sizes,
  ...deaths,
  ...undecodables,
  ...properties,
];

export interface Sent extends RawProperties {
  readonly body: Buffer;
}

/**
 * Sends a hostile message to a queue. `given` adds what the message does not set by itself, e.g. its type.
 * Resolves when the broker has confirmed it.
 */
export function sendHostile(
  channel: ConfirmChannel,
  queue: string,
  hostile: HostileMessage,
  { body, ...given }: Sent,
): Promise<void> {
  return publishRaw(channel, queue, body, { ...given, ...hostile.properties });
}
