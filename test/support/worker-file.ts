import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { basename, dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'vite';
import { afterAll, beforeAll } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Compiles a program that a test file starts as processes of its own, once for that file, and removes it again. To be called where hooks may be.
 *
 * @param entry its source, from the folder of the project
 * @param sources files of the program that exist here alone, by their path from the folder of the project
 * @returns the path of what `node` can run
 */
export function useWorkerFile(
  entry: string,
  isSkipped: boolean,
  sources: Readonly<Record<string, string>> = {},
): string {
  const folder = `${root}node_modules/.stork-e2e/${randomUUID()}`;
  beforeAll(async () => {
    if (isSkipped) return;
    await build({
      root,
      configFile: false,
      logLevel: 'error',
      plugins: [fromMemory(sources)],
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

function fromMemory(sources: Readonly<Record<string, string>>): Plugin {
  return {
    name: 'sources-in-memory',
    enforce: 'pre',
    resolveId(id, importer) {
      const file = importer !== undefined && id.startsWith('.') ? resolve(dirname(importer), id) : id;
      const path = relative(root, file).replace(/\.js$/, '.ts');
      return path in sources ? root + path : undefined;
    },
    load: (id) => sources[relative(root, id)],
  };
}
