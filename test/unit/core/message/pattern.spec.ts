import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  matches,
  matchesWords,
  patternFromRegExp,
  patternFromString,
} from '../../../../lib/core/message/pattern.js';

/** The definition, word by word: `#` takes none, or one and is asked again. */
function naiveMatch(wanted: readonly string[], given: readonly string[]): boolean {
  const [word, ...rest] = wanted;
  if (word === undefined) return given.length === 0;
  if (word === '#')
    return naiveMatch(rest, given) || (given.length > 0 && naiveMatch(wanted, given.slice(1)));
  return given.length > 0 && (word === '*' || word === given[0]) && naiveMatch(rest, given.slice(1));
}

function words(text: string): string[] {
  return text === '' ? [] : text.split('.');
}

describe('matchesWords', () => {
  it.each([
    ['*.orange.*', 'quick.orange.rabbit'],
    ['*.orange.*', 'lazy.orange.elephant'],
    ['*.*.rabbit', 'quick.orange.rabbit'],
    ['lazy.#', 'lazy.orange.elephant'],
    ['lazy.#', 'lazy.brown.fox'],
    ['lazy.#', 'lazy.orange.new.rabbit'],
    ['lazy.#', 'lazy'],
    ['#', ''],
    ['#', 'anything.at.all'],
    ['#.#', ''],
    ['#.a', 'a'],
    ['#.a.#', 'x.a.y.z'],
    ['*.#', 'a'],
    ['', ''],
    ['a.*', 'a.'],
    ['a..b', 'a..b'],
    ['a.*.b', 'a..b'],
    ['stock.#.nyse', 'stock.nyse'],
    ['stock.#.nyse', 'stock.usd.eur.nyse'],
    ['a.#.b.#.c', 'a.b.b.x.c'],
  ])('takes for %j the key %j', (binding, key) => {
    expect(matchesWords(binding, key)).toBe(true);
  });

  it.each([
    ['*.orange.*', 'orange'],
    ['*.orange.*', 'quick.orange.new.rabbit'],
    ['*.*.rabbit', 'quick.brown.fox'],
    ['lazy.#', 'quick.brown.fox'],
    ['*', ''],
    ['*', 'a.b'],
    ['*.#', ''],
    ['', 'a'],
    ['a', ''],
    ['a', 'A'],
    ['a*', 'ab'],
    ['a.#b', 'a.x.b'],
    ['order.*', 'order'],
    ['order', 'order.paid'],
    ['order.paid', 'order'],
    ['.', ''],
    ['#.a.*', 'a'],
  ])('does not take for %j the key %j', (binding, key) => {
    expect(matchesWords(binding, key)).toBe(false);
  });

  it('agrees with the definition', () => {
    const binding = fc.array(fc.constantFrom('*', '#', 'a', 'b', ''), { maxLength: 6 });
    const key = fc.array(fc.constantFrom('a', 'b', '*', '#', ''), { maxLength: 7 });
    fc.assert(
      fc.property(binding, key, (wanted, given) => {
        const [left, right] = [wanted.join('.'), given.join('.')];
        expect(matchesWords(left, right)).toBe(naiveMatch(words(left), words(right)));
      }),
      { numRuns: 2_000 },
    );
  });

  it('takes no exponential time for many #', () => {
    const key = Array(60).fill('a').join('.');
    expect(matchesWords(Array(60).fill('#.a').join('.'), key)).toBe(true);
    expect(matchesWords(`${Array(60).fill('#.a').join('.')}.b`, key)).toBe(false);
  });
});

describe('patternFromString', () => {
  it.each(['*', '#', 'order.*', '#.paid', 'a.*.b'])('finds a wildcard in %j', (text) => {
    expect(patternFromString(text)).toEqual({ text, kind: 'wildcard' });
  });

  it.each(['order', 'order.paid', 'a*', 'order.#1', '**', '', '{"cmd":"*"}'])('finds none in %j', (text) => {
    expect(patternFromString(text)).toEqual({ text, kind: 'exact' });
  });
});

describe('patternFromRegExp', () => {
  it('is known by its source and flags', () => {
    expect(patternFromRegExp(/^order\./i)).toMatchObject({ text: '/^order\\./i', kind: 'regexp' });
  });

  it.each([/paid/g, /paid/y, /paid/gi])(
    'makes of %s one whose match does not depend on the one before',
    (regExp) => {
      const pattern = patternFromRegExp(regExp);
      expect([1, 2, 3].map(() => matches(pattern, 'paid'))).toEqual([true, true, true]);
      expect(matches(pattern, 'order.paid')).toBe(true);
    },
  );

  it('keeps the other flags and leaves the original alone', () => {
    const regExp = /PAID/gi;
    const pattern = patternFromRegExp(regExp);
    expect(pattern.regExp?.flags).toBe('i');
    matches(pattern, 'paid');
    expect(regExp.lastIndex).toBe(0);
  });
});

describe('matches', () => {
  it('compares exact text letter by letter', () => {
    expect(matches(patternFromString('order.paid'), 'order.paid')).toBe(true);
    expect(matches(patternFromString('order.paid'), 'order.Paid')).toBe(false);
    expect(matches({ text: 'order.*', kind: 'exact' }, 'order.paid')).toBe(false);
  });

  it('reads wildcards by words, regular expressions as they are', () => {
    expect(matches(patternFromString('order.*'), 'order.paid')).toBe(true);
    expect(matches(patternFromRegExp(/paid/), 'order.paid.late')).toBe(true);
    expect(matches(patternFromRegExp(/^paid/), 'order.paid')).toBe(false);
  });
});
