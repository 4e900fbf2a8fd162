import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  freePort,
  instanceOf,
  isListening,
  isVersion,
  mirrorIn,
  parseArguments,
  readAddress,
  readApiVersions,
  readConnectionStart,
  readNodes,
  readPong,
  readState,
  run,
  withLock,
  writeState,
} from '../../support/brokers/parts.mjs';

describe('a command', () => {
  it.each(['process.exit(0)', 'undefined'])(
    'that has not ended in time fails, whatever it does on SIGTERM: %s',
    async (onSigterm) => {
      const endless = `process.on('SIGTERM', () => ${onSigterm}); setInterval(() => {}, 1_000);`;
      const running = run(process.execPath, ['-e', endless], { limitMs: 1_000 });
      await expect(running).rejects.toThrow('had not ended after 1000 ms');
    },
  );

  it('that fails names its code and its last lines', async () => {
    const failing = run(process.execPath, ['-e', "console.error('no disk'); process.exit(3);"]);
    await expect(failing).rejects.toThrow(/ended with code 3\n.*no disk/s);
  });
});

describe('the arguments of brokers', () => {
  it('select every broker when none is named', () => {
    expect(parseArguments(['up'])).toEqual({
      command: 'up',
      names: ['rabbitmq', 'kafka', 'redis'],
      isAll: true,
      options: {},
      purge: false,
    });
  });

  it('accept names and versions in any order', () => {
    const { command, names, isAll, options } = parseArguments([
      '--rabbitmq',
      '4',
      'status',
      'redis',
      'rabbitmq',
    ]);
    expect({ command, names, isAll, options }).toEqual({
      command: 'status',
      names: ['rabbitmq', 'redis'],
      isAll: false,
      options: { rabbitmq: '4' },
    });
  });

  it.each([
    [[], 'a command is missing'],
    [['start'], 'no command start'],
    [['up', 'nats'], 'no broker nats'],
    [['up', '--rabbitmq', '2'], 'no rabbitmq 2 here, only 3, 4, 3.10, 4.0'],
    [['up', '--kafka', 'constructor'], 'no kafka constructor here'],
    [['up', '--purge'], '--purge belongs to down'],
    [['up', '--redis', '7'], "Unknown option '--redis'"],
  ])('refuse %j', (args, message) => {
    expect(() => parseArguments(args)).toThrow(message);
  });
});

describe('a given address', () => {
  it.each([
    ['rabbitmq', 'amqp://user:pass@mq.example/vhost', [{ host: 'mq.example', port: 5672 }], false],
    ['rabbitmq', 'amqps://mq.example', [{ host: 'mq.example', port: 5671 }], true],
    ['redis', 'redis://[::1]:7000/2', [{ host: '::1', port: 7000 }], false],
    [
      'kafka',
      'a.example:9093, b.example',
      [
        { host: 'a.example', port: 9093 },
        { host: 'b.example', port: 9092 },
      ],
      false,
    ],
  ] as const)('of %s: %s', (broker, text, addresses, isSecure) => {
    expect(readAddress(broker, text)).toEqual({ addresses, isSecure });
  });
});

describe('a shared server', () => {
  it('of another version has a port and a folder of its own', () => {
    const usual = instanceOf('rabbitmq');
    const four = instanceOf('rabbitmq', { rabbitmq: '4' });
    expect([usual.port, usual.innerPort, four.port, four.innerPort]).toEqual([5672, 25_672, 5682, 25_682]);
    expect(four.folder).not.toBe(usual.folder);
    expect(instanceOf('kafka', { kafka: '3.9' }).port).toBe(9192);
    expect(instanceOf('kafka', { kafka: '4.1' })).toMatchObject({ id: 'kafka', port: 9092 });
  });

  it.each([
    ['4.0.5', '4', true],
    ['4', '4.1', true],
    ['3.10.8', '3.1', false],
    ['3.10.8', '4', false],
    [undefined, '4', true],
    ['4.0.5', undefined, true],
  ])('%s counts as %s: %s', (version, wanted, expected) => {
    expect(isVersion(version, wanted)).toBe(expected);
  });
});

describe('the state file', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'brokers-'));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it('is empty before the first server', () => {
    expect(readState(folder)).toEqual({});
  });

  it('merges into an entry and removes it', async () => {
    await writeState(folder, 'redis', { broker: 'redis', how: 'native', port: 1 });
    await writeState(folder, 'redis', { port: 2 });
    expect(readState(folder)).toEqual({ redis: { broker: 'redis', how: 'native', port: 2 } });
    await writeState(folder, 'redis', undefined);
    expect(readState(folder)).toEqual({});
  });

  it('loses nothing of concurrent writers', async () => {
    const ids = Array.from({ length: 12 }, (_, i) => `server-${i}`);
    await Promise.all(
      ids.map((id, port) => writeState(folder, id, { broker: 'kafka', how: 'native', port })),
    );
    expect(Object.keys(readState(folder)).toSorted()).toEqual(ids.toSorted());
    expect(readdirSync(folder)).toEqual(['state.json']);
  });

  it('is not held by a process that has ended', async () => {
    writeFileSync(
      join(folder, 'state.lock'),
      JSON.stringify({ pid: process.pid, startedAt: 'another time' }),
    );
    await writeState(folder, 'redis', { port: 1 });
    expect(readState(folder)).toHaveProperty('redis');
  });

  it('is free again after work that failed', async () => {
    const failed = withLock(folder, 'servers', () => Promise.reject(new Error('no')));
    await expect(failed).rejects.toThrow('no');
    expect(existsSync(join(folder, 'servers.lock'))).toBe(false);
  });

  it('admits one at a time', async () => {
    const seen: string[] = [];
    const work = (name: string) => async () => {
      seen.push(`${name} in`);
      await new Promise((resolve) => setImmediate(resolve));
      seen.push(`${name} out`);
    };
    await Promise.all([withLock(folder, 'servers', work('a')), withLock(folder, 'servers', work('b'))]);
    expect(seen).toEqual(['a in', 'a out', 'b in', 'b out']);
  });
});

describe('a port', () => {
  it('is free until something listens on it', async () => {
    const port = await freePort();
    expect(await isListening(port)).toBe(false);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    expect(await isListening(port)).toBe(true);
    await new Promise((resolve) => server.close(resolve));
  });
});

describe('an answer', () => {
  it('of RabbitMQ is its connection.start with the version in it', () => {
    const table = Buffer.from('\x07versionS\0\0\0\x054.0.5');
    const method = Buffer.concat([Buffer.from([0, 10, 0, 10, 0, 9, 0, 0, 0, table.length]), table]);
    const frame = Buffer.concat([
      Buffer.from([1, 0, 0, 0, 0, 0, method.length]),
      method,
      Buffer.from([0xce]),
    ]);
    expect(readConnectionStart(frame)).toEqual({ version: '4.0.5' });
    expect(readConnectionStart(frame.subarray(0, -1))).toBeUndefined();
    expect(readConnectionStart(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'))).toBeUndefined();
  });

  it.each([
    ['+PONG\r\n', undefined],
    ['+PONG\r\n$26\r\nredis_version:7.0.15\r\n', { version: '7.0.15' }],
    ['+PONG\r\n-ERR unknown command\r\n', { version: undefined }],
    ['-NOAUTH Authentication required.\r\n', { version: undefined }],
    ['-LOADING Redis is loading the dataset in memory\r\n', undefined],
  ])('of Redis: %j', (text, expected) => {
    expect(readPong(Buffer.from(text))).toEqual(expected);
  });

  it.each([
    [0, '3'],
    [4, '4'],
  ])('of Kafka implies its major version: the oldest Fetch is %i', (oldest, version) => {
    const produce = [0, 0, 0, 3, 0, 13];
    const fetch = [0, 1, 0, oldest, 0, 18];
    const body = Buffer.from([0, 0, 0, 1, 0, 0, 0, 0, 0, 2, ...produce, ...fetch]);
    const frame = Buffer.concat([Buffer.from([0, 0, 0, body.length]), body]);
    expect(readApiVersions(frame)).toEqual({ version });
    expect(readApiVersions(frame.subarray(0, -1))).toBeUndefined();
  });

  it('of Kafka names the nodes that it knows, with and without a rack', () => {
    const node = (id: number, rack: readonly number[]): number[] => [
      0,
      0,
      0,
      id,
      0,
      1,
      97,
      0,
      0,
      35,
      132,
      ...rack,
    ];
    const nodes = [...node(1, [255, 255]), ...node(7, [0, 2, 98, 99]), ...node(3, [255, 255])];
    const rest = [0, 0, 0, 1, 0, 0, 0, 0];
    const body = Buffer.from([0, 0, 0, 1, 0, 0, 0, 3, ...nodes, ...rest]);
    const frame = Buffer.concat([Buffer.from([0, 0, 0, body.length]), body]);
    expect(readNodes(frame)).toEqual([1, 7, 3]);
    expect(readNodes(frame.subarray(0, -1))).toBeUndefined();
  });
});

describe("the mirror in apt's sources", () => {
  it('is found in lines', () => {
    const text = `# deb http://commented.example bookworm main
deb http://security.example bookworm-security main
deb [signed-by=/k.gpg arch=amd64] https://mirror.example/debian bookworm main contrib`;
    expect(mirrorIn(text, 'bookworm')).toBe('https://mirror.example/debian');
  });

  it('is found in paragraphs', () => {
    const text = `Types: deb
URIs: http://security.example
Suites: bookworm-security
Components: main

Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main
`;
    expect(mirrorIn(text, 'bookworm')).toBe('http://mirror.example/debian');
  });

  it.each([
    'Types: deb\nURIs: http://a.example\nSuites: bookworm\nComponents: main\nEnabled: no\n',
    'Types: deb-src\nURIs: http://a.example\nSuites: bookworm\nComponents: main\n',
    'deb cdrom:[x]/ bookworm main',
    'deb http://a.example trixie main',
    '',
  ])('is missing in %j', (text) => {
    expect(mirrorIn(text, 'bookworm')).toBeUndefined();
  });
});
