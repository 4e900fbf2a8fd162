import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const root = fileURLToPath(new URL('../', import.meta.url));
const lib = `${root}lib/`;
const support = `${root}test/support/`;
/** These build the library or use what was built: one after another. */
const usingDist = ['test/package/**/*.spec.ts', 'test/e2e/{cli,sample,tour}*.e2e.spec.ts'];

export default defineConfig({
  root,
  resolve: {
    alias: [
      { find: /^nestjs-stork$/, replacement: `${lib}index.ts` },
      { find: /^nestjs-stork\/(.+)$/, replacement: `${lib}$1/index.ts` },
    ],
  },
  test: {
    globalSetup: [`${support}global-setup.ts`],
    setupFiles: [`${support}setup.ts`],
    reporters: ['default', `${support}contract-reporter.ts`],
    // For what hangs: on a busy machine with brokers beside it, what is well takes many times its usual time.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Until then the brokers that were started for the tests have to be ended.
    teardownTimeout: 120_000,
    expect: { poll: { timeout: 30_000 } },
    projects: [
      { extends: true, test: { name: 'source', include: ['test/**/*.spec.ts'], exclude: usingDist } },
      { extends: true, test: { name: 'built', include: usingDist, fileParallelism: false } },
    ],
  },
});
