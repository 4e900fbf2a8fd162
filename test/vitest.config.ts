import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const root = fileURLToPath(new URL('../', import.meta.url));
const lib = `${root}lib/`;

export default defineConfig({
  root,
  resolve: {
    alias: [
      { find: /^nestjs-stork$/, replacement: `${lib}index.ts` },
      { find: /^nestjs-stork\/(.+)$/, replacement: `${lib}$1/index.ts` },
    ],
  },
  test: {
    include: ['test/**/*.spec.ts'],
    setupFiles: ['test/support/setup.ts'],
    reporters: ['default', './test/support/contract-reporter.ts'],
    testTimeout: 15_000,
  },
});
