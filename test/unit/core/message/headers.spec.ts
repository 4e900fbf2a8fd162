import { describe, expect, it } from 'vitest';
import {
  copyHeaders,
  emptyHeaders,
  headerNames,
  headerText,
  latestTimeMs,
  readCount,
  readKey,
  readText,
  readTime,
  reservedPrefix,
  timeText,
  type HeaderValue,
  type MessageHeaders,
} from '../../../../lib/core/message/headers.js';

function text(value: HeaderValue, maxLength?: number): string | undefined {
  return readText({ h: value }, 'h', maxLength);
}

function count(value: HeaderValue): number | undefined {
  return readCount({ h: value }, 'h');
}

function time(value: HeaderValue): number | undefined {
  return readTime({ h: value }, 'h');
}

describe('headerText', () => {
  it.each<[string, HeaderValue, string | undefined]>([
    ['text', 'Ærø', 'Ærø'],
    ['empty text', '', ''],
    ['bytes', new Uint8Array(Buffer.from('xÆx')).subarray(1, 3), 'Æ'],
    ['a number', -1.5, '-1.5'],
    ['a bigint', 2n ** 64n, '18446744073709551616'],
    ['a boolean', true, 'true'],
    ['a date', new Date(0), '1970-01-01T00:00:00.000Z'],
    ['an invalid date', new Date(Number.NaN), undefined],
    ['a list', [1, 'a'], '1'],
    ['an empty list', [], undefined],
    ['null', null, undefined],
    ['a table', { a: 'b' }, undefined],
    ['long text', 'x'.repeat(100_000), 'x'.repeat(100_000)],
  ])('is of %s its text', (_, value, expected) => {
    expect(headerText({ h: value }, 'h')).toBe(expected);
  });

  it('is undefined for names of the prototype', () => {
    expect(headerText({}, 'constructor')).toBeUndefined();
    expect(headerText({}, '__proto__')).toBeUndefined();
  });
});

describe('readText', () => {
  it('reads text, and bytes as UTF-8', () => {
    expect(text('Ærø')).toBe('Ærø');
    expect(text(Buffer.from('Ærø'))).toBe('Ærø');
    expect(text(new Uint8Array(Buffer.from('xÆx')).subarray(1, 3))).toBe('Æ');
    expect(text('')).toBe('');
  });

  it('takes the first value of a repeated header', () => {
    expect(text(['a', 'b'])).toBe('a');
    expect(text([Buffer.from('a'), 'b'])).toBe('a');
  });

  it.each<[string, HeaderValue]>([
    ['a number', 1],
    ['a bigint', 1n],
    ['a boolean', true],
    ['null', null],
    ['a date', new Date(0)],
    ['a table', { a: 'b' }],
    ['an empty list', []],
    ['a list in a list', [['a']]],
    ['a list of a number', [1, 'a']],
    ['a list of undefined', [undefined, 'a']],
  ])('takes %s for absent', (_, value) => {
    expect(text(value)).toBeUndefined();
  });

  it('takes for absent what is longer than its limit', () => {
    expect(text('x'.repeat(1_024))).toHaveLength(1_024);
    expect(text('x'.repeat(1_025))).toBeUndefined();
    expect(text(Buffer.alloc(1_025, 'x'))).toBeUndefined();
    expect(text('abc', 3)).toBe('abc');
    expect(text('abcd', 3)).toBeUndefined();
  });

  it('survives bytes that are not UTF-8', () => {
    expect(text(Buffer.from([0xff, 0x61]))).toBe('\uFFFDa');
  });

  it('takes a table for no text, whatever its prototype is', () => {
    const table = Object.create(Buffer.from('bytes')) as Record<string, string>;
    expect(readText({ table }, 'table')).toBeUndefined();
  });

  it('returns undefined for an absent header', () => {
    expect(readText({}, 'h')).toBeUndefined();
    expect(readText({ h: undefined }, 'h')).toBeUndefined();
    expect(readText(emptyHeaders(), 'toString')).toBeUndefined();
  });
});

describe('readCount', () => {
  it.each<[HeaderValue, number]>([
    ['0', 0],
    ['7', 7],
    ['007', 7],
    ['999999999', 999_999_999],
    [Buffer.from('12'), 12],
    [['3', '4'], 3],
  ])('reads %j as %j', (value, expected) => {
    expect(count(value)).toBe(expected);
  });

  it.each<[HeaderValue]>([
    ['-1'],
    ['+1'],
    ['1.5'],
    ['1e3'],
    ['0x10'],
    ['NaN'],
    ['Infinity'],
    [''],
    [' 1'],
    ['1\n'],
    ['1234567890'],
    ['٣'],
    [3],
    [null],
    [[]],
    [{}],
    [true],
  ])('takes %j for absent', (value) => {
    expect(count(value)).toBeUndefined();
  });
});

describe('readTime', () => {
  it('reads times as timeText writes them', () => {
    const at = Date.UTC(2026, 1, 3, 4, 5, 6, 7);
    expect(timeText(at)).toBe('2026-02-03T04:05:06.007Z');
    expect(time(timeText(at))).toBe(at);
    expect(time(Buffer.from('2026-02-03T04:05:06.007Z'))).toBe(at);
  });

  it('reads other zones and less precision', () => {
    expect(time('2026-02-03T05:05:06+01:00')).toBe(Date.UTC(2026, 1, 3, 4, 5, 6));
  });

  it.each<[HeaderValue]>([
    ['0'],
    ['1767225600000'],
    [1_767_225_600_000],
    [new Date(0)],
    ['2026-02-03'],
    ['2026-02-03T'],
    ['2026-13-03T04:05:06Z'],
    ['2026-02-03T25:05:06Z'],
    ['2026-02-03T04:05:06Z and more'],
    ['2026-02-03T04:05:06Z\n'],
    [' 2026-02-03T04:05:06Z'],
    ['+012026-02-03T04:05:06Z'],
    ['Tue, 03 Feb 2026 04:05:06 GMT'],
    ['tomorrow'],
    [''],
    [null],
    [[]],
    ['2026-02-03T04:05:06.' + '0'.repeat(30) + 'Z'],
  ])('takes %j for absent', (value) => {
    expect(time(value)).toBeUndefined();
  });
});

describe('timeText', () => {
  it.each([8.64e15 + 1, -8.64e15 - 1, Infinity, -Infinity, NaN])('has no text for %d', (epochMs) => {
    expect(timeText(epochMs)).toBeUndefined();
  });

  it('covers all times that a Date can hold', () => {
    expect(timeText(latestTimeMs)).toBe('+275760-09-13T00:00:00.000Z');
  });
});

describe('readKey', () => {
  it('reads text of any length, bytes, and numbers of other libraries', () => {
    const values: HeaderValue[] = ['x'.repeat(5_000), Buffer.from('k'), 7, 7n, ['a', 'b']];
    const keys = values.map((value) => readKey({ h: value }, 'h'));
    expect(keys).toEqual(['x'.repeat(5_000), 'k', '7', '7', 'a']);
    expect(readKey({}, 'h')).toBeUndefined();
  });
});

describe('copyHeaders', () => {
  it('copies what is there and leaves the original alone', () => {
    const own: MessageHeaders = { a: '1', b: undefined, c: ['x'] };
    const copy = copyHeaders(own);
    copy['a'] = '2';
    expect(own['a']).toBe('1');
    expect(Object.keys(copy)).toEqual(['a', 'b', 'c']);
  });

  it('makes empty headers of undefined', () => {
    expect(Object.keys(copyHeaders(undefined))).toEqual([]);
  });

  it('makes objects without a prototype, in which __proto__ is only a header', () => {
    const hostile = JSON.parse('{"__proto__":"x","a":"1"}') as MessageHeaders;
    const copy = copyHeaders(hostile);
    expect(Object.getPrototypeOf(copy)).toBeNull();
    expect(Object.keys(copy)).toEqual(['__proto__', 'a']);
    expect(copy['__proto__']).toBe('x');
    expect(copy['hasOwnProperty']).toBeUndefined();
  });

  it('does not copy what is inherited', () => {
    expect(Object.keys(copyHeaders(Object.create({ inherited: 'x' }) as MessageHeaders))).toEqual([]);
  });
});

describe('headerNames', () => {
  it('all begin with the reserved prefix, but for the content type', () => {
    const others = Object.values(headerNames).filter((name) => !name.startsWith(reservedPrefix));
    expect(others).toEqual(['content-type']);
  });

  it('are unique', () => {
    const names = Object.values(headerNames);
    expect(new Set(names).size).toBe(names.length);
  });
});
