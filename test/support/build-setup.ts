import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const cwd = fileURLToPath(new URL('../../', import.meta.url));
const run = promisify(execFile);
const buildSample = (name: string) => run('npx', ['nest', 'build', name], { cwd });

/**
 * Builds the library and the samples once for all test files that run what was built. A test that builds, or changes
 * a source, works in a copy (`own-checkout.ts`): a build deletes the output that other files run at that time.
 */
export default async function setup(): Promise<void> {
  try {
    await run('npm', ['run', 'build'], { cwd });
    await Promise.all([buildSample('tour'), buildSample('failure-policy')]);
  } catch (error) {
    // The compiler writes what is wrong to its output, which the message leaves out.
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`the build failed\n${stdout ?? ''}${stderr ?? ''}`, { cause: error });
  }
}
