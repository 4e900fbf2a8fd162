import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cutToBytes, maskCredentials, printable, shownAddress } from '../../../../lib/core/message/text.js';

const mark = '…';
const markBytes = Buffer.byteLength(mark);

/** Characters of one, two, three and four bytes, and the one that goes. */
const mixedText = fc.string({ unit: fc.constantFrom('a', 'é', '…', '😀', '\0', '\n'), maxLength: 60 });

/** Tries every prefix at a character's end, the longest first. */
function naiveCut(text: string, maxBytes: number): string {
  const characters = [...text.replaceAll('\0', '')];
  if (Buffer.byteLength(characters.join('')) <= maxBytes) return characters.join('');
  while (Buffer.byteLength(characters.join('')) > maxBytes - markBytes) characters.pop();
  return characters.join('') + mark;
}

describe('cutToBytes', () => {
  it('leaves alone what fits', () => {
    expect(cutToBytes('', 10)).toBe('');
    expect(cutToBytes('abc', 3)).toBe('abc');
    expect(cutToBytes('é'.repeat(5), 10)).toBe('é'.repeat(5));
  });

  it('cuts what does not, and shows it within the budget', () => {
    expect(cutToBytes('abcdefgh', 7)).toBe('abcd…');
    expect(Buffer.byteLength(cutToBytes('abcdefgh', 7))).toBe(7);
  });

  it('cuts at a character, never within one', () => {
    expect(cutToBytes('a😀😀😀', 10)).toBe('a😀…');
    expect(cutToBytes('é'.repeat(6), 10)).toBe('ééé…');
  });

  it('takes null characters out, also out of what fits', () => {
    expect(cutToBytes('a\0b\0', 10)).toBe('ab');
    expect(cutToBytes('\0'.repeat(10), 10)).toBe('');
  });

  it('takes no time for text far over its budget', () => {
    const cut = cutToBytes('😀'.repeat(1_000_000), 1_024);
    expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(1_024);
    expect(cut.endsWith('😀…')).toBe(true);
  });

  it('is as long a prefix as fits, whatever the characters', () => {
    fc.assert(
      fc.property(mixedText, fc.integer({ min: markBytes, max: 80 }), (text, maxBytes) => {
        expect(cutToBytes(text, maxBytes)).toBe(naiveCut(text, maxBytes));
      }),
    );
  });

  it('counts no null characters', () => {
    expect(cutToBytes('\0\0\0\0\0\0\0\0ab😀 and more', 10)).toBe('ab😀 …');
  });

  it('survives half characters', () => {
    expect(Buffer.byteLength(cutToBytes('\ud83d'.repeat(100), 20))).toBeLessThanOrEqual(20);
  });
});

describe('printable', () => {
  class Order {}

  it.each<[unknown, string]>([
    ['text', '"text"'],
    ['', '""'],
    ['two\nlines', '"two\\nlines"'],
    [1.5, '1.5 (number)'],
    [NaN, 'NaN (number)'],
    [10n, '10 (bigint)'],
    [true, 'true (boolean)'],
    [undefined, 'undefined'],
    [null, 'null'],
    [[1, 2, 3], 'an array of 3'],
    [{ secret: 'x' }, 'an object'],
    [new Order(), 'an object'],
    [Object.create(null), 'an object'],
    [() => 1, 'a function'],
    [Order, 'a function'],
    [Symbol('x'), 'a symbol'],
  ])('shows a value as %#: %s', (value, shown) => {
    expect(printable(value)).toBe(shown);
  });

  it('keeps long text short', () => {
    expect(printable('x'.repeat(1_000))).toBe(`"${'x'.repeat(100)}"`);
  });

  it('shows no password, also of a URL longer than what is shown', () => {
    expect(printable('amqp://guest:secret@rabbit:5672')).toBe('"amqp://***@rabbit:5672"');
    expect(printable(`amqp://guest:${'secret'.repeat(30)}@rabbit`)).toBe('"amqp://***@rabbit"');
  });
});

describe('shownAddress', () => {
  it.each([
    ['amqp://app:s3cret@host:5672/shop?heartbeat=5', 'amqp://host:5672/shop'],
    ['amqp://app:s3cret\n@host', 'amqp://host'],
    ['amqp://app:s3\tcret@host', 'amqp://host'],
    ['amqp://app:s3 cret@host', 'amqp://host'],
    ['amqp://app:s3@cret@host/v', 'amqp://host/v'],
    ['redis://:s3cret\r\n@host:6379/1', 'redis://host:6379/1'],
    ['amqp://app:12/s3cret@host', 'amqp://***'],
    ['amqp://app:12#s3cret@host', 'amqp://***'],
    ['amqp://app:12?s3cret@host', 'amqp://***'],
    ['amqp://app:s3 cret@', 'amqp://***@'],
    ['amqp://[::1]:5672/v', 'amqp://[::1]:5672/v'],
  ])('of %j is %s', (url, shown) => {
    expect(shownAddress(url)).toBe(shown);
    expect(printable(url)).not.toMatch(/s3|cret/);
  });
});

describe('maskCredentials', () => {
  it.each([
    ['amqp://user:secret@host', 'amqp://***@host'],
    ['amqp://user@host/vhost', 'amqp://***@host/vhost'],
    ['cannot reach amqps://u:p@a:1 or amqp://v:q@b', 'cannot reach amqps://***@a:1 or amqp://***@b'],
    ['amqp://host', 'amqp://host'],
    ['someone@example.com', 'someone@example.com'],
    ['', ''],
  ])('makes of %j %j', (text, masked) => {
    expect(maskCredentials(text)).toBe(masked);
  });

  it.each(['amqp://user:pa@ss@host', 'amqp://user:pass/word@host', 'amqp://user:@@secret@host'])(
    'leaves nothing of a password with characters that should have been escaped: %s',
    (url) => {
      expect(maskCredentials(url)).not.toMatch(/ss|word|secret/);
    },
  );
});
