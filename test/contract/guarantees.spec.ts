import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { guarantees } from './guarantees.js';

const sourceOf = (file: string): string =>
  readFileSync(fileURLToPath(new URL(`../${file}`, import.meta.url)), 'utf8');

/** Nothing below such a call is run, or it has to fail. */
const proofless = ['skip', 'todo', 'fails'];

/** `it.each(table)('title', …)` → `['it', 'each']`. */
function namesOf(called: ts.Expression): readonly string[] {
  if (ts.isCallExpression(called)) return namesOf(called.expression);
  if (ts.isTaggedTemplateExpression(called)) return namesOf(called.tag);
  if (ts.isPropertyAccessExpression(called)) return [...namesOf(called.expression), called.name.text];
  return ts.isIdentifier(called) ? [called.text] : [];
}

/** Titles of the tests that are run, as they stand in the source. */
function titlesIn(source: string): ReadonlySet<string> {
  const titles = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node)) {
      const [root, ...how] = namesOf(node.expression);
      const isOfTests = root === 'it' || root === 'describe';
      if (isOfTests && how.some((name) => proofless.includes(name))) return;
      const [title] = node.arguments;
      if (root === 'it' && title !== undefined && ts.isStringLiteralLike(title)) titles.add(title.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('some.spec.ts', source, ts.ScriptTarget.Latest));
  return titles;
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
  ])('is not proven by what is not run: %s', (source) => {
    expect([...titlesIn(source)]).toEqual([]);
  });
});
