import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, it, onTestFinished } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const run = (command: string, args: readonly string[], cwd = root): string =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

let folder: string;
let packed: Packed;

/** Packs what stands in `dist`: `build-setup.ts` has built it, and no other test file writes there. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stork-pack-'));
  const output = run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]);
  packed = (JSON.parse(output) as Packed[])[0]!;
  return () => rm(folder, { recursive: true });
}, 60_000);

it('ships the compiled library, its types, licence, readme and changelog, and nothing else', () => {
  const paths = packed.files.map(({ path }) => path);
  const besides = paths.filter((path) => !/^dist\/.+\.(js|d\.ts)$/.test(path));
  expect(besides.toSorted()).toEqual(['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']);
  expect(paths.filter((path) => /(\btest\b|\.spec\.|\bsample\b|\.map$|tsbuildinfo)/.test(path))).toEqual([]);
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, string | Record<string, string>>;
  };
  const targets = Object.values(exports).flatMap((target) =>
    typeof target === 'string' ? [target] : Object.values(target),
  );
  for (const target of targets) expect(paths).toContain(target.replace('./', ''));
});

it('refers to no source map that is not there', () => {
  run('tar', ['xzf', join(folder, packed.filename), '-C', folder]);
  for (const { path } of packed.files.filter((file) => file.path.endsWith('.js'))) {
    expect(readFileSync(join(folder, 'package', path), 'utf8')).not.toContain('sourceMappingURL');
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
  const { bin, version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    readonly bin: Readonly<Record<string, string>>;
    readonly version: string;
  };
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

it('has declarations that compile in a strict program without skipLibCheck, and name no optional package', async () => {
  const user = join(root, '.build', 'consumer');
  run('mkdir', ['-p', user]);
  await writeFile(
    join(user, 'main.ts'),
    "import { StorkModule } from 'nestjs-stork';\nimport { memory } from 'nestjs-stork/memory';\n" +
      "import { redisIdempotencyStore } from 'nestjs-stork/redis';\nimport { idempotencyStoreSuite } from 'nestjs-stork/testing';\n" +
      "export const suite = idempotencyStoreSuite(() => redisIdempotencyStore({ url: 'redis://localhost' }));\n" +
      "import { kafka } from 'nestjs-stork/kafka';\nexport const log = kafka({ brokers: ['localhost:9092'], groupId: 'g' });\n" +
      "import { rabbitmq } from 'nestjs-stork/rabbitmq';\nexport const rabbit = rabbitmq({ url: 'amqp://localhost', queue: 'q' });\n" +
      "export const stork = StorkModule.forRoot({ transports: { main: memory({ queue: 'q' }) } });\n",
  );
  const options = [
    '--module',
    'nodenext',
    '--target',
    'es2023',
    '--strict',
    '--skipLibCheck',
    'false',
    '--noEmit',
  ];
  const types = ['--types', 'node', '--experimentalDecorators', '--exactOptionalPropertyTypes'];
  expect(run('npx', ['tsc', ...options, ...types, '--ignoreConfig', join(user, 'main.ts')])).toBe('');
}, 120_000);

it('has a root whose declarations and code know no broker', () => {
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(join(root, 'dist', file), 'utf8');
    expect(text, file).not.toMatch(/from '(amqplib|ioredis)'/);
    for (const [, target] of text.matchAll(/from '(\.[^']+)\.js'/g)) {
      visit(join(file, '..', target + (file.endsWith('.d.ts') ? '.d.ts' : '.js')));
    }
  };
  visit('index.js');
  visit('index.d.ts');
  // The declarations of an optional package may not be there.
  visit('redis/index.d.ts');
});
