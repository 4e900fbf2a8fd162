import { execFile } from 'node:child_process';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** @typedef {import('./rows.mjs').Row} Row */
/** @typedef {import('./rows.mjs').Stack} Stack */

const root = fileURLToPath(new URL('../../', import.meta.url));
const sources = fileURLToPath(new URL('app/', import.meta.url));
const execute = promisify(execFile);
/** `npm install` of a Nest application takes half a minute on a busy machine. */
export const limitMs = 240_000;

/**
 * Settings of the npm script and of the test runner that this process is part of. `NODE_EXTRA_CA_CERTS` is none
 * of them: without it npm waits for a registry that it does not trust.
 */
const ofThisRun = /^(npm_|NODE_(ENV|OPTIONS|PATH)$|VITEST|JEST|TEST$|STORK_)/;

/** Carries the output of the failed program. */
class CommandError extends Error {}

/**
 * @param {string} cwd
 * @param {string} command
 * @param {readonly string[]} args
 * @param {Readonly<Record<string, string>>} [variables] of its environment
 * @returns {Promise<string>} what it wrote
 */
export async function run(cwd, command, args, variables = {}) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !ofThisRun.test(name)));
  try {
    const { stdout, stderr } = await execute(command, args, {
      cwd,
      env: { ...env, ...variables },
      timeout: limitMs,
      killSignal: 'SIGKILL',
      maxBuffer: 32 * 1024 ** 2,
    });
    return stdout + stderr;
  } catch (error) {
    const { stdout = '', stderr = '', code, signal } = error;
    throw new CommandError(`${command} ${args.join(' ')}\n${stdout}${stderr}ended with ${signal ?? code}`);
  }
}

/**
 * Packs `dist`, which has been built.
 *
 * @param {string} folder where the tarball goes
 * @returns {Promise<string>} its path
 */
export async function packLibrary(folder) {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  const [packed] = JSON.parse(await run(root, 'npm', args));
  return join(folder, packed.filename);
}

/**
 * Installs the tarball beside the packages of a team, as the README says: without flags.
 *
 * @param {string} folder
 * @param {string} tarball
 * @param {Readonly<Record<string, string>>} packages
 */
export async function install(folder, tarball, packages) {
  await mkdir(folder, { recursive: true });
  const dependencies = { ...packages, 'nestjs-stork': `file:${tarball}` };
  await writeJson(join(folder, 'package.json'), { private: true, dependencies });
  await run(folder, 'npm', ['install', '--no-audit', '--no-fund', '--loglevel', 'error']);
}

/**
 * Compiles the application of `app/` in a folder of its own below that of its stack.
 *
 * @param {Row} row
 * @param {string} stackFolder
 * @returns {Promise<string>} the folder
 */
export async function compile(row, stackFolder) {
  const folder = await writeApplication(row, stackFolder);
  await run(folder, 'npx', ['tsc', '--project', 'tsconfig.json']);
  return folder;
}

/**
 * @param {Row} row
 * @param {string} folder of its compiled application
 */
export async function runApp(row, folder) {
  await runners[row.runner](folder, row);
}

/**
 * @param {Row} row
 * @param {string} stackFolder
 */
async function writeApplication({ name, type, compiler }, stackFolder) {
  const folder = join(stackFolder, name.replace(/\W+/g, '-'));
  await mkdir(folder, { recursive: true });
  await cp(sources, join(folder, 'src'), { recursive: true });
  await writeJson(join(folder, 'package.json'), { private: true, type });
  await writeJson(join(folder, 'tsconfig.json'), {
    compilerOptions: {
      target: 'es2021',
      ...compiler,
      strict: true,
      skipLibCheck: false,
      experimentalDecorators: true,
      emitDecoratorMetadata: true,
      types: ['node'],
      rootDir: 'src',
      outDir: 'dist',
    },
    include: ['src'],
  });
  return folder;
}

/** @type {Record<Row['runner'], (folder: string, row: Row) => Promise<void>>} */
const runners = {
  async node(folder, { nodes = [] }) {
    await expectSuccess(folder, process.execPath, ['dist/main.js']);
    for (const { version, flags = [] } of nodes)
      await expectSuccess(folder, 'npx', ['-y', `node@${version}`, ...flags, 'dist/main.js']);
  },
  jest: (folder) => runJest(folder, process.execPath),
  // Jest can require ESM, which Nest 12 is, from Node 24.9.
  'jest-vm-modules': (folder) => runJest(folder, 'npx', '-y', 'node@24', '--experimental-vm-modules'),
  async vitest(folder) {
    await run(folder, 'npx', ['vitest', 'run', '--globals', '--dir', 'src']);
  },
};

/**
 * @param {string} folder
 * @param {string} node
 * @param {readonly string[]} flags
 */
async function runJest(folder, node, ...flags) {
  await writeJson(join(folder, 'jest.config.json'), {
    rootDir: 'src',
    testEnvironment: 'node',
    transform: { '^.+\\.ts$': ['ts-jest', { tsconfig: '<rootDir>/../tsconfig.json' }] },
    moduleNameMapper: { '^(\\./.+)\\.js$': '$1' },
  });
  const jest = join(folder, '..', 'node_modules', 'jest', 'bin', 'jest.js');
  await run(folder, node, [...flags, jest, '--config', 'jest.config.json', '--ci']);
}

/**
 * @param {string} folder
 * @param {string} command
 * @param {readonly string[]} args
 */
async function expectSuccess(folder, command, args) {
  const output = await run(folder, command, args);
  if (output.trim() !== 'worker and hybrid work') throw new CommandError(`unexpected output:\n${output}`);
}

/**
 * @param {string} file
 * @param {unknown} content
 */
export async function writeJson(file, content) {
  await writeFile(file, `${JSON.stringify(content, undefined, 2)}\n`);
}
