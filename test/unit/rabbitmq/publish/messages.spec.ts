import { createRequire } from 'node:module';
import type { ConsumeMessage } from 'amqplib';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MessageHeaders } from '../../../../lib/core/message/headers.js';
import { republishOptions, inboundMessage, inboundReply } from '../../../../lib/rabbitmq/publish/messages.js';

type Properties = Record<string, unknown>;

/** The client's own writer of tables, which it does not export. */
const codec = createRequire(import.meta.url)('../../../../node_modules/amqplib/lib/codec.js') as {
  encodeTable(buffer: Buffer, table: object, offset: number): number;
};
const encodedBytes = (table: object): number => codec.encodeTable(Buffer.allocUnsafe(1024 * 1024), table, 0);

function message(properties: Properties, body = 'body'): ConsumeMessage {
  const fields = { exchange: 'x', routingKey: 'key', deliveryTag: 1, redelivered: false, consumerTag: 't' };
  return { fields, properties, content: Buffer.from(body) } as unknown as ConsumeMessage;
}

const copyOf = (properties: Properties, headers: MessageHeaders = {}) =>
  republishOptions(message(properties), { to: 'dead-letter', headers });

describe("a message's copy", () => {
  it('carries what an allow-list names, and nothing else', () => {
    const properties = {
      contentType: 'a',
      contentEncoding: 'b',
      correlationId: 'c',
      messageId: 'd',
      type: 'e',
      appId: 'f',
      timestamp: 7,
      priority: 3,
      deliveryMode: 1,
      replyTo: 'amq.rabbitmq.reply-to',
      expiration: '10',
      userId: 'me',
      clusterId: 'here',
      headers: {},
    };
    expect(copyOf(properties)).toEqual({
      contentType: 'a',
      contentEncoding: 'b',
      correlationId: 'c',
      messageId: 'd',
      type: 'e',
      appId: 'f',
      timestamp: 7,
      priority: 3,
      persistent: true,
      mandatory: true,
      headers: { 'stork-origin-expiration': '10', 'stork-origin-user-id': 'me' },
    });
  });

  it('leaves out every header that the broker owns, and no other', () => {
    const owned = ['x-death', 'x-first-death-queue', 'x-last-death-reason', 'x-delivery-count'];
    const kept = ['x-deathly', 'xCC', 'CCC', 'cc', 'x-match', 'x-tenant', 'BCCx'];
    const all = Object.fromEntries([...owned, 'x-acquired-count', 'CC', 'BCC', ...kept].map((n) => [n, 'v']));
    expect(Object.keys(copyOf({ headers: {} }, all).headers as object).toSorted()).toEqual(kept.toSorted());
  });

  it('keeps the first origin', () => {
    const properties = { expiration: '10', userId: 'me', headers: { CC: ['a'] } };
    const first = { 'stork-origin-expiration': '99', 'stork-origin-cc': 'b' };
    expect(copyOf(properties, first).headers).toMatchObject({ ...first, 'stork-origin-user-id': 'me' });
  });

  it('shows a CC of any kind as text of bounded length', () => {
    fc.assert(
      fc.property(fc.oneof(fc.array(fc.string()), fc.string(), fc.jsonValue()), (cc) => {
        const { headers } = copyOf({ headers: { CC: cc } });
        const shown = (headers as Record<string, unknown>)['stork-origin-cc'];
        expect(typeof shown).toBe('string');
        expect((shown as string).length).toBeLessThanOrEqual(1_024);
      }),
    );
  });

  it('fits into the frame that the client writes it in, whatever headers it came with, and keeps all of ours', () => {
    const value = fc.oneof(
      fc.string(),
      fc.string({ minLength: 1 }).map((text) => text.repeat(500)),
      fc.integer(),
      fc.uint8Array({ maxLength: 3_000 }).map((bytes) => Buffer.from(bytes)),
      fc.array(fc.string(), { maxLength: 200 }),
      // To the client `!` names a type of its own.
      fc.dictionary(
        fc.string().filter((key) => key !== '!'),
        fc.string(),
      ),
    );
    // AMQP's names have 255 bytes at most.
    const name = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 60 });
    const own = { 'stork-error-message': 'x'.repeat(1_024), 'stork-error-stack': 'y'.repeat(4_096) };
    fc.assert(
      fc.property(fc.dictionary(name, value, { maxKeys: 200, size: 'max' }), (foreign) => {
        const given = { ...foreign, ...own } as MessageHeaders;
        const { headers } = copyOf({ headers: {} }, given);
        expect(headers).toMatchObject(own);
        expect(encodedBytes(headers as object)).toBeLessThanOrEqual(64 * 1024);
        for (const [kept, said] of Object.entries(headers as object)) expect(said).toBe(given[kept]);
      }),
      // What is large shrinks for minutes, and says no more.
      { numRuns: 60, endOnFailure: true },
    );
  });

  it('has headers without a prototype', () => {
    const hostile = JSON.parse('{"__proto__":{"polluted":1}}') as MessageHeaders;
    const { headers } = copyOf({ headers: {} }, hostile);
    expect(Object.getPrototypeOf(headers)).toBeNull();
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });
});

describe('what comes in', () => {
  it('is read whatever kind the properties are of', () => {
    const odd = fc.oneof(fc.string(), fc.integer(), fc.constant(undefined), fc.constant({}), fc.boolean());
    const properties = fc.record({
      type: odd,
      messageId: odd,
      correlationId: odd,
      contentType: odd,
      contentEncoding: odd,
      timestamp: odd,
      headers: fc.option(fc.dictionary(fc.string(), odd), { nil: undefined }),
    });
    fc.assert(
      fc.property(properties, (given) => {
        const inbound = inboundMessage(message(given), 'queue', 'stork-key');
        expect(inbound.patterns.length).toBeGreaterThan(0);
        for (const text of [inbound.messageId, inbound.correlationId, inbound.contentType])
          expect(text === undefined || (typeof text === 'string' && text !== '')).toBe(true);
        inboundReply(message(given));
      }),
    );
  });

  it('looks for the pattern in the type, then where it came from, then in the routing key', () => {
    const patterns = (properties: Properties) =>
      inboundMessage(message(properties), 'queue', 'stork-key').patterns;
    expect(patterns({})).toEqual(['key']);
    expect(patterns({ type: 't' })).toEqual(['t', 'key']);
    expect(patterns({ type: 't', headers: { 'stork-origin-routing-key': 'o' } })).toEqual(['t', 'o', 'key']);
    expect(patterns({ type: '', headers: { 'stork-origin-routing-key': 'o' } })).toEqual(['o', 'key']);
  });
});
