import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { useOwnCheckout } from '../support/own-checkout.js';

const checkout = useOwnCheckout();

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

/** A file of its own for each case, and what the linter says of it. */
const fileOf = (i: number): string => join(cases[i]![1], `proof-that-the-linter-lives-${i}.ts`);
let findings: readonly string[];

beforeAll(() => {
  for (const [i, [, folder, source]] of cases.entries()) {
    mkdirSync(join(checkout(), folder), { recursive: true });
    writeFileSync(join(checkout(), fileOf(i)), source);
  }
  const files = cases.map((_, i) => fileOf(i));
  // Once for all files: the linter loads the types of the whole library each time.
  const args = ['oxlint', '--type-aware', '--format', 'unix', ...files];
  findings = spawnSync('npx', args, { cwd: checkout(), encoding: 'utf8' }).stdout.split('\n');
});

it.each(cases.map(([what, , , rule], i) => [what, i, rule] as const))('the linter finds %s', (_, i, rule) => {
  expect(findings.filter((line) => line.startsWith(`${fileOf(i)}:`)).join('\n')).toContain(rule);
});
