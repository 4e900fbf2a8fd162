import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect } from 'amqplib';
import { limitMs, run } from './project.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * An application as `nest new` makes it, with the README's first example and the test of it from the guide.
 * @typedef {object} Application
 * @property {string} name
 * @property {string} cli Version of `@nestjs/cli`.
 * @property {string} nest Version of the packages that the README's line installs without one.
 * @property {'commonjs' | 'module'} type
 * @property {boolean} [webpack] Whether it is also built by `nest build --webpack`.
 */

/** @type {readonly Application[]} */
export const applications = [
  { name: 'nest new, CLI 11.0.0: commonjs, Jest 29', cli: '11.0.0', nest: '11', type: 'commonjs' },
  { name: 'nest new, CLI 11: commonjs, Jest 30', cli: '11', nest: '11', type: 'commonjs', webpack: true },
  { name: 'nest new, CLI 12: ESM, Vitest', cli: '12', nest: '12', type: 'module' },
];

/**
 * @param {Application} application
 * @param {import('./workspace.mjs').Workspace} workspace
 */
export async function runApplication({ cli, nest, type, webpack = false }, workspace) {
  const { folder, tarball } = workspace;
  const rabbitMqUrl = await workspace.rabbitMq();
  const name = `new-${cli.replaceAll('.', '-')}`;
  const queue = `matrix-${randomUUID().slice(0, 8)}`;
  const options = ['--skip-install', '--skip-git', '--package-manager', 'npm'];
  await run(folder, 'npx', ['-y', `@nestjs/cli@${cli}`, 'new', name, ...options]);
  const app = join(folder, name);
  const packages = [tarball, `@nestjs/microservices@${nest}`, 'class-validator', 'class-transformer'];
  await run(app, 'npm', ['install', '--no-audit', '--no-fund', '--loglevel', 'error', ...packages]);

  await rm(join(app, 'src'), { recursive: true });
  await mkdir(join(app, 'src'));
  for (const [page, file] of [
    ['README.md', 'app.module.ts'],
    ['README.md', 'main.ts'],
    ['sample/testing.md', 'app.module.spec.ts'],
  ]) {
    const source = (await blockOf(page, file)).replace("queue: 'orders'", `queue: '${queue}'`);
    // Both pages tell users of CommonJS to drop `.js`.
    const adapted = type === 'commonjs' ? source.replace("'./app.module.js'", "'./app.module'") : source;
    await writeFile(join(app, 'src', file), adapted);
  }
  await writeFile(join(app, 'ask.mjs'), requestQuote(queue));

  await run(app, 'npm', ['run', 'build']);
  await run(app, 'npm', ['test']);
  try {
    await askRunning(app, rabbitMqUrl);
    if (!webpack) return;
    await run(app, 'npx', ['nest', 'build', '--webpack']);
    await askRunning(app, rabbitMqUrl);
  } finally {
    await deleteQueues(rabbitMqUrl, [queue, `${queue}.dlq`]);
  }
}

/**
 * @param {string} page
 * @param {string} name
 * @returns {Promise<string>} the page's TypeScript block that begins with the comment `// <name>`
 */
async function blockOf(page, name) {
  const text = await readFile(join(root, page), 'utf8');
  const begin = text.indexOf(`\`\`\`ts\n// ${name}\n`);
  if (begin < 0) throw new Error(`${page} has no block ${name}`);
  return text.slice(text.indexOf('\n', begin) + 1, text.indexOf('\n```\n', begin) + 1);
}

/**
 * @param {string} queue
 * @returns {string} a program that asks the running application
 */
const requestQuote = (queue) => `
import { createRequire } from 'node:module';
import 'reflect-metadata';
const require = createRequire(import.meta.url);
const { NestFactory } = require('@nestjs/core');
const { getClientToken, StorkModule } = require('nestjs-stork');
const { rabbitmq } = require('nestjs-stork/rabbitmq');
const transports = { orders: rabbitmq({ url: process.env.RABBITMQ_URL, queue: '${queue}', handlers: 'none' }) };
const app = await NestFactory.createApplicationContext(StorkModule.forRoot({ transports }), { logger: ['error'] });
const reply = await app.get(getClientToken('orders')).request('order.quote', { quantity: 2 });
await app.close();
if (reply.cents !== 500) throw new Error('wrong reply: ' + JSON.stringify(reply));
`;

/**
 * @param {string} app
 * @param {string} rabbitMqUrl
 */
async function askRunning(app, rabbitMqUrl) {
  const main = ['dist/main.js', 'dist/src/main.js'].find((file) => existsSync(join(app, file)));
  if (main === undefined) throw new Error('the build wrote no main.js');
  const child = spawn(process.execPath, [main], {
    cwd: app,
    env: { ...process.env, RABBITMQ_URL: rabbitMqUrl },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: limitMs,
    killSignal: 'SIGKILL',
  });
  let output = '';
  const ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(signal ?? code)));
  const started = new Promise((resolve) => {
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (text) => {
        output += text;
        if (output.includes('successfully started')) resolve('started');
      });
  });
  try {
    if ((await Promise.race([started, ended])) !== 'started') throw new Error('it did not start');
    await run(app, process.execPath, ['ask.mjs'], { RABBITMQ_URL: rabbitMqUrl });
  } catch (error) {
    throw new Error(`${error.message}\n${output}`, { cause: error });
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
  // Nest ends a process that has drained by the same signal.
  if ((await ended) !== 'SIGTERM') throw new Error(`ended with ${await ended}:\n${output}`);
}

/**
 * @param {string} url
 * @param {readonly string[]} queues
 */
async function deleteQueues(url, queues) {
  const connection = await connect(url);
  const channel = await connection.createChannel();
  for (const queue of queues) await channel.deleteQueue(queue);
  await connection.close();
}
