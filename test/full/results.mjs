import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * What became of one part.
 * @typedef {object} Result
 * @property {string} part
 * @property {boolean} isGreen
 * @property {number} passed
 * @property {number} failed
 * @property {number} skipped
 * @property {number} seconds
 * @property {readonly string[]} failures Steps and test files that failed.
 * @property {readonly string[]} skips Test files with tests that were skipped, and how many.
 * @property {string} endedAt
 */

/**
 * Where the results of this state of the sources are kept: one folder for each commit, and for each set of changes that
 * is not committed.
 */
export function resultsFolder() {
  const git = (/** @type {string[]} */ ...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' });
  const commit = git('rev-parse', '--short=12', 'HEAD').trim();
  const untracked = git('ls-files', '--others', '--exclude-standard', '-z').split('\0').filter(Boolean);
  const diff = git('diff', 'HEAD', '--binary');
  if (diff === '' && untracked.length === 0) return join(root, '.build', 'test-full', commit);
  const hash = createHash('sha256').update(diff);
  for (const file of untracked) hash.update(`\0${file}\0`).update(readFileSync(join(root, file)));
  return join(root, '.build', 'test-full', `${commit}-dirty-${hash.digest('hex').slice(0, 8)}`);
}

/**
 * @param {string} folder
 * @param {string} part
 * @returns {Result | undefined}
 */
export function readResult(folder, part) {
  const file = join(folder, `${part}.json`);
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
}

/**
 * @param {string} folder
 * @param {Result} result
 */
export function writeResult(folder, result) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${result.part}.json`), `${JSON.stringify(result, undefined, 2)}\n`);
}

/** @param {number} seconds */
function time(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, '0')}`;
}

/**
 * @param {readonly string[]} names
 * @param {ReadonlyMap<string, Result>} results
 */
export function table(names, results) {
  const header = ['part', 'result', 'passed', 'failed', 'skipped', 'minutes'];
  const rows = names.map((name) => {
    const result = results.get(name);
    if (!result) return [name, 'did not run', '', '', '', ''];
    const { isGreen, passed, failed, skipped, seconds } = result;
    return [name, isGreen ? 'passed' : 'FAILED', passed, failed, skipped, time(seconds)].map(String);
  });
  const all = [...results.values()];
  const sum = (/** @type {'passed' | 'failed' | 'skipped' | 'seconds'} */ key) =>
    all.reduce((total, result) => total + result[key], 0);
  rows.push(['', '', sum('passed'), sum('failed'), sum('skipped'), time(sum('seconds'))].map(String));
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (/** @type {readonly string[]} */ cells) =>
    cells.map((cell, i) => (i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ');
  const lines = [header, ...rows].map((row) => line(row).trimEnd());
  for (const { part, failures, skips } of all) {
    for (const failure of failures) lines.push(`FAILED   ${part}: ${failure}`);
    for (const skip of skips) lines.push(`SKIPPED  ${part}: ${skip}`);
  }
  return lines.join('\n');
}
