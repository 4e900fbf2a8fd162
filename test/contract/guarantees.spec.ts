import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { guarantees } from './guarantees.js';

const sourceOf = (file: string): string =>
  readFileSync(fileURLToPath(new URL(`../${file}`, import.meta.url)), 'utf8');

/** Titles as they stand in the source: after the name of a test function, or behind the table of an `each`. */
function titlesIn(source: string): ReadonlySet<string> {
  const titles = source.matchAll(/(?:\bit(?:\.\w+)*|\)|\])\(\s*(['`])((?:(?!\1).)+)\1,/g);
  return new Set([...titles].map(([, , title]) => title!));
}

describe('what is promised', () => {
  it.each(guarantees)('is tested: $what', ({ tests }) => {
    const named = Object.entries(tests);
    expect(named.flatMap(([, titles]) => titles).length).toBeGreaterThan(0);
    for (const [file, titles] of named)
      expect([...titlesIn(sourceOf(file))]).toEqual(expect.arrayContaining([...titles]));
  });

  it('is tested on every driver: the suite of the contract runs each file that is named here', () => {
    const contract = sourceOf('contract/driver-contract.ts');
    const suites = guarantees
      .flatMap(({ tests }) => Object.keys(tests))
      .filter((file) => file.includes('/suite/'));
    for (const file of suites)
      expect(contract).toContain(`./${file.slice('contract/'.length, -'.ts'.length)}.js`);
  });

  it('is looked for: a title that no test has is found missing', () => {
    const titles = titlesIn("it('one', () => {});\n  it.each([1])('two %s', () => {});\n  xit('three', f);");
    expect([...titles]).toEqual(['one', 'two %s', 'three'].slice(0, 2));
  });
});
