import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  builtInCodecs,
  Codecs,
  type MessageCodec,
  type Decoded,
} from '../../../../lib/core/message/codec.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { decodeNow, encodeNow, newCodecs } from '../harness.js';

const codecs = newCodecs();

function decodeText(body: string | Buffer, contentType?: string, contentEncoding?: string): Decoded {
  return decodeNow(codecs, Buffer.from(body), contentType, contentEncoding);
}

function errorOf(decoded: Decoded): string {
  return decoded.ok ? `decoded ${JSON.stringify(decoded.value)}` : decoded.error.message;
}

/** Whether JSON.parse of its text makes an own key of this name anywhere. */
function hasPrototypeKey(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.hasOwn(value, '__proto__') || Object.values(value).some(hasPrototypeKey);
}

describe('JSON', () => {
  it('is what values become without a content type', () => {
    const { body, contentType } = encodeNow(codecs, { id: 1, name: 'Ærø' }, undefined);
    expect([body.toString(), contentType]).toEqual(['{"id":1,"name":"Ærø"}', 'application/json']);
    expect(decodeNow(codecs, body, undefined)).toEqual({ ok: true, value: { id: 1, name: 'Ærø' } });
  });

  it('writes undefined as null', () => {
    expect(encodeNow(codecs, undefined, undefined).body.toString()).toBe('null');
    expect(encodeNow(codecs, null, undefined).body.toString()).toBe('null');
  });

  it.each([
    ['a bigint', 1n, 'BigInt'],
    ['a function', () => 1, 'application/json carries no function'],
    ['a symbol', Symbol('s'), 'application/json carries no symbol'],
  ])('cannot write %s, which is a TypeError that names it', (_, value, named) => {
    const encode = () => encodeNow(codecs, value, undefined);
    expect(encode).toThrow(TypeError);
    expect(encode).toThrow(named);
  });

  it('rejects a circular value with a TypeError', () => {
    const circle: { self?: unknown } = {};
    circle.self = circle;
    expect(() => encodeNow(codecs, circle, undefined)).toThrow(TypeError);
  });

  it('is read past a byte order mark', () => {
    expect(decodeText('\uFEFF{"a":1}')).toEqual({ ok: true, value: { a: 1 } });
  });

  it('is read past one byte order mark only', () => {
    expect(decodeText('\uFEFF\uFEFF1').ok).toBe(false);
  });

  it.each([
    'application/json; charset=utf-8',
    'Application/JSON',
    ' application/json ;x=y',
    'application/json;',
  ])('is recognised in %j', (contentType) => {
    expect(decodeText('[1]', contentType)).toEqual({ ok: true, value: [1] });
  });

  it.each([' ', '{', '{"a":1}}', 'NaN', "{'a':1}"])('is not what %j is', (text) => {
    expect(decodeText(text).ok).toBe(false);
  });

  it('is not read from bytes that are not UTF-8', () => {
    expect(errorOf(decodeText(Buffer.from([0x22, 0xff, 0x22])))).toBe('the body is not UTF-8');
    expect(errorOf(decodeText(Buffer.from([0x22, 0xc3, 0x22])))).toBe('the body is not UTF-8');
  });

  it('is not read where a key could reach a prototype or the nesting is hostile', () => {
    expect(errorOf(decodeText('{"a":[{"__proto__":{"admin":true}}]}'))).toContain('__proto__');
    expect(errorOf(decodeText('['.repeat(1_001) + ']'.repeat(1_001)))).toContain('1000 levels');
  });

  it('comes back as it was sent, whatever can be said in it', () => {
    const json = fc.jsonValue({ maxDepth: 5 }).filter((value) => !hasPrototypeKey(value));
    fc.assert(
      fc.property(json, (value) => {
        const plain: unknown = JSON.parse(JSON.stringify(value));
        const { body, contentType } = encodeNow(codecs, value, undefined);
        expect(decodeNow(codecs, body, contentType)).toEqual({ ok: true, value: plain });
      }),
    );
  });
});

describe('text', () => {
  it('comes back as it was sent', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        fc.pre(!text.startsWith('\uFEFF'));
        const { body, contentType } = encodeNow(codecs, text, 'text/plain');
        expect(decodeNow(codecs, body, contentType)).toEqual({ ok: true, value: text });
      }),
    );
  });

  it('carries nothing but strings', () => {
    expect(() => encodeNow(codecs, { a: 1 }, 'text/plain')).toThrow(
      'text/plain carries a string, given object',
    );
  });

  it('keeps the content type as the sender wrote it', () => {
    expect(encodeNow(codecs, 'a', 'Text/Plain; charset=utf-8').contentType).toBe('Text/Plain; charset=utf-8');
  });

  it('is read past a byte order mark, and not from bytes that are not UTF-8', () => {
    expect(decodeText('\uFEFFhello', 'text/plain')).toEqual({ ok: true, value: 'hello' });
    expect(errorOf(decodeText(Buffer.from([0xff]), 'text/plain'))).toBe('the body is not UTF-8');
  });
});

describe('bytes', () => {
  it('pass through both ways', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const { body, contentType } = encodeNow(codecs, bytes, undefined);
        expect(contentType).toBe('application/octet-stream');
        expect(decodeNow(codecs, body, contentType)).toEqual({ ok: true, value: Buffer.from(bytes) });
      }),
    );
  });

  it('keep whatever content type they are given, known or not', () => {
    const { body, contentType } = encodeNow(codecs, Buffer.from('a'), 'image/png');
    expect([body.toString(), contentType]).toEqual(['a', 'image/png']);
  });

  it('are copied, so the caller may write into its own afterwards', () => {
    const own = Buffer.from('abc');
    const view = new Uint8Array(own.buffer, own.byteOffset + 1, 2);
    const whole = encodeNow(codecs, own, undefined).body;
    const part = encodeNow(codecs, view, undefined).body;
    own.fill('x');
    expect([whole.toString(), part.toString()]).toEqual(['abc', 'bc']);
  });

  it('are all that their content type carries', () => {
    expect(() => encodeNow(codecs, 'abc', 'application/octet-stream')).toThrow(/Uint8Array, given string/);
  });
});

describe('an absent body', () => {
  it('is null, whatever its content type says', () => {
    expect(decodeNow(codecs, null, 'image/png')).toEqual({ ok: true, value: null });
    expect(decodeNow(codecs, null, undefined, 'gzip')).toEqual({ ok: true, value: null });
  });
});

describe('an unknown content type', () => {
  it('is an error with the names of the known ones', () => {
    const expected =
      'no codec for content type "image/png"; known are application/json, text/plain, application/octet-stream';
    expect(() => encodeNow(codecs, 'a', 'image/png')).toThrow(new TypeError(expected));
    expect(errorOf(decodeText('a', 'image/png'))).toBe(expected);
  });

  it('is quoted up to its first 100 characters', () => {
    const message = errorOf(decodeText('a', 'x'.repeat(10_000)));
    expect(message).toContain('"' + 'x'.repeat(100) + '"');
    expect(message).not.toContain('x'.repeat(101));
  });

  it.each(['__proto__', 'constructor', 'toString'])('is %s too', (contentType) => {
    expect(errorOf(decodeText('a', contentType))).toContain('no codec');
  });
});

describe('a content encoding', () => {
  it.each([undefined, '', 'identity', 'utf-8', 'UTF8', 'binary'])('of %j means plain bytes', (encoding) => {
    expect(decodeText('1', undefined, encoding)).toEqual({ ok: true, value: 1 });
  });

  it.each(['gzip', 'utf-8, gzip', 'br', 'identity\n'])('of %j is refused', (encoding) => {
    expect(errorOf(decodeText('1', undefined, encoding))).toContain('is not supported');
  });
});

describe('a codec of the user', () => {
  const upper: MessageCodec = {
    contentType: 'text/x-upper',
    encode: (value) => Buffer.from(String(value).toUpperCase()),
    decode: (body) => body.toString().toLowerCase(),
  };

  it('serves its content type, also as the default', () => {
    const own = new Codecs([...builtInCodecs, upper], 'text/x-upper', new VirtualClock());
    const { body, contentType } = encodeNow(own, 'abc');
    expect([body.toString(), contentType]).toEqual(['ABC', 'text/x-upper']);
    expect(decodeNow(own, body)).toEqual({ ok: true, value: 'abc' });
  });

  it('replaces a built-in of the same content type, and the later of two', () => {
    const json: MessageCodec = {
      contentType: 'application/json',
      encode: () => Buffer.from('mine'),
      decode: () => 'mine',
    };
    const later: MessageCodec = { ...json, decode: () => 'later' };
    expect(encodeNow(newCodecs(json), {}, undefined).body.toString()).toBe('mine');
    expect(decodeNow(newCodecs(json), Buffer.from('{'), undefined)).toEqual({ ok: true, value: 'mine' });
    expect(decodeNow(newCodecs(json, later), Buffer.from('{'), undefined)).toEqual({
      ok: true,
      value: 'later',
    });
  });

  it('may return a view into a larger buffer', () => {
    const memory = new Uint8Array([1, 2, 3, 4]);
    const view: MessageCodec = {
      contentType: 'x/view',
      encode: () => memory.subarray(1, 3),
      decode: (body) => body,
    };
    expect([...encodeNow(newCodecs(view), 'a', 'x/view').body]).toEqual([2, 3]);
  });

  it.each([
    ['an error', new RangeError('too far'), 'too far'],
    ['text', 'just text', 'just text'],
    ['undefined', undefined, 'thrown undefined: undefined'],
  ])('makes a body undecodable by throwing %s', (_, thrown, message) => {
    const decode = (): never => {
      throw thrown;
    };
    expect(errorOf(decodeNow(newCodecs({ ...upper, decode }), Buffer.from('a'), 'text/x-upper'))).toBe(
      message,
    );
  });

  it('is quoted with the name and the message of what it threw, as text', () => {
    const decode = (): never => {
      throw Object.assign(new RangeError('x'), { name: 5, message: { fields: ['a'] } });
    };
    expect(decodeNow(newCodecs({ ...upper, decode }), Buffer.from('a'), 'text/x-upper')).toEqual({
      ok: false,
      error: { name: 'Error', message: '[object Object]' },
    });
  });

  it('makes a body undecodable even by throwing what cannot be written as text', () => {
    const decode = (): never => {
      throw Object.create(null);
    };
    expect(decodeNow(newCodecs({ ...upper, decode }), Buffer.from('a'), 'text/x-upper').ok).toBe(false);
  });
});

describe('JSON of another name', () => {
  it.each([
    'application/cloudevents+json; charset=utf-8',
    'application/vnd.acme+json',
    'application/problem+json',
    'text/json',
    'Application/Vnd.Acme+JSON',
  ])('is read: %s', (contentType) => {
    expect(decodeText('{"id":1}', contentType)).toEqual({ ok: true, value: { id: 1 } });
  });

  it.each(['application/json+zip', 'image/svg+json', 'application/json5'])('is not %s', (contentType) => {
    expect(errorOf(decodeText('{"id":1}', contentType))).toContain('no codec for content type');
  });

  it('is left to the codec that has its content type', () => {
    const events: MessageCodec = {
      contentType: 'application/cloudevents+json',
      encode: () => Buffer.from(''),
      decode: () => 'an event',
    };
    const own = newCodecs(events);
    expect(decodeNow(own, Buffer.from('{}'), 'application/cloudevents+json')).toEqual({
      ok: true,
      value: 'an event',
    });
  });
});

describe('an empty body', () => {
  it.each([
    [undefined, undefined],
    ['application/json', undefined],
    ['application/vnd.acme+json', undefined],
    ['text/plain', ''],
    ['application/octet-stream', Buffer.alloc(0)],
  ])('of the content type %s is %j', (contentType, value) => {
    expect(decodeText('', contentType)).toEqual({ ok: true, value });
  });
});

describe('an asynchronous codec', () => {
  const newSlow = (codec: Partial<MessageCodec>) => {
    const clock = new VirtualClock();
    const slow = { contentType: 'x/slow', encode: () => Buffer.from(''), decode: () => '', ...codec };
    return { clock, slow: new Codecs([...builtInCodecs, slow], 'x/slow', clock) };
  };
  const context = () => ({
    direction: 'inbound' as const,
    pattern: 'p',
    destination: undefined,
    headers: {},
  });
  const body = { body: Buffer.from('a'), contentType: undefined };

  it('is awaited in both directions', async () => {
    const { slow, clock } = newSlow({
      encode: async (value) => Promise.resolve(Buffer.from(String(value))),
      decode: async (bytes) => Promise.resolve(bytes.toString()),
    });
    expect((await slow.encode('text', undefined, context)).body.toString()).toBe('text');
    expect(await slow.decode(body, context)).toEqual({ ok: true, value: 'a' });
    expect(clock.pendingTimers).toBe(0);
  });

  it('makes a body undecodable by rejecting', async () => {
    const { slow } = newSlow({ decode: async () => Promise.reject(new RangeError('no schema')) });
    expect(await slow.decode(body, context)).toEqual({
      ok: false,
      error: { name: 'RangeError', message: 'no schema' },
    });
  });

  it('that never answers is given up after 30 s', async () => {
    const never = (): Promise<never> => new Promise(() => {});
    const { slow, clock } = newSlow({ encode: never, decode: never });
    const decoded = slow.decode(body, context);
    const encoded = Promise.resolve(slow.encode('a', undefined, context)).catch((error: Error) => error);
    await clock.advance(30_000);
    const why = 'of the codec for "x/slow" has not settled within 30000 ms';
    expect(await decoded).toEqual({ ok: false, error: { name: 'Error', message: `decode ${why}` } });
    expect(await encoded).toEqual(new Error(`encode ${why}`));
  });

  it.each([['text'], [null], [undefined], [{ length: 1 }]])(
    'that encodes to %j is refused',
    async (bytes) => {
      const given = bytes === null ? 'null' : typeof bytes;
      const wrong = `encode of the codec for "x/slow" returned ${given}, expected a Uint8Array`;
      const now = newSlow({ encode: () => bytes as never }).slow;
      expect(() => now.encode('a', undefined, context)).toThrow(new TypeError(wrong));
      const later = newSlow({ encode: async () => Promise.resolve(bytes as never) }).slow;
      await expect(later.encode('a', undefined, context)).rejects.toThrow(new TypeError(wrong));
    },
  );
});
