import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'amqplib';
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished } from 'vitest';
import { throwAway } from '../support/brokers/index.mjs';
import {
  countByRules,
  countsIn,
  killingAt,
  outcomesByRules,
  outcomesIn,
  root,
  run,
  type Running,
} from './tour-support.js';

const rabbitmqUrl = inject('rabbitmqUrl');
const limitMs = 480_000;
const everyLine = outcomesByRules();

describe.skipIf(rabbitmqUrl === undefined)('the tour on RabbitMQ', () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'stork-tour-'));
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it(
    'prints the same report as without a broker, and leaves nothing behind',
    async () => {
      const state = join(folder, 'alone.jsonl');
      const { code, stdout, stderr } = await tour(rabbitmqUrl!, '--state', state).ended;

      expect(stderr).toBe('');
      expect(code, stdout).toBe(0);
      expect(countsIn(stdout)).toEqual(countByRules());
      expect(outcomesIn(state)).toEqual(everyLine);
      expect(stdout).toContain('RemoteError with the code UNKNOWN_SKU');
      expect(stdout).not.toContain('were redelivered');
      const queue = /queue (stork-tour\.\S+)/.exec(stdout)![1]!;
      for (const name of [queue, `${queue}.dlq`, `${queue}.dlq.dlq`])
        expect(await hasQueue(rabbitmqUrl!, name), name).toBe(false);
    },
    limitMs,
  );

  it(
    'continues when RabbitMQ is killed and started again, and loses nothing',
    async () => {
      const server = await throwAway('rabbitmq');
      onTestFinished(server.remove);
      // Newly declared queues may not survive a kill of RabbitMQ 3.10: at this rate the kill happens after 10
      // s.
      const running = tour(server.url, '--pace', '50');
      onTestFinished(() => void running.child.kill('SIGKILL'));
      await running.shows('500 of 1 000');
      await server.kill();
      await server.start();

      const { code, stdout, stderr } = await running.ended;
      expect(stderr).toBe('');
      expect(code, stdout).toBe(0);
      expect(countsIn(stdout)).toEqual(countByRules());
    },
    limitMs,
  );

  it(
    'a shop that is killed and started again gives each line the same outcome',
    async () => {
      const queue = `stork-tour.${randomUUID().slice(0, 8)}`;
      const state = join(folder, 'killed.jsonl');
      const consume = ['--consume', '--queue', queue, '--state', state];

      const sent = await tour(rabbitmqUrl!, '--publish', '--queue', queue).ended;
      expect(sent.stderr).toBe('');
      expect(sent.code, sent.stdout).toBe(0);
      expect(sent.stdout).toContain('All 1 000 sent, each confirmed by the broker');

      const killed = await tourWith(killingAt('250 of 1 000', folder), rabbitmqUrl!, ...consume).ended;
      expect(killed.code, killed.stdout).toBeNull();
      expect(outcomesIn(state).filter((outcome) => outcome !== undefined)).toHaveLength(250);

      const { code, stdout, stderr } = await tour(rabbitmqUrl!, ...consume).ended;
      expect(stderr).toBe('');
      expect(code, stdout).toBe(0);
      expect(stdout).toContain('250 of 1 000 had their outcome before');
      expect(outcomesIn(state)).toEqual(everyLine);
      expect(countsIn(stdout)).toEqual(countByRules());
    },
    limitMs,
  );

  it(
    'reports in one line that no broker is reachable, and the fix',
    async () => {
      const port = await unusedPort();
      const begun = performance.now();
      const { code, stdout, stderr } = await tour(`amqp://guest:secret@127.0.0.1:${port}`).ended;

      expect(code).toBe(1);
      expect(performance.now() - begun).toBeLessThan(40_000);
      expect(stderr).toMatch(
        /^RabbitMQ cannot be reached at .+; to start one: npm run brokers -- up rabbitmq\n$/,
      );
      expect(stderr).toContain(`amqp://127.0.0.1:${port} `);
      expect(stdout + stderr).not.toContain('secret');
      expect(stdout).not.toMatch(/^\s+at /m);
    },
    limitMs,
  );
});

function tour(url: string, ...args: readonly string[]): Running {
  return tourWith([], url, ...args);
}

/**
 * Runs the built tour without npm, which would receive the signal instead. The first arguments are for Node.
 */
function tourWith(nodeArgs: readonly string[], url: string, ...args: readonly string[]): Running {
  const main = join(root, '.build', 'sample', '01-tour', 'main.js');
  return run(process.execPath, [...nodeArgs, main, '--broker', 'rabbitmq', ...args], {
    limitMs: limitMs - 20_000,
    env: { RABBITMQ_URL: url },
  });
}

async function hasQueue(url: string, name: string): Promise<boolean> {
  const connection = await connect(url);
  const channel = await connection.createChannel();
  // A queue that does not exist closes the channel.
  channel.on('error', () => {});
  try {
    await channel.checkQueue(name);
    return true;
  } catch {
    return false;
  } finally {
    await connection.close();
  }
}

async function unusedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}
