import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { copyHeaders, type HeaderValue } from '../../../lib/core/message/headers.js';
import type { FetchedRecord } from '../../../lib/kafka/client/client.js';
import { headersToSend, inboundMessage } from '../../../lib/kafka/records.js';

const at = { topic: 'orders', partition: 2, source: 'orders', guessContentType: () => undefined };

function read(record: Partial<FetchedRecord>, patternHeader?: string) {
  const whole = { offset: '7', timestamp: '1700000000000', key: null, value: null, ...record };
  return inboundMessage({ ...at, patternHeader }, whole, 7);
}

/** The headers of a record as kafkajs 2.2.4 collects them. */
function gathered(headers: readonly (readonly [string, Buffer | null])[]): FetchedRecord['headers'] {
  return headers.reduce<Record<string, unknown>>(
    (all, [key, value]) => ({
      ...all,
      [key]:
        all[key] === undefined ? value : Array.isArray(all[key]) ? [...all[key], value] : [all[key], value],
    }),
    {},
  ) as FetchedRecord['headers'];
}

function own(headers: object, name: string): unknown {
  return Object.getOwnPropertyDescriptor(headers, name)?.value;
}

it('a record has its topic, partition and offset, and its message id header if it has one', () => {
  const message = read({ key: Buffer.from('k'), value: Buffer.from('1') });
  expect(message).toMatchObject({ key: 'k', body: Buffer.from('1'), patterns: ['orders'] });
  expect(message.messageId).toBe('orders/2/7');
  expect(message.origin).toEqual({ source: 'orders', partition: 2, offset: '7' });
  expect(message.timestamp).toBe(1_700_000_000_000);
  expect(read({ headers: { 'stork-message-id': Buffer.from('m') } }).messageId).toBe('m');
  const retried = { 'stork-origin': 'first', 'stork-origin-partition': '1', 'stork-origin-offset': '3' };
  expect(read({ headers: retried })).toMatchObject({ patterns: ['first', 'orders'] });
  expect(read({ headers: retried }).messageId).toBe('first/1/3');
  expect(read({ headers: { ...retried, kind: 'paid' } }, 'kind').patterns).toEqual(['paid']);
});

it('a negative timestamp means none', () => {
  expect(read({ timestamp: '-1' }).timestamp).toBeUndefined();
  expect(read({ timestamp: '0' }).timestamp).toBe(0);
});

it('an empty content type means none', () => {
  expect(read({ headers: { 'content-type': Buffer.alloc(0) } }).contentType).toBeUndefined();
});

it('headers named like properties of Object.prototype hold only the sent values', () => {
  const { headers } = read({
    headers: gathered([
      ['constructor', Buffer.from('a')],
      ['__proto__', Buffer.from('b')],
      ['toString', Buffer.from('c')],
      ['toString', null],
      ['plain', Buffer.from('d')],
    ]),
  });
  expect(own(headers, 'constructor')).toEqual(Buffer.from('a'));
  expect(own(headers, '__proto__')).toEqual(Buffer.from('b'));
  expect(own(headers, 'toString')).toEqual([Buffer.from('c'), null]);
  expect(own(headers, 'plain')).toEqual(Buffer.from('d'));
});

it('headers of a republished message keep their names and bytes', () => {
  const name = fc.oneof(fc.string(), fc.constantFrom('constructor', '__proto__', 'valueOf', 'a', '0'));
  const bytes = fc.uint8Array({ maxLength: 8 }).map((value) => Buffer.from(value));
  fc.assert(
    fc.property(fc.array(fc.tuple(name, bytes), { maxLength: 8 }), (sent) => {
      const copied = headersToSend(copyHeaders(read({ headers: gathered(sent) }).headers));
      const expected = new Map<string, Buffer[]>();
      for (const [key, value] of sent) expected.set(key, [...(expected.get(key) ?? []), value]);
      expect(Object.keys(copied).toSorted()).toEqual([...expected.keys()].toSorted());
      for (const [key, values] of expected) expect([own(copied, key)].flat()).toEqual(values);
    }),
  );
});

it.each<[string, HeaderValue, unknown]>([
  ['text', 'x', 'x'],
  ['a number', 5, '5'],
  ['true', true, 'true'],
  ['null', null, ''],
  ['bytes', new Uint8Array([1, 255]), Buffer.from([1, 255])],
  ['a time', new Date(0), '1970-01-01T00:00:00.000Z'],
  ['an object', { a: 1 }, '{"a":1}'],
  ['a list', ['a', 2, new Uint8Array([3])], ['a', '2', Buffer.from([3])]],
])('%s is written as a header', (_what, value, written) => {
  expect(headersToSend({ it: value })).toEqual({ it: written });
  expect(headersToSend({ it: undefined })).toEqual({});
});
