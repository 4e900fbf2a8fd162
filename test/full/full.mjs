// Runs everything: npm run test:full [-- --part <name> [--part <name>…]] [--again] [--list]
import { relative } from 'node:path';
import { parseArgs } from 'node:util';
import { parts } from './parts.mjs';
import { readResult, resultsFolder, root, table, writeResult } from './results.mjs';
import { runStep } from './steps.mjs';

/** @typedef {import('./parts.mjs').Step} Step */

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
  /** @type {import('./steps.mjs').Outcome[]} */
  const outcomes = [];
  for (const step of steps) {
    console.log(`\n=== ${part}: ${step.name}`);
    outcomes.push(await runStep(step));
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
