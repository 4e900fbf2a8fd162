import type { ConsumeMessage } from 'amqplib';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MessageHeaders } from '../../../../lib/core/message/headers.js';
import { StorkConfigError } from '../../../../lib/core/runtime/errors.js';
import {
  inboundMessage,
  inboundReply,
  movedOptions,
  publishOptions,
  republishOptions,
} from '../../../../lib/rabbitmq/publish/messages.js';
import { published } from '../../../support/amqp-frames.js';

type Properties = Record<string, unknown>;

function message(properties: Properties, body = 'body'): ConsumeMessage {
  const fields = { exchange: 'x', routingKey: 'key', deliveryTag: 1, redelivered: false, consumerTag: 't' };
  return { fields, properties, content: Buffer.from(body) } as unknown as ConsumeMessage;
}

const republishedOf = (properties: Properties, headers: MessageHeaders = {}) =>
  republishOptions(message(properties), { to: 'dead-letter', headers });

describe('a republished message', () => {
  it('carries the allow-listed properties and no others', () => {
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
    expect(republishedOf(properties)).toEqual({
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

  it('omits the broker-owned headers and no others', () => {
    const owned = ['x-death', 'x-first-death-queue', 'x-last-death-reason', 'x-delivery-count'];
    const kept = ['x-deathly', 'xCC', 'CCC', 'cc', 'x-match', 'x-tenant', 'BCCx'];
    const all = Object.fromEntries([...owned, 'x-acquired-count', 'CC', 'BCC', ...kept].map((n) => [n, 'v']));
    expect(Object.keys(republishedOf({ headers: {} }, all).headers as object).toSorted()).toEqual(
      kept.toSorted(),
    );
  });

  it('preserves the headers of its first origin', () => {
    const properties = { expiration: '10', userId: 'me', headers: { CC: ['a'] } };
    const first = { 'stork-origin-expiration': '99', 'stork-origin-cc': 'b' };
    expect(republishedOf(properties, first).headers).toMatchObject({
      ...first,
      'stork-origin-user-id': 'me',
    });
  });

  it('stores a CC header of any type as text of bounded length', () => {
    fc.assert(
      fc.property(fc.oneof(fc.array(fc.string()), fc.string(), fc.jsonValue()), (cc) => {
        const { headers } = republishedOf({ headers: { CC: cc } });
        const originCc = (headers as Record<string, unknown>)['stork-origin-cc'];
        expect(typeof originCc).toBe('string');
        expect((originCc as string).length).toBeLessThanOrEqual(1_024);
      }),
    );
  });

  it('has headers without a prototype', () => {
    const hostile = JSON.parse('{"__proto__":{"polluted":1}}') as MessageHeaders;
    const { headers } = republishedOf({ headers: {} }, hostile);
    expect(Object.getPrototypeOf(headers)).toBeNull();
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });
});

describe('a published message', () => {
  const options = (headers: MessageHeaders) =>
    publishOptions(
      {
        pattern: 'p',
        body: Buffer.from('1'),
        headers,
        contentType: 'application/json',
        messageId: 'm',
        timestamp: 1_700_000_000_000,
      },
      'stork-key',
    );

  it('carries dates, bytes and bigints in lists and tables too', () => {
    const at = new Date(1_700_000_000_000);
    const bytes = new Uint8Array([1, 2, 3]);
    const parts = { at, bytes, big: 2n ** 60n, small: -1e300, absent: undefined };
    const { headers } = published(options({ parts, list: [at, [bytes], { big: -7n }] }));
    const timestamp = { '!': 'timestamp', value: 1_700_000_000 };
    expect(headers).toEqual({
      parts: { at: timestamp, bytes: Buffer.from(bytes), big: String(2n ** 60n), small: -1e300 },
      list: [timestamp, [Buffer.from(bytes)], { big: '-7' }],
    });
  });

  it('is refused with the names of all headers that AMQP cannot carry', () => {
    const refused = {
      nested: { a: [Infinity] },
      early: new Date(-1_000),
      none: new Date(NaN),
      typed: { '!': 'double', value: 'NaN' },
      byte: { '!': 'byte', value: 128 },
      hole: [undefined],
      ['n'.repeat(256)]: 1,
    } as unknown as MessageHeaders;
    expect(() => options({ ...refused, fine: 1 })).toThrow(StorkConfigError);
    const message = (() => {
      try {
        options({ ...refused, fine: 1 });
      } catch (error) {
        return (error as Error).message;
      }
      return '';
    })();
    for (const name of Object.keys(refused)) expect(message).toContain(`headers.${name}`);
    expect(message).not.toContain('headers.fine');
  });
});

describe('a dead letter that is moved to the end of its queue', () => {
  it('keeps its properties and what the broker says of its death, and is routed once', () => {
    const death = [{ queue: 'q', reason: 'expired', time: { '!': 'timestamp', value: 7 }, count: 1 }];
    const headers = { 'x-death': death, 'x-delivery-count': 19, CC: ['a'], BCC: ['b'], tenant: 'blue' };
    const kept = {
      type: 't',
      correlationId: 'c',
      replyTo: 'r',
      expiration: '9',
      deliveryMode: 2,
      priority: 3,
    };
    const moved = movedOptions(message({ ...kept, userId: 'me', headers, messageId: 'ü'.repeat(200) }));
    const properties = published(moved);
    expect(properties).toMatchObject({ ...kept, userId: undefined, messageId: undefined });
    expect(properties.headers).toEqual({ 'x-death': death, tenant: 'blue' });
  });
});

describe('an inbound message', () => {
  it('without headers has an object of its own', () => {
    const [one, other] = [{}, {}].map((properties) => inboundMessage(message(properties), 'q', 'k').headers);
    (one as Record<string, string>)['tenant'] = 'blue';
    expect(other).toEqual({});
  });

  it('is read whatever the types of its properties', () => {
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

  it('has the patterns of its type, then of its original routing key, then of its routing key', () => {
    const patterns = (properties: Properties) =>
      inboundMessage(message(properties), 'queue', 'stork-key').patterns;
    expect(patterns({})).toEqual(['key']);
    expect(patterns({ type: 't' })).toEqual(['t', 'key']);
    expect(patterns({ type: 't', headers: { 'stork-origin-routing-key': 'o' } })).toEqual(['t', 'o', 'key']);
    expect(patterns({ type: '', headers: { 'stork-origin-routing-key': 'o' } })).toEqual(['o', 'key']);
  });
});
