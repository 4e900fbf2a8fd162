// Looks for tests that fail when they are slow: npm run test:stress [-- --times 5] [--busy] [<test files>]
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root } from './results.mjs';
import { runStep } from './steps.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    times: { type: 'string', default: '5' },
    // A loop for each core takes the processor away from the tests.
    busy: { type: 'boolean', default: false },
  },
});

/** @type {Record<string, number>} */
const durations = JSON.parse(readFileSync(join(root, 'test/support/durations.json'), 'utf8'));
const slowest = Object.keys(durations)
  .toSorted((a, b) => (durations[b] ?? 0) - (durations[a] ?? 0))
  .slice(0, 10);
const files = positionals.length > 0 ? positionals : slowest;

const loops = Array.from({ length: values.busy ? availableParallelism() : 0 }, () =>
  spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
);
process.once('exit', () => {
  for (const loop of loops) loop.kill('SIGKILL');
});

/** @type {string[]} */
const failures = [];
for (let n = 1; n <= Number(values.times); n++) {
  const began = performance.now();
  const env = { STORK_WORKERS: String(files.length) };
  const outcome = await runStep({ name: `round ${n}`, vitest: files, env });
  failures.push(...outcome.failures);
  const seconds = Math.round((performance.now() - began) / 1_000);
  console.log(`\nround ${n}: ${outcome.passed} passed, ${outcome.failed} failed, ${seconds} s`);
}
for (const failure of failures) console.log(`FAILED ${failure}`);
process.exitCode = failures.length > 0 ? 1 : 0;
