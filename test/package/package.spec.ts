import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkPackage, createPackageFromTarballData, type Analysis } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { beforeAll, expect, it, onTestFinished } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const run = (command: string, args: readonly string[], cwd = root): string =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

type Targets = string | { readonly [condition: string]: Targets };

interface Manifest {
  readonly version: string;
  readonly main: string;
  readonly types: string;
  readonly bin: Readonly<Record<string, string>>;
  readonly exports: Targets;
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;
const targetsOf = (targets: Targets): string[] =>
  typeof targets === 'string' ? [targets] : Object.values(targets).flatMap(targetsOf);

let folder: string;
let packed: Packed;

/** Packs what stands in `dist`: `build-setup.ts` has built it, and no other test file writes there. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stork-pack-'));
  const output = run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]);
  packed = (JSON.parse(output) as Packed[])[0]!;
  return () => rm(folder, { recursive: true });
}, 60_000);

it('ships two builds of the library, their sources, licence, readme and changelog, and nothing else', () => {
  const paths = packed.files.map(({ path }) => path);
  const built = /^dist\/(esm|cjs)\/.+\.(js|d\.ts)(\.map)?$/;
  const besides = paths.filter((path) => !built.test(path) && !/^lib\/.+\.ts$/.test(path));
  const own = ['CHANGELOG.md', 'LICENSE', 'README.md', 'dist/cjs/package.json', 'package.json'];
  expect(besides.toSorted()).toEqual(own);
  expect(paths.filter((path) => /(\btest\b|\.spec\.|\bsample\b|tsbuildinfo)/.test(path))).toEqual([]);
  for (const target of targetsOf(manifest.exports)) expect(paths).toContain(target.replace('./', ''));
  for (const target of [manifest.main, manifest.types, ...Object.values(manifest.bin)])
    expect(paths).toContain(target.replace('./', ''));
});

it('has sources for its maps, so that "go to definition" ends in TypeScript', () => {
  const paths = new Set(packed.files.map(({ path }) => path));
  const maps = [...paths].filter((path) => path.endsWith('.map'));
  expect(maps.length).toBeGreaterThan(0);
  for (const map of maps) {
    const { sources } = JSON.parse(readFileSync(join(root, map), 'utf8')) as { sources: string[] };
    for (const source of sources) expect(paths).toContain(join(map, '..', source));
  }
});

it('is well-formed for publint and for are-the-types-wrong', async () => {
  const { messages } = await publint({ pkgDir: root, strict: true });
  expect(messages).toEqual([]);
  const tarball = createPackageFromTarballData(readFileSync(join(folder, packed.filename)));
  const { problems } = (await checkPackage(tarball)) as Analysis;
  expect(problems).toEqual([]);
});

it('has the same declarations in both builds', () => {
  const declarations = packed.files.filter(({ path }) => /^dist\/cjs\/.+\.d\.ts$/.test(path));
  expect(declarations.length).toBeGreaterThan(100);
  for (const { path } of declarations) {
    const esm = readFileSync(join(root, path.replace('/cjs/', '/esm/')), 'utf8');
    expect(readFileSync(join(root, path), 'utf8'), path).toBe(esm);
  }
});

it('is usable from what was packed: every entry point by import and by require', async () => {
  const user = await mkdtemp(join(tmpdir(), 'stork-user-'));
  onTestFinished(() => rm(user, { recursive: true }));
  run('mkdir', ['-p', join(user, 'node_modules')]);
  for (const name of [
    '@nestjs',
    'rxjs',
    'reflect-metadata',
    'class-validator',
    'class-transformer',
    'tslib',
    'ioredis',
    'commander',
  ]) {
    await symlink(join(root, 'node_modules', name), join(user, 'node_modules', name));
  }
  run('tar', ['xzf', join(folder, packed.filename), '-C', join(user, 'node_modules')]);
  run('mv', [join(user, 'node_modules/package'), join(user, 'node_modules/nestjs-stork')]);
  const names =
    "'StorkModule' in root && 'memory' in memory && 'redisIdempotencyStore' in redis && 'idempotencyStoreSuite' in testing";
  const entries = { root: '', memory: '/memory', redis: '/redis', testing: '/testing' };
  const load = (write: (name: string, from: string) => string): string =>
    Object.entries(entries)
      .map(([name, path]) => write(name, `'nestjs-stork${path}'`))
      .join('\n');
  await writeFile(
    join(user, 'import.mjs'),
    `${load((name, from) => `import * as ${name} from ${from};`)}\nconsole.log(${names});`,
  );
  await writeFile(
    join(user, 'require.cjs'),
    `${load((name, from) => `const ${name} = require(${from});`)}\nconsole.log(${names});`,
  );
  expect(run('node', ['import.mjs'], user).trim()).toBe('true');
  expect(run('node', ['require.cjs'], user).trim()).toBe('true');
  const { bin, version } = manifest;
  expect(Object.keys(bin)).toEqual(['nestjs-stork', 'stork']);
  for (const target of Object.values(bin)) {
    const program = join(user, 'node_modules/nestjs-stork', target);
    // As npm does it when it installs.
    await chmod(program, 0o755);
    expect(run(program, ['--version'], user).trim()).toBe(version);
    expect(run(program, ['--help'], user)).toContain('Usage: nestjs-stork');
  }
}, 60_000);

it('keeps a consuming worker alive, and lets the process end once it is closed', async () => {
  run('mkdir', ['-p', join(root, '.build')]);
  const program = join(root, '.build', 'worker.mjs');
  await writeFile(
    program,
    `import 'reflect-metadata';
    import { Module } from '@nestjs/common';
    import { NestFactory } from '@nestjs/core';
    import { StorkModule, storkMicroservice } from 'nestjs-stork';
    import { memory } from 'nestjs-stork/memory';
    class AppModule {}
    Module({ imports: [StorkModule.forRoot({ transports: { main: memory({ queue: 'q' }) } })] })(AppModule);
    const app = await NestFactory.createMicroservice(AppModule, { ...storkMicroservice(), logger: false });
    await app.listen();
    // It does not keep the process alive by itself: if it fires, something else does.
    setTimeout(async () => { await app.close(); console.log('closed'); }, 300).unref();`,
  );
  expect(run('node', [program]).trim()).toBe('closed');
}, 60_000);

it('has an entry point for each folder that is one, and a root that names every export', async () => {
  const entry = (await import('nestjs-stork')) as Record<string, unknown>;
  expect(Object.keys(entry).toSorted()).toMatchSnapshot();
  const memory = (await import('nestjs-stork/memory')) as Record<string, unknown>;
  expect(Object.keys(memory).toSorted()).toEqual(['MemoryBroker', 'VirtualClock', 'memory']);
  const kafka = (await import('nestjs-stork/kafka')) as Record<string, unknown>;
  expect(Object.keys(kafka).toSorted()).toEqual(['KafkaContext', 'kafka', 'kafkaFromEnv']);
  const rabbitmq = (await import('nestjs-stork/rabbitmq')) as Record<string, unknown>;
  expect(Object.keys(rabbitmq).toSorted()).toEqual(['RabbitMqContext', 'rabbitmq', 'rabbitmqFromEnv']);
  const redis = (await import('nestjs-stork/redis')) as Record<string, unknown>;
  expect(Object.keys(redis).toSorted()).toEqual(['redisIdempotencyStore', 'redisIdempotencyStoreFromEnv']);
  const testing = (await import('nestjs-stork/testing')) as Record<string, unknown>;
  expect(Object.keys(testing).toSorted()).toEqual(['idempotencyStoreSuite']);
});

it('records no download address in the lock file', () => {
  expect(readFileSync(join(root, 'package-lock.json'), 'utf8')).not.toContain('"resolved": "http');
});

const strictProgram = `
import { StorkModule } from 'nestjs-stork';
import type * as esm from 'nestjs-stork';
import type * as cjs from 'nestjs-stork' with { 'resolution-mode': 'require' };
import { kafka } from 'nestjs-stork/kafka';
import { memory, type MemoryBroker } from 'nestjs-stork/memory';
import type * as cjsMemory from 'nestjs-stork/memory' with { 'resolution-mode': 'require' };
import { rabbitmq, type RabbitMqContext, type RabbitMqOptions } from 'nestjs-stork/rabbitmq';
import { redisIdempotencyStore } from 'nestjs-stork/redis';
import { idempotencyStoreSuite } from 'nestjs-stork/testing';

export const suite = idempotencyStoreSuite(() => redisIdempotencyStore({ url: 'redis://localhost' }));
export const log = kafka({ brokers: ['localhost:9092'], groupId: 'g' });
export const rabbit = rabbitmq({ url: 'amqp://localhost', queue: 'q' });
export const stork = StorkModule.forRoot({ transports: { main: memory({ queue: 'q' }) } });

// What is inferred can be named.
export const withDefaults = (options: RabbitMqOptions) => ({ prefetch: 20, ...options });
export const argsOf = (context: RabbitMqContext) => context.getArgs();
export const rawOf = (context: RabbitMqContext) => context.raw;
export const queueOf = (broker: MemoryBroker) => broker.queue('q');

// The types of both builds are the same for TypeScript.
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
export const same: [
  Same<esm.StorkClient, cjs.StorkClient>,
  Same<esm.StorkService, cjs.StorkService>,
  Same<esm.DeadLetterService, cjs.DeadLetterService>,
  Same<esm.StorkContext, cjs.StorkContext>,
  Same<esm.StorkModuleOptions, cjs.StorkModuleOptions>,
  Same<esm.TransportDefinition, cjs.TransportDefinition>,
  Same<esm.RemoteError, cjs.RemoteError>,
  Same<MemoryBroker, cjsMemory.MemoryBroker>,
] = [true, true, true, true, true, true, true, true];

// Type helpers take the overload that applications call.
export const publishOptions: Parameters<esm.StorkClient['publish']>[2] = { key: 'k' };
`;

it('has declarations that compile in a strict program without skipLibCheck, from ES2021', async () => {
  const user = join(root, '.build', 'consumer');
  run('mkdir', ['-p', user]);
  await writeFile(join(user, 'main.ts'), strictProgram);
  const options = ['--module', 'nodenext', '--target', 'es2021', '--strict', '--skipLibCheck', 'false'];
  const types = ['--types', 'node', '--experimentalDecorators', '--exactOptionalPropertyTypes'];
  const output = ['--declaration', '--rootDir', user, '--outDir', join(user, 'dist')];
  const file = join(user, 'main.ts');
  expect(run('npx', ['tsc', ...options, ...types, ...output, '--ignoreConfig', file])).toBe('');
}, 120_000);

/** What an entry point loads of this package, and the names of other packages. */
function graphOf(entry: string, seen = new Set<string>()): Set<string> {
  if (seen.has(entry)) return seen;
  seen.add(entry);
  const text = readFileSync(join(root, 'dist', entry), 'utf8');
  for (const [, imported, required] of text.matchAll(/(?:from|import) '([^']+)'|require\("([^"]+)"\)/g)) {
    const target = (imported ?? required)!;
    if (!target.startsWith('.')) seen.add(target);
    else
      graphOf(join(entry, '..', entry.endsWith('.d.ts') ? target.replace(/\.js$/, '.d.ts') : target), seen);
  }
  return seen;
}

it.each(['esm', 'cjs'])('has in %s entry points that load no broker but their own', (build) => {
  const clients = ['amqplib', 'kafkajs', 'ioredis'];
  const clientsOf = (file: string): string[] =>
    clients.filter((name) => graphOf(`${build}/${file}`).has(name));
  expect(clientsOf('index.js')).toEqual([]);
  expect(clientsOf('memory/index.js')).toEqual([]);
  expect(clientsOf('testing/index.js')).toEqual([]);
  expect(clientsOf('rabbitmq/index.js')).toEqual(['amqplib']);
  expect(clientsOf('kafka/index.js')).toEqual(['kafkajs']);
  expect(clientsOf('redis/index.js')).toEqual(['ioredis']);
  expect([...graphOf(`${build}/rabbitmq/index.js`)].filter((file) => file.includes('/kafka/'))).toEqual([]);
  // The declarations of an optional package may not be there.
  expect(clientsOf('index.d.ts')).toEqual([]);
  expect(clientsOf('redis/index.d.ts')).toEqual([]);
});
