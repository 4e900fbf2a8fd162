import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findUnsafeJson } from '../../../../lib/core/message/codec.js';

function find(text: string): string | undefined {
  return findUnsafeJson(Buffer.from(text), text);
}

function nested(depth: number, open = '[', close = ']'): string {
  return open.repeat(depth) + close.repeat(depth);
}

const tooDeep = 'nested deeper than 1000 levels';
const namesPrototype = 'has a key named __proto__';

/** Longer than what is too short to be deep. */
const padding = JSON.stringify('p'.repeat(3_000));

describe('nesting', () => {
  it('may be 1000 levels deep', () => {
    expect(find(nested(1_000))).toBeUndefined();
    expect(find(`{"p":${padding},"v":${nested(999)}}`)).toBeUndefined();
  });

  it('may not be 1001 levels deep, in lists, objects or both', () => {
    expect(find(nested(1_001))).toBe(tooDeep);
    expect(find(nested(1_001, '{"a":', '}').replace(':}', ':1}'))).toBe(tooDeep);
    expect(find(`[${padding},${nested(500, '[{"a":', '}]').replace(':}', ':1}')}]`)).toBe(tooDeep);
  });

  it('is found also where the document never ends', () => {
    expect(find('['.repeat(100_000))).toBe(tooDeep);
  });

  it('is depth, not number: siblings do not add up', () => {
    expect(find(`[${Array(5_000).fill('[]').join(',')}]`)).toBeUndefined();
    expect(find(`[${Array(5_000).fill('{"a":[1]}').join(',')}]`)).toBeUndefined();
  });

  it('does not count brackets inside strings', () => {
    expect(find(JSON.stringify('['.repeat(5_000)))).toBeUndefined();
    expect(find(JSON.stringify({ ['{'.repeat(5_000)]: '[{'.repeat(2_000) }))).toBeUndefined();
  });

  it('is not fooled by escaped quotes and backslashes about where a string ends', () => {
    expect(find(JSON.stringify('"' + '['.repeat(5_000)))).toBeUndefined();
    expect(find(JSON.stringify('\\"' + '['.repeat(5_000)))).toBeUndefined();
    expect(find(`[${JSON.stringify('\\')},${nested(1_001)}]`)).toBe(tooDeep);
    expect(find(`[${JSON.stringify('\\\\"')},${nested(1_001)}]`)).toBe(tooDeep);
  });

  it('agrees with a count over the parsed value, whatever the strings hold', () => {
    const text = fc.string({ unit: fc.constantFrom('[', ']', '{', '}', '"', '\\', 'a', 'é') });
    fc.assert(
      fc.property(text, text, fc.integer({ min: 990, max: 1_010 }), (key, value, depth) => {
        const inner = JSON.stringify({ [key]: value });
        const document = `${'['.repeat(depth - 1)}${inner}${']'.repeat(depth - 1)}`;
        expect(find(`${' '.repeat(2_000)}${document}`)).toBe(depth > 1_000 ? tooDeep : undefined);
      }),
    );
  });
});

/** Each letter of `__proto__` plain or in one of the spellings that JSON has for it. */
const spelledKey = fc
  .tuple(
    ...[...'__proto__'].map((deadLetter) => {
      const code = deadLetter.charCodeAt(0).toString(16).padStart(4, '0');
      return fc.constantFrom(deadLetter, `\\u${code}`, `\\u${code.toUpperCase()}`);
    }),
  )
  .map((deadLetters) => deadLetters.join(''));

describe('a key named __proto__', () => {
  it.each([
    '{"__proto__":1}',
    '{"a":1,"__proto__":null}',
    '[[{"a":{"__proto__":{}}}]]',
    '{"__proto__" :1}',
    '{"__proto__" \t\r\n :1}',
    '{"\\u005f_proto__":1}',
    '{"\\u005F\\u005f\\u0070\\u0072\\u006F\\u0074\\u006f\\u005f\\u005F":1}',
    '{"__pr\\u006ft\\u006F__":1}',
    '{"constructor":"__proto__","__proto__":1}',
  ])('is found in %s', (text) => {
    expect(find(text)).toBe(namesPrototype);
  });

  it('is found in every spelling', () => {
    fc.assert(
      fc.property(spelledKey, fc.string({ unit: fc.constantFrom(' ', '\t', '\r', '\n') }), (key, space) => {
        const text = `{"before":"\\u0041","${key}"${space}:1}`;
        expect(Object.hasOwn(JSON.parse(text) as object, '__proto__')).toBe(true);
        expect(find(text)).toBe(namesPrototype);
      }),
    );
  });

  it.each([
    ['"__proto__"'],
    ['["__proto__"]'],
    ['{"a":"__proto__"}'],
    ['{"a":"__proto__","b":1}'],
    ['{"__proto":1,"_proto__":2,"__proto__x":3,"x__proto__":4}'],
    ['{"__PROTO__":1}'],
    [JSON.stringify({ a: '{"__proto__":1}' })],
    [JSON.stringify({ a: 'say "__proto__": and mean it' })],
    [JSON.stringify({ a: ['"__proto__"', ':'] })],
    [JSON.stringify({ a: JSON.stringify({ b: '{"__proto__":1}' }) })],
    ['{"a":"\\u0041"}'],
    ['{"\\\\u005f_proto__":1}'],
    ['{"\\u005cu005f_proto__":1}'],
  ])('is not what %s has', (text) => {
    expect(find(text)).toBeUndefined();
  });

  it('is not one whose name only ends like it, after a quote', () => {
    expect(find(JSON.stringify({ 'a"__proto__': 1 }))).toBeUndefined();
  });

  it('is found exactly where parsing would make one', () => {
    const name = fc.oneof(spelledKey, fc.constantFrom('a', '__proto', '\\u0061', '__proto__ '));
    const value = fc.oneof(
      fc.constant('1'),
      name.map((text) => `"${text}"`),
      fc.constant('"\\"__proto__\\":"'),
    );
    const object = fc.array(fc.tuple(name, value), { maxLength: 4 });
    fc.assert(
      fc.property(object, (entries) => {
        const text = `[{${entries.map(([key, json]) => `"${key}":${json}`).join(',')}}]`;
        const [parsed] = JSON.parse(text) as [object];
        expect(find(text)).toBe(Object.hasOwn(parsed, '__proto__') ? namesPrototype : undefined);
      }),
    );
  });
});

it('reads a large harmless body once, not once for each of its parts', () => {
  const hostileSpaces = `[${Array(2_000)
    .fill(`"__proto__"${' '.repeat(100)}`)
    .join(',')}]`;
  const hostileQuotes = `["${'\\"__proto__'.repeat(20_000)}"]`;
  expect([find(hostileSpaces), find(hostileQuotes)]).toEqual([undefined, undefined]);
});
