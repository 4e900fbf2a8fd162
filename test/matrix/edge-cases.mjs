import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './project.mjs';
import { rows, stacks } from './rows.mjs';

/**
 * An application that is put together in an unusual way. It works, or says in one line what is wrong.
 * @typedef {object} EdgeCase
 * @property {string} name
 * @property {string} on Name of the row whose compiled application it takes.
 * @property {string} [expected] Text of the one line, if it is not that of an application that works.
 * @property {(folder: string, workspace: import('./workspace.mjs').Workspace) => Promise<string>} run In a
 * copy of it; resolves with its output.
 */

const works = 'worker and hybrid work';
const twoCores =
  'StorkConfigError: the application and nestjs-stork use two different copies of @nestjs/core';
const nestTooOld = 'StorkConfigError: nestjs-stork needs NestJS 11.1.2 or newer';

/** What Nest loads only if it is installed. */
const optionalPackages = [
  '@nestjs/websockets',
  '@grpc/*',
  '@fastify/*',
  '@nats-io/*',
  'amqp-connection-manager',
  'cache-manager',
  'class-transformer/storage',
  'ioredis',
  'mqtt',
  'nats',
];

/**
 * @param {string} folder
 * @param {string} entry
 */
async function bundle(folder, entry = 'dist/main.js') {
  const externals = optionalPackages.map((name) => `--external:${name}`);
  const options = ['--bundle', '--minify', '--platform=node', '--outfile=bundle/main.cjs', ...externals];
  await run(folder, 'npx', ['esbuild', entry, ...options, '--log-level=error']);
  return run(folder, process.execPath, ['bundle/main.cjs']);
}

/** @param {string} folder */
async function bundleImportAndRequire(folder) {
  await writeFile(
    join(folder, 'both.mjs'),
    `import { StorkError } from 'nestjs-stork';
    console.log(require('nestjs-stork').StorkError === StorkError ? 'one copy' : 'two copies');`,
  );
  return bundle(folder, 'both.mjs');
}

/**
 * Runs the application with other packages in its own `node_modules`, installed against the peers of the
 * library.
 *
 * @param {string} folder
 * @param {readonly string[]} packages
 */
async function runWith(folder, packages) {
  const flags = ['--no-save', '--no-audit', '--no-fund', '--legacy-peer-deps', '--loglevel', 'error'];
  await run(folder, 'npm', ['install', ...flags, ...packages]);
  return run(folder, process.execPath, ['dist/main.js']);
}

/** @param {string} version */
const nest = (version) => ['common', 'core', 'microservices'].map((name) => `@nestjs/${name}@${version}`);

/** @param {import('./rows.mjs').Stack} other */
const withNestBelowTheLibrary =
  (other) =>
  /** @type {EdgeCase['run']} */
  async (folder, workspace) => {
    const own = join(folder, 'node_modules', 'nestjs-stork');
    await mkdir(own, { recursive: true });
    await cp(join(folder, '..', 'node_modules', 'nestjs-stork'), own, { recursive: true });
    const packages = join(await workspace.installed(other), 'node_modules', '@nestjs');
    await cp(packages, join(own, 'node_modules', '@nestjs'), { recursive: true });
    return run(folder, process.execPath, ['dist/main.js']);
  };

/** @type {readonly EdgeCase[]} */
export const edgeCases = [
  {
    name: 'nest-11: bundled and minified by esbuild',
    on: 'nest-11: commonjs, node16',
    run: (folder) => bundle(folder),
  },
  {
    name: 'nest-12: bundled and minified by esbuild',
    on: 'nest-12: ESM',
    run: (folder) => bundle(folder),
  },
  {
    name: 'nest-11: one bundle of import and require()',
    on: 'nest-11: commonjs, node16',
    expected: 'one copy',
    run: bundleImportAndRequire,
  },
  {
    name: 'nest-11: Node 18',
    on: 'nest-11: commonjs, node16',
    expected: 'StorkConfigError: nestjs-stork needs Node.js ^20.19 or >=22.12, given 18.',
    run: (folder) => run(folder, 'npx', ['-y', 'node@18', 'dist/main.js']),
  },
  {
    name: 'Nest 12, and Nest 11 below nestjs-stork',
    on: 'nest-12: commonjs',
    expected: twoCores,
    run: withNestBelowTheLibrary(stacks.newest11),
  },
  {
    name: 'Nest 11, and Nest 12 below nestjs-stork',
    on: 'nest-11: commonjs, node16',
    expected: twoCores,
    run: withNestBelowTheLibrary(stacks.newest12),
  },
  ...['10', '11.0.0', '11.1.1'].map((version) => ({
    name: `Nest ${version}, against the peers`,
    on: 'nest-11: commonjs, node16',
    expected: nestTooOld,
    /** @type {EdgeCase['run']} */
    run: (folder, { tarball }) =>
      runWith(folder, [...nest(version), `@nestjs/platform-express@${version}`, tarball]),
  })),
  {
    name: 'nest-11: reflect-metadata twice',
    on: 'nest-11: commonjs, node10',
    run: (folder) => runWith(folder, ['reflect-metadata@0.1.14']),
  },
];

/**
 * @param {EdgeCase} edgeCase
 * @param {import('./workspace.mjs').Workspace} workspace
 */
export async function runEdgeCase({ on, expected = works, run: runIt }, workspace) {
  const folder = await workspace.copyOf(rows.find(({ name }) => name === on));
  const output = await runIt(folder, workspace).catch((error) => {
    if (expected === works) throw error;
    return error.message;
  });
  const lines = output.split('\n').filter((line) => line.includes(expected));
  if (lines.length !== 1) throw new Error(`expected one line with "${expected}":\n${output}`);
}
