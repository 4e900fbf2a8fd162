import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import LongestFirst from './support/longest-first.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const lib = `${root}lib/`;
const support = `${root}test/support/`;
/** The file that `test:full` reads the counts from. */
const report = process.env['STORK_REPORT'];
const jsonTo = (outputFile: string): ['json', { outputFile: string }] => ['json', { outputFile }];
const brokers = `${support}global-setup.ts`;
/** These run what `npm run build` has made of the library and of the samples. */
const usingDist = ['test/package/**/*.spec.ts', 'test/e2e/{cli,sample,tour}*.e2e.spec.ts'];
/** These test the tests' own brokers, so they need them. */
const ofBrokers = 'test/unit/support/kafka-servers.spec.ts';
/** These need no broker. */
const unit = ['test/unit/**/*.spec.ts', 'test/structure/**/*.spec.ts'];
const memory = ['test/contract/{guarantees,memory-*}.spec.ts', 'test/e2e/nest/**/*.spec.ts'];

export default defineConfig({
  root,
  resolve: {
    alias: [
      { find: /^nestjs-stork$/, replacement: `${lib}index.ts` },
      { find: /^nestjs-stork\/(.+)$/, replacement: `${lib}$1/index.ts` },
    ],
  },
  test: {
    setupFiles: [`${support}setup.ts`],
    reporters: [
      'default',
      `${support}slowest-reporter.ts`,
      `${support}contract-reporter.ts`,
      ...(report ? [jsonTo(report)] : []),
    ],
    sequence: { sequencer: LongestFirst },
    // Most files wait for brokers and leave the processor to others.
    maxWorkers: Number(process.env['STORK_WORKERS'] ?? Math.max(6, availableParallelism())),
    // For what hangs: on a busy machine with brokers beside it, what is well takes many times its usual time.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Until then the brokers that were started for the tests have to be ended.
    teardownTimeout: 120_000,
    expect: { poll: { timeout: 60_000 } },
    projects: [
      // Without a process of its own for each file: loading Nest and the library takes longer than the tests do.
      { extends: true, test: { name: 'unit', include: unit, exclude: [ofBrokers], isolate: false } },
      { extends: true, test: { name: 'memory', include: memory } },
      {
        extends: true,
        test: {
          name: 'brokers',
          include: ['test/contract/**/*.spec.ts', 'test/e2e/**/*.spec.ts', ofBrokers],
          exclude: [...memory, ...usingDist],
          globalSetup: [brokers],
        },
      },
      {
        extends: true,
        test: { name: 'built', include: usingDist, globalSetup: [brokers, `${support}build-setup.ts`] },
      },
    ],
  },
});
