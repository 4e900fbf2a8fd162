import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
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

const brokers = inject('kafkaBrokers');
const limitMs = 480_000;
const everyLine = outcomesByRules();

describe.skipIf(brokers === undefined)('the tour on Kafka', () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'stork-tour-'));
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it(
    'prints the same report as without a broker, and leaves nothing behind',
    async () => {
      const state = join(folder, 'alone.jsonl');
      const { code, stdout, stderr } = await tour(brokers!, '--state', state).ended;

      expect(stderr).toBe('');
      expect(code, stdout).toBe(0);
      expect(countsIn(stdout)).toEqual(countByRules());
      expect(outcomesIn(state)).toEqual(everyLine);
      expect(stdout).toContain('RemoteError with the code UNKNOWN_SKU');
      const topic = /topic (stork-tour\.[\w-]+)/.exec(stdout)![1]!;
      await expect.poll(() => topicNames(brokers!, topic)).toEqual([]);
    },
    limitMs,
  );

  it(
    'continues when Kafka is killed and started again, and loses nothing',
    async () => {
      const server = await throwAway('kafka', { version: inject('kafkaVersion') });
      onTestFinished(server.remove);
      const running = tour(server.brokers, '--pace', '50');
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
      const topic = `stork-tour.${randomUUID().slice(0, 8)}`;
      const state = join(folder, 'killed.jsonl');
      const consume = ['--consume', '--queue', topic, '--state', state];

      const sent = await tour(brokers!, '--publish', '--queue', topic).ended;
      expect(sent.stderr).toBe('');
      expect(sent.code, sent.stdout).toBe(0);
      expect(sent.stdout).toContain('All 1 000 sent, each confirmed by the broker');

      const killed = await tourWith(killingAt('250 of 1 000', folder), brokers!, ...consume).ended;
      expect(killed.code, killed.stdout).toBeNull();
      expect(outcomesIn(state).filter((outcome) => outcome !== undefined)).toHaveLength(250);

      const { code, stdout, stderr } = await tour(brokers!, ...consume).ended;
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
      const began = performance.now();
      const { code, stdout, stderr } = await tour([`127.0.0.1:${port}`]).ended;

      expect(code).toBe(1);
      expect(performance.now() - began).toBeLessThan(40_000);
      expect(stderr).toMatch(/^Kafka cannot be reached at .+; to start one: npm run brokers -- up kafka\n$/);
      expect(stderr).toContain(`127.0.0.1:${port} `);
      expect(stdout).not.toMatch(/^\s+at /m);
    },
    limitMs,
  );
});

function tour(addresses: readonly string[], ...args: readonly string[]): Running {
  return tourWith([], addresses, ...args);
}

/**
 * Runs the built tour without npm, which would receive the signal instead. The first arguments are for Node.
 */
function tourWith(
  nodeArgs: readonly string[],
  addresses: readonly string[],
  ...args: readonly string[]
): Running {
  const main = join(root, '.build', 'sample', '01-tour', 'main.js');
  return run(process.execPath, [...nodeArgs, main, '--broker', 'kafka', ...args], {
    limitMs: limitMs - 20_000,
    env: { KAFKA_BROKERS: addresses.join(',') },
  });
}

async function topicNames(addresses: readonly string[], prefix: string): Promise<readonly string[]> {
  const admin = new Kafka({ brokers: [...addresses], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    return (await admin.listTopics()).filter((name) => name.startsWith(prefix));
  } finally {
    await admin.disconnect();
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
