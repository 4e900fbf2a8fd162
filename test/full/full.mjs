// Runs everything: npm run test:full [-- --part <name> [--part <name>…]] [--again] [--list]
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { parts } from './parts.mjs';
import { readResult, resultsFolder, root, table, writeResult } from './results.mjs';

/** @typedef {import('./parts.mjs').Step} Step */
/** @typedef {Pick<import('./results.mjs').Result, 'passed' | 'failed' | 'skipped' | 'failures' | 'skips'>} Outcome */

const names = Object.keys(parts);
const { values } = parseArgs({
  options: {
    part: { type: 'string', multiple: true },
    again: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});
const chosen = values.part ?? names;
const unknown = chosen.find((name) => !names.includes(name));
if (unknown !== undefined) {
  console.error(`no part ${unknown}; there are ${names.join(', ')}`);
  process.exit(2);
}
const folder = resultsFolder();
if (values.list) {
  for (const name of chosen) {
    const result = readResult(folder, name);
    const state = result === undefined ? 'has not run' : result.isGreen ? 'passed' : 'FAILED';
    console.log(`${name.padEnd(12)} ${state.padEnd(12)} ${parts[name]?.map((step) => step.name).join('; ')}`);
  }
  process.exit(0);
}

/** @type {Map<string, import('./results.mjs').Result>} */
const results = new Map();
for (const name of chosen) {
  // A part that failed runs again: otherwise a run could only be ended by --again, which repeats everything.
  const kept = values.again ? undefined : readResult(folder, name);
  if (kept?.isGreen) {
    console.log(`\n=== ${name}: has passed for these sources at ${kept.endedAt}; --again repeats it`);
    results.set(name, kept);
    continue;
  }
  const result = await runPart(name, parts[name] ?? []);
  writeResult(folder, result);
  results.set(name, result);
}
console.log(`\n${table(chosen, results)}\n\nkept in ${relative(root, folder)}`);
process.exitCode = [...results.values()].every(({ isGreen }) => isGreen) ? 0 : 1;

/**
 * @param {string} part
 * @param {readonly Step[]} steps
 */
async function runPart(part, steps) {
  const began = performance.now();
  /** @type {Outcome[]} */
  const outcomes = [];
  for (const step of steps) {
    console.log(`\n=== ${part}: ${step.name}`);
    outcomes.push(await runStep(part, step));
  }
  const sum = (/** @type {'passed' | 'failed' | 'skipped'} */ key) =>
    outcomes.reduce((total, outcome) => total + outcome[key], 0);
  const failures = outcomes.flatMap((outcome) => outcome.failures);
  return {
    part,
    isGreen: failures.length === 0,
    passed: sum('passed'),
    failed: sum('failed'),
    skipped: sum('skipped'),
    seconds: (performance.now() - began) / 1_000,
    failures,
    skips: outcomes.flatMap((outcome) => outcome.skips),
    endedAt: new Date().toISOString(),
  };
}

/**
 * @param {string} part
 * @param {Step} step
 * @returns {Promise<Outcome>}
 */
async function runStep(part, { name, npm, vitest = [], node, env = {} }) {
  if (npm) {
    const isGreen = (await run('npm', ['run', ...npm], env)) === 0;
    const failures = isGreen ? [] : [name];
    return { passed: Number(isGreen), failed: failures.length, skipped: 0, failures, skips: [] };
  }
  mkdirSync(folder, { recursive: true });
  const report = join(folder, `${part}.report.json`);
  // The report of an earlier step must not count for a run that ends before it writes its own.
  rmSync(report, { force: true });
  const args = ['run', '--config', 'test/vitest.config.ts', ...vitest];
  const program = 'node_modules/vitest/vitest.mjs';
  const withReport = { ...env, STORK_REPORT: report };
  const code = node
    ? await run('npx', ['-y', `node@${node}`, program, ...args], withReport)
    : await run(process.execPath, [program, ...args], withReport);
  return outcomeOf(name, code, report);
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {Readonly<Record<string, string>>} env
 * @returns {Promise<number | null>}
 */
function run(command, args, env) {
  const child = spawn(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
}

/**
 * @param {string} step
 * @param {number | null} code
 * @param {string} report What `json` of vitest has written.
 * @returns {Outcome}
 */
function outcomeOf(step, code, report) {
  /** @type {{ numPassedTests: number, numFailedTests: number, testResults: { name: string, status: string, assertionResults: { status: string }[] }[] }} */
  let written;
  try {
    written = JSON.parse(readFileSync(report, 'utf8'));
  } catch {
    return { passed: 0, failed: 1, skipped: 0, failures: [`${step}: ended without a report`], skips: [] };
  }
  const files = written.testResults.map(({ name, status, assertionResults }) => ({
    name: relative(root, name),
    isFailed: status === 'failed',
    skipped: assertionResults.filter((test) => test.status !== 'passed' && test.status !== 'failed').length,
  }));
  const failures = files.filter(({ isFailed }) => isFailed).map(({ name }) => `${step}: ${name}`);
  // An error outside of any test, or a table of the contract that is not even.
  if (code !== 0 && failures.length === 0) failures.push(`${step}: ended with code ${code}`);
  return {
    passed: written.numPassedTests,
    failed: written.numFailedTests,
    skipped: files.reduce((sum, { skipped }) => sum + skipped, 0),
    failures,
    skips: files
      .filter(({ skipped }) => skipped > 0)
      .map(({ name, skipped }) => `${step}: ${skipped} of ${name}`),
  };
}
