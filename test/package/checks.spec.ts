import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { useOwnCheckout } from '../support/own-checkout.js';

const checkout = useOwnCheckout();

/** Lints one file that is written for the purpose and removed again. */
function lint(folder: string, source: string): string {
  const directory = join(checkout(), folder);
  const file = join(directory, 'proof-that-the-linter-lives.ts');
  mkdirSync(directory, { recursive: true });
  writeFileSync(file, source);
  onTestFinished(() => rmSync(file));
  const { stdout } = spawnSync('npx', ['oxlint', '--type-aware', file], {
    cwd: checkout(),
    encoding: 'utf8',
  });
  return stdout;
}

const cases: [what: string, folder: string, source: string, rule: string][] = [
  [
    'a floating promise',
    'lib/core',
    'export function f(): void { Promise.resolve(1); }',
    'no-floating-promises',
  ],
  [
    'Nest in core/',
    'lib/core',
    "import { Logger } from '@nestjs/common';\nexport const l = Logger;",
    'no-restricted-imports',
  ],
  [
    'nest/ in core/',
    'lib/core',
    "import { via } from '../nest/via.js';\nexport const v = via;",
    'no-restricted-imports',
  ],
  [
    'a driver in nest/',
    'lib/nest',
    "import { memory } from '../memory/memory.js';\nexport const m = memory;",
    'no-restricted-imports',
  ],
  [
    'a client of Redis in core/',
    'lib/core',
    "import { Redis } from 'ioredis';\nexport const r = Redis;",
    'no-restricted-imports',
  ],
  [
    'a client of Redis in testing/',
    'lib/testing',
    "import { Redis } from 'ioredis';\nexport const r = Redis;",
    'no-restricted-imports',
  ],
  [
    'kafkajs beside kafka-client.ts',
    'lib/kafka',
    "import { Kafka } from 'kafkajs';\nexport const k = Kafka;",
    'no-restricted-imports',
  ],
  [
    'a driver in another',
    'lib/kafka',
    "import { memory } from '../memory/memory.js';\nexport const m = memory;",
    'no-restricted-imports',
  ],
  [
    'a broker in cli/',
    'lib/cli',
    "import { connect } from 'amqplib';\nexport const c = connect;",
    'no-restricted-imports',
  ],
  ['any', 'lib/core', 'export const f = (x: any): unknown => x;', 'no-explicit-any'],
];

it.each(cases)('the linter finds %s', (_, folder, source, rule) => {
  expect(lint(folder, source)).toContain(rule);
});
