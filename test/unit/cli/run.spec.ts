import { describe, expect, it } from 'vitest';
import { Interruption } from '../../../lib/cli/host.js';
import { ConnectionLostError } from '../../../lib/core/runtime/errors.js';
import { systemClock } from '../../../lib/core/runtime/clock.js';
import { FakeStore, deadLetter, runOver } from './fake-host.js';

const threeDeadLetters = [
  deadLetter({ id: 'a', headers: { 'stork-handler': 'Orders.created', 'stork-attempt': '4' } }),
  deadLetter({ id: 'b', reason: 'fatal', headers: { 'stork-error-name': 'TypeError', tenant: 'x=y' } }),
  deadLetter({ id: 'c', headers: { 'stork-replay-count': '3', 'stork-correlation-id': 'order-7' } }),
];

function idsOf(stdout: string): readonly string[] {
  const lines = stdout.split('\n').filter((line) => line !== '');
  return lines.map((line) => (JSON.parse(line) as { id: string }).id);
}

it('lists dead letters in a table, with totals', async () => {
  const ran = await runOver(new FakeStore(threeDeadLetters), 'dlq list');
  expect(ran.stdout).toBe(
    'ID  FAILED AT                 REASON             HANDLER         ATTEMPTS  ERROR\n' +
      'a   2026-01-31T09:30:00.000Z  retries-exhausted  Orders.created  4         -\n' +
      'b   2026-01-31T09:30:00.000Z  fatal              -               -         TypeError\n' +
      'c   2026-01-31T09:30:00.000Z  retries-exhausted  -               -         -\n' +
      '\n3 dead letters in orders.dlq\n',
  );
  expect(ran).toMatchObject({ code: 0, stderr: '' });
});

describe('a list that --max cuts', () => {
  const summary = '2 dead letters in orders.dlq, 3 in total; only the oldest are shown, use --max for more\n';

  it('reports the total and exits with 3', async () => {
    const { stdout, stderr, code } = await runOver(new FakeStore(threeDeadLetters), 'dlq list --max 2');
    expect(stdout.endsWith(`\n\n${summary}`)).toBe(true);
    expect({ stderr, code }).toEqual({ stderr: '', code: 3 });
  });

  it('reports it on standard error if standard output is JSON', async () => {
    const { stdout, stderr, code } = await runOver(
      new FakeStore(threeDeadLetters),
      'dlq list --json --max 2',
    );
    expect(idsOf(stdout)).toEqual(['a', 'b']);
    expect({ stderr, code }).toEqual({ stderr: `warning: ${summary}`, code: 3 });
  });

  it.each(['--max 3', '--max 4', '--max 1 --id b', '--json --max 3', '--json --max 1 --reason fatal'])(
    'is none where %s shows all that match',
    async (args) => {
      const { stdout, stderr, code } = await runOver(new FakeStore(threeDeadLetters), `dlq list ${args}`);
      expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
      expect(stdout).not.toContain('only the oldest');
    },
  );

  it('is a table of more than 100 by default', async () => {
    const store = new FakeStore(Array.from({ length: 101 }, (_, n) => deadLetter({ id: `${n}` })));
    const { stdout, code } = await runOver(store, 'dlq list');
    expect(code).toBe(3);
    expect(stdout).toContain('\n100 dead letters in orders.dlq, 101 in total; only the oldest are shown');
  });
});

describe('list --json', () => {
  const many = Array.from({ length: 1_050 }, (_, n) => deadLetter({ id: `${n}` }));

  it('prints all: it may be a backup', async () => {
    const { stdout, stderr, code } = await runOver(new FakeStore(many), 'dlq list --json');
    expect(idsOf(stdout)).toEqual(many.map(({ id }) => id));
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  });

  it('prints each dead letter before the next is read, and waits for the reader of its output', async () => {
    const store = new FakeStore(threeDeadLetters);
    const events: string[] = [];
    store.beforeVisit = ({ id }) => void events.push(`read ${id}`);
    await runOver(store, 'dlq list --json', {
      onStdout: (line) => void events.push(`wrote ${(JSON.parse(line) as { id: string }).id}`),
      onFlush: async () => {
        await new Promise(setImmediate);
        events.push('flushed');
      },
    });
    expect(events).toEqual(['a', 'b', 'c'].flatMap((id) => [`read ${id}`, `wrote ${id}`, 'flushed']));
  });

  it('exits with an error where it ends early', async () => {
    const store = new FakeStore(threeDeadLetters);
    store.beforeVisit = ({ id }) => {
      if (id === 'b') throw new ConnectionLostError('gone');
    };
    const { stdout, stderr, code } = await runOver(store, 'dlq list --json');
    expect(idsOf(stdout)).toEqual(['a']);
    expect({ stderr, code }).toEqual({ stderr: 'error: gone\n', code: 1 });
  });
});

it('cuts lines to the width of the terminal and escapes control characters', async () => {
  const hostile = deadLetter({
    id: 'a',
    reason: `\u001b[31m${'r'.repeat(200)}`,
    headers: { 'stork-error-name': 'E', 'stork-error-message': `\u001b]0;owned\u0007\n${'x'.repeat(5_000)}` },
  });
  const { stdout } = await runOver(new FakeStore([hostile]), 'dlq list', { width: 80 });
  const lines = stdout.split('\n');
  expect(lines.every((line) => [...line].length <= 80)).toBe(true);
  expect(lines[1]).toMatch(/^a .* \\x1b\[31mr+… /);
  expect(stdout).not.toMatch(/[^\P{Cc}\n]/u);
  const whole = await runOver(new FakeStore([hostile]), 'dlq list');
  expect(whole.stdout).toMatch(/ {2}E: \\x1b\]0;owned\\x07\\nx{5000}\n/);
  expect(whole.stdout).not.toMatch(/[^\P{Cc}\n]/u);
});

it('filters by every filter flag', async () => {
  const ids = async (args: string): Promise<string> => {
    const { stdout } = await runOver(new FakeStore(threeDeadLetters), `dlq list --json ${args}`);
    return idsOf(stdout).join('');
  };
  expect(await ids('--reason fatal')).toBe('b');
  expect(await ids('--reason fatal --reason retries-exhausted')).toBe('abc');
  expect(await ids('--handler Orders.created')).toBe('a');
  expect(await ids('--header tenant=x=y')).toBe('b');
  expect(await ids('--id a --id c')).toBe('ac');
  expect(await ids('--pattern other')).toBe('');
  expect(await ids('--message-id m-b')).toBe('b');
  expect(await ids('--message-id m-b --message-id m-c')).toBe('bc');
  expect(await ids('--correlation-id order-7')).toBe('c');
  expect(await ids('--message-id m-a --correlation-id order-7')).toBe('');
  expect(await ids('--text typeerror')).toBe('b');
  expect(await ids('--since 2026-01-31T09:30 --until 2026-01-31T09:31')).toBe('abc');
  expect(await ids('--until 2026-01-31T09:30')).toBe('');
});

it('prints a dead letter as JSON: text as text, binary as base64', async () => {
  const headers = { bytes: Buffer.from([0xff]), text: Buffer.from('ok'), big: 2n ** 60n, ['__proto__']: 1 };
  const store = new FakeStore([
    deadLetter({ id: 'a', body: 'Grüße\u009b', headers }),
    deadLetter({ id: 'b', body: Buffer.from([0xff, 0]) }),
    deadLetter({ id: 'c', body: null }),
  ]);
  const { stdout } = await runOver(store, 'dlq list --json');
  expect(stdout).not.toContain('\u009b');
  const [a, b, c] = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(a).toMatchObject({
    id: 'a',
    body: 'Grüße\u009b',
    failedAt: '2026-01-31T09:30:00.000Z',
    handler: null,
  });
  const read = a!['headers'] as Record<string, unknown>;
  expect(read).toMatchObject({ bytes: { base64: '/w==' }, text: 'ok', big: '1152921504606846976' });
  expect(Object.keys(read)).toContain('__proto__');
  expect(b).toMatchObject({ body: { base64: '/wA=' } });
  expect(c).toMatchObject({ body: null });
});

it('shows a dead letter, no part of which can imitate another', async () => {
  const headers = {
    'x-evil\u001b[2J': 'value\nid  forged',
    'stork-error-name': 'TypeError',
    'stork-error-message': 'no',
    'stork-error-stack': 'TypeError: no\n    at x\u001b[1A',
  };
  const store = new FakeStore([deadLetter({ id: 'a', body: '{"total":1.0}', headers })]);
  const { stdout, code } = await runOver(store, 'dlq show a');
  expect(code).toBe(0);
  expect(stdout).toContain('error            TypeError: no\n');
  expect(stdout).toContain('  x-evil\\x1b[2J: value\\nid  forged\n');
  expect(stdout).toContain('stack\n  TypeError: no\n      at x\\x1b[1A\n');
  expect(stdout).toContain('body: 13 bytes of JSON\n  {\n    "total": 1.0\n  }\n');
});

it('warns where several dead letters have the id that it shows', async () => {
  const duplicates = new FakeStore([
    deadLetter({ id: 'a', body: 'one' }),
    deadLetter({ id: 'a', body: 'other' }),
  ]);
  const { stdout, stderr, code } = await runOver(duplicates, 'dlq show a');
  expect(stdout).toContain('one');
  expect([code, stderr]).toEqual([
    0,
    'warning: several dead letters have the id a: only the first is shown\n',
  ]);
});

it('shows text as text, binary as hex, and empty bodies', async () => {
  const view = async (body: Buffer | string | null): Promise<string> =>
    (await runOver(new FakeStore([deadLetter({ id: 'a', body })]), 'dlq show a')).stdout;
  expect(await view('a\nid  b')).toContain('body: 7 bytes of text\n  a\n  id  b\n');
  expect(await view(Buffer.from([0xff, 0x41, 0x1b]))).toMatch(
    /body: 3 bytes, binary\n {2}0000 {2}ff 41 1b +\.A\.\n/,
  );
  expect(await view(Buffer.alloc(600, 0xff))).toContain('… 88 more');
  expect(await view('')).toContain('body: empty');
  expect(await view(null)).toContain('body: none, a tombstone');
});

it('fails for an unknown id', async () => {
  const ran = await runOver(new FakeStore(threeDeadLetters), 'dlq show unknown');
  expect(ran).toMatchObject({ code: 1, stdout: '' });
  expect(ran.stderr).toContain('there is no dead letter unknown in orders.dlq');
});

it('counts dead letters by kind', async () => {
  const { stdout } = await runOver(new FakeStore(threeDeadLetters), 'dlq stats');
  expect(stdout).toContain('3 dead letters in orders.dlq\noldest  2026-01-31T09:30:00.000Z\n');
  expect(stdout).toContain('1 of them were replayed before and failed again');
  expect(stdout).toMatch(/by reason\n {2}retries-exhausted {2}2 {2}#{30}\n {2}fatal {14}1 {2}#{15}\n/);
  const json = await runOver(new FakeStore(threeDeadLetters, 'billing'), 'dlq stats --json');
  expect(JSON.parse(json.stdout)).toMatchObject({
    from: 'orders.dlq',
    source: 'orders',
    group: 'billing',
    total: 3,
  });
});

it('changes nothing without --yes, and reports what it would do', async () => {
  const store = new FakeStore(threeDeadLetters);
  store.warningLines = ['orders has no consumers'];
  const ran = await runOver(store, 'dlq replay');
  expect(ran).toMatchObject({ code: 3, stderr: 'warning: orders has no consumers\n' });
  expect(ran.stdout).toBe(
    'dry run: replay from orders.dlq to orders: 3 dead letters to scan\n' +
      '2 dead letters would be replayed\n' +
      '  retries-exhausted  1\n' +
      '  fatal              1\n' +
      '1 dead letter would be skipped:\n' +
      '  c  it was replayed 3 times already, maxReplays allows 3\n' +
      'dry run: nothing was changed; add --yes\n',
  );
  expect(store.deadLetters).toHaveLength(3);
  expect(store.isClosed).toBe(true);
});

it('replays with --yes, and reports what is skipped', async () => {
  const store = new FakeStore(threeDeadLetters);
  const ran = await runOver(store, 'dlq replay --yes --json --window 7');
  expect(ran.code).toBe(3);
  expect(JSON.parse(ran.stdout)).toMatchObject({
    action: 'replay',
    from: 'orders.dlq',
    source: 'orders',
    dryRun: false,
    complete: true,
    seen: 3,
    matched: 3,
    done: 2,
    byReason: { 'retries-exhausted': 1, fatal: 1 },
    skipped: 1,
    skippedDeadLetters: [{ id: 'c' }],
  });
  expect(store).toMatchObject({ replayed: ['a', 'b'], windows: [7], isClosed: true });
});

it('replays dead letters again where --max-replays allows it', async () => {
  const store = new FakeStore(threeDeadLetters);
  const { code } = await runOver(store, 'dlq replay --yes --max-replays 4 --id c');
  expect([code, store.replayed]).toEqual([0, ['c']]);
});

it('discards at most --max with --yes', async () => {
  const store = new FakeStore(threeDeadLetters);
  const ran = await runOver(store, 'dlq discard --all --yes --max 1');
  expect(ran.code).toBe(0);
  expect(ran.stdout).toContain(
    'discard in orders.dlq, permanently: 3 dead letters to scan, at most 1\n1 dead letter discarded\n',
  );
  expect(store.discarded).toEqual(['a']);
  expect((await runOver(store, 'dlq discard --all')).stdout).toContain(
    'dry run: nothing was changed; add --yes',
  );
  expect(store.deadLetters).toHaveLength(2);
});

it('discards what a filter selects, all only with --all', async () => {
  const store = new FakeStore(threeDeadLetters);
  await runOver(store, 'dlq discard --yes --id b');
  expect(store.discarded).toEqual(['b']);
  for (const args of ['', ' --yes', ' --yes --max 1', ' --yes --from orders.dlq', ' --json --rate 1']) {
    const refused = await runOver(store, `dlq discard${args}`);
    expect(refused).toMatchObject({ code: 2, stdout: '', target: undefined });
    expect(refused.stderr).toContain('add a filter, or --all');
  }
  expect(store.discarded).toEqual(['b']);
  await runOver(store, 'dlq discard --yes --all');
  expect(store.discarded).toEqual(['b', 'a', 'c']);
});

it('exits with 3 where the broker refuses a message that it was to replay', async () => {
  const store = new FakeStore(threeDeadLetters.slice(0, 2));
  store.refused = ['a'];
  const ran = await runOver(store, 'dlq replay --yes');
  expect(ran.code).toBe(3);
  expect(ran.stdout).toContain('1 dead letter skipped:\n  a  the queue is full\n');
  expect(store.replayed).toEqual(['b']);
});

it('exits with 0 where nothing is found', async () => {
  const none = { code: 0, stderr: '' };
  expect(await runOver(new FakeStore([]), 'dlq list')).toMatchObject({
    ...none,
    stdout: 'no dead letters in orders.dlq\n',
  });
  expect(await runOver(new FakeStore([]), 'dlq list --json')).toMatchObject({ ...none, stdout: '' });
  expect(await runOver(new FakeStore(threeDeadLetters), 'dlq list --id z')).toMatchObject({
    ...none,
    stdout: 'no matching dead letters in orders.dlq\n',
  });
  expect(await runOver(new FakeStore([]), 'dlq stats')).toMatchObject(none);
  const replay = await runOver(new FakeStore([]), 'dlq replay --yes');
  expect(replay).toMatchObject(none);
  expect(replay.stdout).toContain('0 dead letters replayed\n');
});

it.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('on %s it reports the progress and how to continue', async (name, code) => {
  const interrupt = new AbortController();
  const store = new FakeStore(threeDeadLetters);
  store.beforeVisit = ({ id }) => {
    if (id === 'b') interrupt.abort(new Interruption(name, code));
  };
  const ran = await runOver(store, 'dlq replay --yes', { signal: interrupt.signal });
  expect(ran).toMatchObject({ code, stderr: `interrupted by ${name}\n` });
  expect(ran.stdout).toContain(
    '1 dead letter replayed so far\nthe other dead letters are unchanged; run the same command again to continue\n',
  );
  expect(store).toMatchObject({ replayed: ['a'], isClosed: true });
});

it.each([
  ['count', 'list'],
  ['count', 'stats --json'],
  ['count', 'discard --all --yes'],
  ['warnings', 'replay --yes'],
] as const)('is interrupted while the broker does not answer the %s of dlq %s', async (question, args) => {
  const interrupt = new AbortController();
  const store = new FakeStore(threeDeadLetters);
  const never = (): Promise<never> => {
    interrupt.abort(new Interruption('SIGINT', 130));
    return new Promise(() => {});
  };
  Object.assign(store, { [question]: never });
  const ran = await runOver(store, `dlq ${args}`, { signal: interrupt.signal });
  expect(ran).toMatchObject({ code: 130, stdout: '', stderr: 'interrupted by SIGINT\n' });
  expect(store).toMatchObject({ replayed: [], discarded: [], isClosed: true });
});

it('is interrupted while the reader of its output does not read', async () => {
  const interrupt = new AbortController();
  const store = new FakeStore(threeDeadLetters);
  const ran = await runOver(store, 'dlq list --json', {
    signal: interrupt.signal,
    onFlush: () => {
      interrupt.abort(new Interruption('SIGINT', 130));
      return new Promise(() => {});
    },
  });
  expect(ran).toMatchObject({ code: 130, stderr: 'interrupted by SIGINT\n' });
  expect(idsOf(ran.stdout)).toEqual(['a']);
});

it('on the loss of the connection it reports the error, the progress and how to continue', async () => {
  const store = new FakeStore(threeDeadLetters);
  store.beforeVisit = ({ id }) => {
    if (id === 'b') throw new ConnectionLostError('amqp://user:hunter2@localhost: gone\u001b[2J');
  };
  const ran = await runOver(store, 'dlq replay --yes --json');
  expect(ran).toMatchObject({ code: 1, stderr: 'error: amqp://***@localhost: gone\\x1b[2J\n' });
  expect(JSON.parse(ran.stdout)).toMatchObject({ complete: false, done: 1 });
});

it.each(['discard --all --yes', 'replay --yes', 'list', 'stats', 'stats --json', 'show a'])(
  'dlq %s draws progress on a terminal, and erases it',
  async (args) => {
    const { stderr } = await runOver(new FakeStore(threeDeadLetters), `dlq ${args}`, { stderrWidth: 100 });
    expect(stderr).toMatch(/\[#+\.+\] +\d+ % {2}\d of 3 scanned, \d (replayed|discarded|match)/);
    expect(stderr.endsWith('\r\u001b[K')).toBe(true);
  },
);

it.each([
  ['discard --all --yes', '2 of 3 scanned, 2 discarded\n'],
  ['replay --yes --id b --max-replays 9', '2 of 3 scanned, 1 replayed\n'],
  ['list --json --reason retries-exhausted', '2 of 3 scanned, 1 match\n'],
  ['stats', '2 of 3 scanned, 2 match\n'],
])('dlq %s writes progress every 10 s where there is no terminal', async (args, line) => {
  let nowMs = systemClock.now();
  const store = new FakeStore(threeDeadLetters);
  store.beforeVisit = () => void (nowMs += 6_000);
  const clock = { ...systemClock, now: () => nowMs };
  const { stderr } = await runOver(store, `dlq ${args}`, { clock });
  expect(stderr).toBe(line);
});

it('draws no progress between lines of JSON on the same terminal', async () => {
  const { stderr } = await runOver(new FakeStore(threeDeadLetters), 'dlq list --json', { width: 60 });
  expect(stderr).toBe('');
});

it.each([
  ['dlq lst', "unknown command 'lst'"],
  ['dlq', 'Usage: nestjs-stork dlq'],
  ['dlq list --max 0', 'Expected a whole number from 1.'],
  ['dlq list --max 1e3', 'Expected a whole number from 1.'],
  ['dlq replay --rate 0', 'Expected a number above 0.'],
  ['dlq replay --rate fast', 'Expected a number above 0.'],
  ['dlq list --header tenant', 'Expected name=value.'],
  ['dlq list --since yesterday', 'Expected a time such as'],
  ['dlq list --since 1h --until 2h', 'no time matches both'],
  ['dlq list --header a=1 --header a=2', 'given twice'],
  ['dlq show', "missing required argument 'id'"],
  ['dlq list --topic t', 'use one of them'],
  ['dlq list --nonsense', "unknown option '--nonsense'"],
])('%s is wrong usage', async (args, says) => {
  const env = args.includes('--topic') ? {} : undefined;
  const ran = await runOver(
    new FakeStore(threeDeadLetters),
    args.replace('--topic', '--queue q --topic'),
    env && { env },
  );
  expect(ran).toMatchObject({ code: 2, stdout: '', target: undefined });
  expect(ran.stderr).toContain(says);
});

const password = 's3cret';

it.each([
  `dlq list --url amqp://app:${password}\t@h --nonsense`,
  `dlq list --ulr=amqp://app:${password}@h`,
  `dlq list --sasl-password=${password}`,
  `dlq amqp://app:${password}\n@h`,
  `dlq list --max amqp://app:x\ty${password}@@h`,
  `dlq list --queue q --url amqp://app:12/${password}@h`,
  `dlq list --queue q --url amqp://app:${password}#x@h`,
  `dlq list --queue q --url amqp://app:x#${password}@h`,
  `dlq list --queue q --url http://app:${password}@h`,
  `dlq list --queue q --url amqp:app:${password}`,
  `dlq list --topic t --group g --brokers app:${password}@h:9092`,
  `dlq list --topic t --group g --brokers app:x@${password}\n@h:9092,h:1`,
])('%j is refused without its password', async (args) => {
  const ran = await runOver(new FakeStore([]), args, { env: {} });
  expect(ran).toMatchObject({ code: 2, stdout: '', target: undefined });
  expect(ran.stderr).not.toContain(password);
  expect(ran.stderr).toMatch(/^error: /);
});

it.each(['', 'list', 'show', 'stats', 'replay', 'discard'])(
  'dlq %s --help has an example',
  async (command) => {
    const ran = await runOver(new FakeStore([]), `dlq ${command} --help`.replace('  ', ' '));
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout).toMatch(/Examples?:\n {2}\$ npx nestjs-stork dlq /);
  },
);
