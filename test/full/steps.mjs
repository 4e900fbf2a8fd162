import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { checkoutWithNest } from './nest-checkout.mjs';
import { root } from './results.mjs';

/** @typedef {Pick<import('./results.mjs').Result, 'passed' | 'failed' | 'skipped' | 'failures' | 'skips'>} Outcome */

/**
 * @param {import('./parts.mjs').Step} step
 * @returns {Promise<Outcome>}
 */
export async function runStep({ name, npm, vitest = [], node, nest, env = {} }) {
  let cwd = root;
  try {
    if (nest !== undefined) cwd = checkoutWithNest(nest);
  } catch (error) {
    const failures = [`${name}: ${error.message}`];
    return { passed: 0, failed: 1, skipped: 0, failures, skips: [] };
  }
  if (npm) {
    const isGreen = (await run('npm', ['run', ...npm], { cwd, env })) === 0;
    const failures = isGreen ? [] : [name];
    return { passed: Number(isGreen), failed: failures.length, skipped: 0, failures, skips: [] };
  }
  const folder = mkdtempSync(join(tmpdir(), 'stork-report-'));
  try {
    const report = join(folder, 'report.json');
    const args = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/vitest.config.ts', ...vitest];
    const options = { cwd, env: { ...env, STORK_REPORT: report } };
    const code = node
      ? await run('npx', ['-y', `node@${node}`, ...args], options)
      : await run(process.execPath, args, options);
    return outcomeOf(name, code, report);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ readonly cwd: string, readonly env: Readonly<Record<string, string>> }} options
 * @returns {Promise<number | null>}
 */
function run(command, args, { cwd, env }) {
  const child = spawn(command, args, { cwd, stdio: 'inherit', env: { ...process.env, ...env } });
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
