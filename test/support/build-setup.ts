import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const cwd = fileURLToPath(new URL('../../', import.meta.url));
const build = (project: string) => promisify(execFile)('npx', ['nest', 'build', project], { cwd });

/**
 * Builds the library and the samples once for all test files that run what was built. A test that builds, or changes
 * a source, works in a copy (`own-checkout.ts`): `nest build` deletes the output that other files run at that time.
 */
export default async function setup(): Promise<void> {
  try {
    await build('nestjs-stork');
    await Promise.all([build('tour'), build('failure-policy')]);
  } catch (error) {
    // The compiler writes what is wrong to its output, which the message leaves out.
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`the build failed\n${stdout ?? ''}${stderr ?? ''}`, { cause: error });
  }
}
