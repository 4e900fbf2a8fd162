import { cp, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const sources = ['lib', 'sample', 'package.json', 'nest-cli.json', 'tsconfig.json', '.oxlintrc.json'];

/**
 * Copies what a user has cloned and installed, once for a test file, and removes it again. To be called where hooks
 * may be.
 *
 * @param more what else to copy, such as `dist`
 * @returns gives the folder, in tests and later hooks
 */
export function useOwnCheckout(...more: readonly string[]): () => string {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'stork-checkout-'));
    for (const name of [...sources, ...more])
      await cp(join(root, name), join(folder, name), { recursive: true });
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return () => folder;
}
