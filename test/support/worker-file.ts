import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { afterAll, beforeAll } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Compiles a program that a test file starts as processes of its own, once for that file, and removes it again. To be called where hooks may be.
 *
 * @param entry its source, from the folder of the project
 * @returns the path of what `node` can run
 */
export function useWorkerFile(entry: string, isSkipped: boolean): string {
  const folder = `${root}node_modules/.stork-e2e/${randomUUID()}`;
  beforeAll(async () => {
    if (isSkipped) return;
    await build({
      root,
      configFile: false,
      logLevel: 'error',
      resolve: {
        alias: [
          { find: /^nestjs-stork$/, replacement: `${root}lib/index.ts` },
          { find: /^nestjs-stork\/(.+)$/, replacement: `${root}lib/$1/index.ts` },
        ],
      },
      build: { ssr: `${root}${entry}`, outDir: folder, target: 'node20', minify: false },
    });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return `${folder}/${basename(entry, '.ts')}.js`;
}
