import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** A first install takes half a minute. */
const limitMs = 180_000;

/**
 * Python with packages, in a virtual environment that is kept between runs. Where there is none the reason is
 * printed, and the caller skips.
 *
 * @param requirements e.g. `evkafka==0.7.0`; the first names the environment
 * @returns the path of its `python`; undefined where it cannot be made
 */
export async function pythonWith(
  ...requirements: readonly [string, ...string[]]
): Promise<string | undefined> {
  const folder = join(tmpdir(), 'nestjs-stork-python', requirements[0].replaceAll(/[^\w.]+/g, '-'));
  const python = join(folder, 'bin', 'python');
  const finished = join(folder, 'finished');
  if (existsSync(finished)) return python;
  try {
    // An interrupted installation starts again.
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    await run('python3', ['-m', 'venv', folder], { timeout: limitMs });
    const quiet = ['--quiet', '--disable-pip-version-check', '--no-input'];
    await run(python, ['-m', 'pip', 'install', ...quiet, ...requirements], { timeout: limitMs });
    await writeFile(finished, '');
    return python;
  } catch (error) {
    const why = (error as Error).message.split('\n').slice(0, 3).join(' ');
    console.warn(`SKIPPED: the tests with ${requirements[0]} of Python, which cannot be installed: ${why}`);
    return undefined;
  }
}
