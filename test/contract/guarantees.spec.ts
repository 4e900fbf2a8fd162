import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { guarantees } from './guarantees.js';

const sourceOf = (file: string): string =>
  readFileSync(fileURLToPath(new URL(`../${file}`, import.meta.url)), 'utf8');

/** Modifiers whose tests do not run, or are expected to fail. */
const disablingModifiers = ['skip', 'todo', 'fails'];

/** `it.each(table)('title', …)` → `['it', 'each']`. */
function namesOf(called: ts.Expression): readonly string[] {
  if (ts.isCallExpression(called)) return namesOf(called.expression);
  if (ts.isTaggedTemplateExpression(called)) return namesOf(called.tag);
  if (ts.isPropertyAccessExpression(called)) return [...namesOf(called.expression), called.name.text];
  return ts.isIdentifier(called) ? [called.text] : [];
}

/** Titles of the tests that run, as written in the source. */
function titlesIn(source: string): ReadonlySet<string> {
  const titles = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node)) {
      const [root, ...how] = namesOf(node.expression);
      const isOfTests = root === 'it' || root === 'describe';
      if (isOfTests && how.some((name) => disablingModifiers.includes(name))) return;
      const [title] = node.arguments;
      if (root === 'it' && title !== undefined && ts.isStringLiteralLike(title)) titles.add(title.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('some.spec.ts', source, ts.ScriptTarget.Latest));
  return titles;
}

describe('a guarantee', () => {
  it.each(guarantees)('is tested: $what', ({ tests }) => {
    const named = Object.entries(tests);
    expect(named.flatMap(([, titles]) => titles).length).toBeGreaterThan(0);
    for (const [file, titles] of named)
      expect([...titlesIn(sourceOf(file))]).toEqual(expect.arrayContaining([...titles]));
  });

  it('is tested on every driver: the contract runs each suite file that a guarantee names', () => {
    const contract = sourceOf('contract/driver-contract.ts');
    const suites = guarantees
      .flatMap(({ tests }) => Object.keys(tests))
      .filter((file) => file.includes('/suite/'));
    for (const file of suites)
      expect(contract).toContain(`./${file.slice('contract/'.length, -'.ts'.length)}.js`);
  });

  it('names titles of existing tests only', () => {
    const titles = titlesIn("it('one', () => {});\n  it.each([1])('two %s', () => {});\n  xit('three', f);");
    expect([...titles]).toEqual(['one', 'two %s']);
  });

  it.each([
    "it.skip('one', f)",
    "it.todo('one')",
    "it.fails('one', f)",
    "it.concurrent.skip.each([1])('one', f)",
    "describe.skip('several', () => { it('one', f); })",
    "// it('one', f)",
    "/* it('one', f) */",
  ])('is not proven by a test that does not run: %s', (source) => {
    expect([...titlesIn(source)]).toEqual([]);
  });
});
