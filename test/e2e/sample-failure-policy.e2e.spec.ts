import { join } from 'node:path';
import { connect } from 'amqplib';
import { Kafka, logLevel } from 'kafkajs';
import { describe, expect, inject, it } from 'vitest';
import { useOwnCheckout } from '../support/own-checkout.js';
import { root, run, type Ended } from './tour-support.js';

const limitMs = 240_000;

/** The lines of each chapter, without times. Of two concurrent events, either may be first. */
const chapters = [
  [
    'SH-1  attempt 1 of at most 3: Error: the till is busy',
    'SH-1  attempt 2 of at most 3: Error: the till is busy',
    'SH-1  attempt 3 of at most 3: done',
    'succeeds in the third attempt, after waits of 100 and 200 ms',
  ],
  [
    'SH-2  attempt 1 of at most 2: Error: the carrier is out',
    'SH-3  attempt 1 of at most 2: done',
    'SH-2  attempt 2 of at most 2: done',
    'the next message of the same customer does not wait for it',
  ],
  [
    'SH-4  attempt 1 of at most 4: UnknownGoodsError: the catalogue has no globe',
    'dead-lettered, reason "fatal"',
    'dead-lettered after one attempt, although more were allowed',
  ],
  [
    'SH-5  attempt 1 of at most 4: done',
    'SH-6  attempt 1 of at most 4: done',
    'SH-7  attempt 1 of at most 4: done',
    'the two replies are "invoice no. 1" and "invoice no. 1"',
    'each is handled once, and both requests get the same reply',
  ],
  [
    'list:   message-4, fatal, OrdersController.created, UnknownGoodsError: the catalogue has no globe',
    'stats:  1 in total, by reason {"fatal":1}',
    'replay: 1 would be replayed; a dry run changes nothing',
    'replay: 1 replayed',
    'SH-4  attempt 1 of at most 4: done',
    'handled by its own handler, and no dead letter is left',
  ],
].map((rows) => rows.toSorted());

describe('the sample of failure policies', () => {
  // `nest start` deletes and writes what other test files run.
  const checkout = useOwnCheckout('dist');

  it(
    'prints its report when started as documented, and ends by itself',
    async () => {
      const { code, stdout, stderr } = await run('npx', ['nest', 'start', 'failure-policy'], {
        limitMs: limitMs - 5_000,
        cwd: checkout(),
      }).ended;

      expect(stderr).toBe('');
      expect(code, stdout).toBe(0);
      expect(chaptersOf(stdout)).toEqual(chapters);
      expect(waitsOf(stdout)).toEqual({ inProcess: [true, true], redelivered: true });
    },
    limitMs,
  );

  const rabbitmqUrl = inject('rabbitmqUrl');
  it.skipIf(rabbitmqUrl === undefined)(
    'prints the same report on RabbitMQ, and leaves nothing behind',
    async () => {
      const { code, stdout, stderr } = await sampleRun('--broker', 'rabbitmq');

      expect(stderr).toBe('');
      expect(code, stdout).toBe(0);
      expect(chaptersOf(stdout)).toEqual(chapters);
      const queue = /queue (\S+)/.exec(stdout)![1]!;
      for (const name of [queue, `${queue}.dlq`, `${queue}.retry.2000`])
        expect(await hasQueue(rabbitmqUrl!, name), name).toBe(false);
    },
    limitMs,
  );

  const kafkaBrokers = inject('kafkaBrokers');
  it.skipIf(kafkaBrokers === undefined)(
    'prints the same report on Kafka, and leaves nothing behind',
    async () => {
      const { code, stdout, stderr } = await sampleRun('--broker', 'kafka');

      expect(stderr).toBe('');
      expect(code, stdout).toBe(0);
      expect(chaptersOf(stdout)).toEqual(chapters);
      const topic = /topic (\S+)/.exec(stdout)![1]!;
      await expect.poll(() => topicNames(kafkaBrokers!, topic)).toEqual([]);
    },
    limitMs,
  );

  it(
    'lists the known brokers in one line',
    async () => {
      const { code, stdout, stderr } = await sampleRun('--broker', 'nonsense');

      expect(code).toBe(1);
      expect(stderr).toBe('there is no broker "nonsense"; known: memory, rabbitmq, kafka\n');
      expect(stdout).not.toMatch(/^\s+at /m);
    },
    limitMs,
  );

  /** As it was built. */
  function sampleRun(...args: readonly string[]): Promise<Ended> {
    const main = join(root, '.build', 'sample', '02-failure-policy', 'main.js');
    const env = { RABBITMQ_URL: rabbitmqUrl ?? '', KAFKA_BROKERS: kafkaBrokers?.join(',') ?? '' };
    return run(process.execPath, [main, ...args], { limitMs: limitMs - 5_000, env }).ended;
  }
});

/** A failed check prints FAILED, and is none of these rows. */
function chaptersOf(stdout: string): string[][] {
  const [, ...texts] = stdout.split(/^ {2}\d\. .+$/m);
  return texts.map((text) =>
    [...text.matchAll(/^ +(?:\d+ ms|ok) {2}(.+)$/gm)].map(([, row]) => row!).toSorted(),
  );
}

/** Whether the printed times show that nothing was early. */
function waitsOf(stdout: string): { readonly inProcess: readonly boolean[]; readonly redelivered: boolean } {
  const at = (row: string): number => Number(new RegExp(`(\\d+) ms {2}${row}`).exec(stdout)![1]);
  // Rounded to milliseconds.
  const isBetween = (first: string, second: string, leastMs: number): boolean =>
    at(second) - at(first) >= leastMs - 2;
  return {
    inProcess: [
      isBetween('SH-1  attempt 1', 'SH-1  attempt 2', 100),
      isBetween('SH-1  attempt 2', 'SH-1  attempt 3', 200),
    ],
    redelivered: isBetween('SH-2  attempt 1', 'SH-2  attempt 2', 2_000),
  };
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

async function topicNames(addresses: readonly string[], prefix: string): Promise<readonly string[]> {
  const admin = new Kafka({ brokers: [...addresses], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    return (await admin.listTopics()).filter((name) => name.startsWith(prefix));
  } finally {
    await admin.disconnect();
  }
}
