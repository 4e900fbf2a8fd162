import { describe, expect, it } from 'vitest';
import { nestReplyHeaders, readLogReply, replyTargetOf } from '../../../lib/driver-kit/log/log-reply.js';
import { guessContentType, isNestRequest, nestBody, nestContentType } from '../../../lib/kafka/wire.js';
import type { ReplyKind } from '../../../lib/core/port/message.js';

describe('a request comes from a Nest client', () => {
  const request = { kafka_replyTopic: 'x.reply' };
  it.each([
    [true, request],
    [false, {}],
    [false, { ...request, 'content-type': 'application/json' }],
    [false, { ...request, 'stork-deadline': '2030-01-01T00:00:00.000Z' }],
  ])('%s: %j', (is, headers) => {
    expect(isNestRequest(headers)).toBe(is);
  });
});

it.each([
  ['application/json', '{"a":1}'],
  ['application/json', '[1]'],
  ['application/json', '5'],
  ['application/json', 'null'],
  ['text/plain', 'hello'],
  ['text/plain', ''],
  ['text/plain', '[draft] hello'],
  ['text/plain', '{{name}}'],
])('%s is how Nest wrote %s', (contentType, body) => {
  expect(nestContentType(Buffer.from(body))).toBe(contentType);
});

it.each([
  ['text/plain', undefined, { kafka_replyTopic: 'x.reply' }],
  [undefined, undefined, {}],
  [undefined, 'plain' as const, { kafka_replyTopic: 'x.reply' }],
  ['text/plain', 'nest' as const, {}],
  [undefined, 'nest' as const, { 'content-type': 'application/json' }],
])('%s is guessed with wire %s, for headers %j', (contentType, wire, headers) => {
  expect(guessContentType(headers, Buffer.from('hello'), wire)).toBe(contentType);
});

it('a tombstone of Nest is JSON: null', () => {
  expect(nestContentType(null)).toBe('application/json');
});

it.each([
  ['"hello"', 'application/json', 'hello'],
  ['"a\\"b"', 'application/json', 'a"b'],
  ['{"a":1}', 'application/json', '{"a":1}'],
  ['5', 'application/json', '5'],
  ['"hello"', 'text/plain', '"hello"'],
  ['"null"', 'application/json', 'null'],
  ['null', 'application/json', undefined],
  ['null', 'text/plain', 'null'],
])('%s of %s is %s for Nest', (body, contentType, written) => {
  expect(nestBody(Buffer.from(body), contentType)?.toString()).toBe(written);
});

describe('a reply', () => {
  const value = Buffer.from('1');
  const of = (headers: Record<string, string>, body: Buffer | null = value, untagged?: 'value' | 'item') =>
    readLogReply({ headers: { kafka_correlationId: 'c', ...headers }, value: body }, untagged);

  it('has the kind that the stork header or the headers of Nest give', () => {
    expect(of({}).kind).toBe('value');
    expect(of({}, value, 'item').kind).toBe('item');
    expect(of({ 'stork-reply': 'item' }).kind).toBe('item');
    expect(of({ 'stork-reply': 'nonsense' }).kind).toBe('value');
    expect(of({ 'kafka_nest-is-disposed': '\0' }, value, 'item').kind).toBe('value');
    expect(of({ 'kafka_nest-is-disposed': '\0' }, null, 'item').kind).toBe('end');
    expect(of({ 'kafka_nest-err': '{}' })).toMatchObject({ kind: 'error', correlationId: 'c' });
  });

  it.each([
    ['{"message":"no"}', '{"message":"no"}'],
    ['no', '{"message":"no"}'],
    ['404', '{"message":"404"}'],
    ['null', '{"message":"null"}'],
  ])("reads Nest's error %s", (error, body) => {
    expect(of({ 'kafka_nest-err': error }).body!.toString()).toBe(body);
  });

  it('to a client of Nest has an empty error as the end of a stream, and its kind for clients of stork', () => {
    const reply = { correlationId: 'c', contentType: 'application/json', headers: {}, body: value };
    const headersOf = (kind: ReplyKind, endsStream: boolean) => ({
      ...nestReplyHeaders({ ...reply, kind, endsStream }),
    });
    expect(headersOf('end', true)).toMatchObject({ 'kafka_nest-err': '', 'stork-reply': 'end' });
    for (const kind of ['end', 'value', 'item'] as const)
      expect(headersOf(kind, false)).not.toHaveProperty('kafka_nest-err');
    for (const kind of ['end', 'value', 'item', 'error'] as const)
      expect(of(headersOf(kind, kind === 'end') as Record<string, string>, null).kind).toBe(kind);
  });

  it('may have any content type; an empty one means none', () => {
    expect(of({ 'content-type': '' }).contentType).toBeUndefined();
    expect(of({ 'content-type': 'text/plain' }).contentType).toBe('text/plain');
  });
});

describe('a reply address', () => {
  const consumed = (topic: string): boolean => topic === 'mine.reply';
  const target = (headers: Record<string, string>) => replyTargetOf(headers, ['listed'], consumed);

  it.each([
    ['none', {}],
    ['address', { kafka_replyTopic: 'x.reply', kafka_replyPartition: '3' }],
    ['address', { kafka_replyTopic: 'listed' }],
    ['forged', { kafka_replyTopic: 'orders' }],
    ['forged', { kafka_replyTopic: '' }],
    ['forged', { kafka_replyTopic: 'mine.reply' }],
    ['forged', { kafka_replyTopic: `${'x'.repeat(250)}.reply` }],
  ])('is %s: %j', (kind, headers) => {
    expect(target(headers).kind).toBe(kind);
  });

  it.each([
    ['3', 3],
    ['-1', undefined],
    ['3.5', undefined],
    ['1e9', undefined],
    ['9999999999', undefined],
    ['', undefined],
  ])('with the partition %j', (text, partition) => {
    const headers = { kafka_replyTopic: 'x.reply', kafka_replyPartition: text };
    expect(target(headers)).toMatchObject({ address: { topic: 'x.reply', partition } });
  });
});
