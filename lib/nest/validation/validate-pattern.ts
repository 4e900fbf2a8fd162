import type { ConfigProblem } from '../../core/runtime/errors.js';
import { printable } from '../../core/message/text.js';

/** Depth to which Nest reads an object pattern. */
const maxDepth = 5;
const expected = 'text that is not empty, a number or an object with fields';
const fieldTypes: ReadonlySet<string> = new Set(['string', 'boolean']);

/**
 * A pattern that Nest's `normalizePattern` would turn into unintended text, or into none: `undefined` of a
 * circular import becomes the pattern "undefined", any object without fields becomes `{}`.
 *
 * @param name the pattern's name in the error text
 */
export function findPatternProblem(pattern: unknown, name: string): ConfigProblem | undefined {
  if (typeof pattern === 'object' && pattern !== null) {
    if (Object.keys(pattern).length > 0) return findFieldProblem(pattern, name, 1);
    return {
      name,
      expected,
      given: `${pattern instanceof RegExp ? 'a RegExp' : 'an object'} without fields`,
    };
  }
  const isValid = typeof pattern === 'number' ? Number.isFinite(pattern) : isText(pattern);
  return isValid ? undefined : { name, expected, given: describe(pattern) };
}

function findFieldProblem(pattern: object, name: string, depth: number): ConfigProblem | undefined {
  for (const [field, value] of Object.entries(pattern) as [string, unknown][]) {
    const path = `${name}.${field}`;
    const isObject = typeof value === 'object' && value !== null;
    const isValid = typeof value === 'number' ? Number.isFinite(value) : fieldTypes.has(typeof value);
    if (!isObject && !isValid && value !== null)
      return { name: path, expected: 'text, a number, a boolean, null or an object', given: describe(value) };
    const problem = isObject && depth < maxDepth ? findFieldProblem(value, path, depth + 1) : undefined;
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '';
}

function describe(value: unknown): string {
  if (value !== undefined) return printable(value);
  return 'undefined (is the constant imported from a file that imports this one?)';
}
