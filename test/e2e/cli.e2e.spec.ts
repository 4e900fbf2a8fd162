import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Consume } from 'nestjs-stork';
import { brokers, eventually, startKafkaApp, useRaw as useKafka } from './kafka/support.js';
import { fillDeadLetterQueue, deadLetterHeaders, takeAll, upTo } from './rabbitmq/dead-letter-queues.js';
import { startStallingProxy } from './rabbitmq/stalling-proxy.js';
import { startRabbitApp, url, useRaw as useRabbitMq } from './rabbitmq/support.js';
import { root, run, type Running } from './tour-support.js';

/** Several processes, each of which starts and connects. */
const limitMs = 240_000;
const many = 500;

/** Runs the built command line; broker and source come from the arguments only. */
function dlq(args: readonly string[]): Running {
  const main = join(root, 'dist', 'esm', 'cli', 'main.js');
  const env = { RABBITMQ_URL: '', QUEUE_NAME: '', DLQ_NAME: '', KAFKA_BROKERS: '', KAFKA_GROUP_ID: '' };
  return run(process.execPath, [main, 'dlq', ...args], { limitMs: limitMs - 5_000, env });
}

function ids(stdout: string): string[] {
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { id: string }).id);
}

async function unusedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe.skipIf(url === undefined)('the command line on RabbitMQ', () => {
  const raw = useRabbitMq();
  const at = (queue: string): string[] => ['--url', url!, '--queue', queue];

  /** Handles `job`, or fails. */
  function worker(handle: (body: unknown) => void) {
    @Controller()
    class Worker {
      @EventPattern<string>('job')
      @Consume({ id: 'Worker.job' })
      job(@Payload() body: unknown): void {
        handle(body);
      }
    }
    return Worker;
  }

  it(
    'lists, shows, counts and replays what a handler has failed on',
    async () => {
      const queue = raw().queue();
      const failing = await startRabbitApp({
        controllers: [
          worker(() => {
            throw new TypeError('no way\u001b[2J');
          }),
        ],
        options: { queue },
      });
      for (const n of [1, 2, 3]) await failing.client.publish('job', { n });
      await raw().deadLetters(`${queue}.dlq`, 3);
      await failing.close();

      const listed = await dlq(['list', ...at(queue)]).ended;
      expect(listed).toMatchObject({ code: 0, stderr: '' });
      expect(listed.stdout).toMatch(/^ID +FAILED AT +REASON +HANDLER +ATTEMPTS +ERROR\n/);
      expect(
        listed.stdout.match(/ retries-exhausted +Worker\.job +1 +TypeError: no way\\x1b\[2J\n/g),
      ).toHaveLength(3);
      expect(listed.stdout).toContain(`\n3 dead letters in ${queue}.dlq\n`);

      const first = ids((await dlq(['list', ...at(queue), '--json', '--text', '"n":1']).ended).stdout);
      expect(first).toHaveLength(1);
      const shown = await dlq(['show', first[0]!, ...at(queue)]).ended;
      expect(shown).toMatchObject({ code: 0, stderr: '' });
      expect(shown.stdout).toMatch(
        /^id +[0-9a-f]+\nreason +retries-exhausted\nerror +TypeError: no way\\x1b\[2J\n/,
      );
      expect(shown.stdout).toContain('body: 7 bytes of JSON\n  {\n    "n": 1\n  }\n');

      const stats = await dlq(['stats', ...at(queue), '--json']).ended;
      expect(JSON.parse(stats.stdout)).toMatchObject({ total: 3, byHandler: { 'Worker.job': 3 } });

      const dry = await dlq(['replay', ...at(queue)]).ended;
      expect(dry.code).toBe(0);
      expect(dry.stderr).toContain(`the queue "${queue}" has no consumers`);
      expect(dry.stdout).toBe(
        `dry run: replay from ${queue}.dlq to ${queue}: 3 dead letters to scan\n` +
          '3 dead letters would be replayed\n  retries-exhausted  3\ndry run: nothing was changed; add --yes\n',
      );
      expect(await raw().count(queue)).toBe(0);

      const done = await dlq(['replay', ...at(queue), '--yes']).ended;
      expect(done.stdout).toContain('3 dead letters replayed\n  retries-exhausted  3\n');
      expect(await raw().count(`${queue}.dlq`)).toBe(0);
      const handled: unknown[] = [];
      await startRabbitApp({ controllers: [worker((body) => handled.push(body))], options: { queue } });
      await eventually(() => (handled.length >= 3 ? true : undefined), 'replayed letters');
      expect(handled).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    },
    limitMs,
  );

  it(
    'killed during a replay and run again, it loses nothing and duplicates at most one dead letter',
    async () => {
      const { queue, dlq: store } = await fillDeadLetterQueue(raw(), many);
      const killed = dlq(['replay', ...at(queue), '--yes', '--rate', '50']);
      await eventually(async () => ((await raw().count(queue)) >= 100 ? true : undefined), '100 replayed');
      killed.child.kill('SIGKILL');
      expect((await killed.ended).code).toBeNull();
      // The broker requeues the unacknowledged messages of the killed process when it notices the closed
      // connection.
      await eventually(
        async () => ((await raw().count(queue)) + (await raw().count(store)) >= many ? true : undefined),
        'every dead letter to be requeued',
      );
      expect(await raw().count(store)).toBeGreaterThan(0);

      const again = await dlq(['replay', ...at(queue), '--yes', '--json']).ended;
      expect(again.code, again.stderr).toBe(0);
      expect(JSON.parse(again.stdout)).toMatchObject({ complete: true, skipped: 0 });
      expect(await raw().count(store)).toBe(0);
      const bodies = (await takeAll(raw(), queue)).map(({ content }) => content.toString());
      expect(new Set(bodies).size).toBe(many);
      expect(bodies.length - many).toBeLessThanOrEqual(1);
    },
    limitMs,
  );

  it(
    'interrupted, it reports its progress and how to continue',
    async () => {
      const { queue, dlq: store } = await fillDeadLetterQueue(raw(), 200);
      const running = dlq(['replay', ...at(queue), '--yes', '--rate', '20']);
      await eventually(async () => ((await raw().count(queue)) >= 3 ? true : undefined), '3 replayed');
      running.child.kill('SIGINT');
      const { code, stdout, stderr } = await running.ended;

      expect(code, stderr).toBe(130);
      expect(stderr).toContain('interrupted by SIGINT\n');
      expect(stdout).toContain('run the same command again to continue');
      const replayed = Number(/(\d+) dead letters replayed so far/.exec(stdout)![1]);
      await eventually(
        async () => ((await raw().count(store)) === 200 - replayed ? true : undefined),
        'the rest',
      );
      expect(await raw().count(queue)).toBe(replayed);
    },
    limitMs,
  );

  it(
    'interrupted twice while the broker is silent, it ends at once, and all are stored in order',
    async () => {
      const { queue, dlq: store } = await fillDeadLetterQueue(raw(), 300);
      const proxy = await startStallingProxy(url!);
      onTestFinished(() => proxy.close());
      proxy.holdFrom(Buffer.from([0, 60, 0, 21])); // basic.consume-ok
      const running = dlq(['list', '--url', proxy.url, '--queue', queue, '--json']);
      await eventually(async () => (proxy.held > 0 ? true : undefined), 'the scan to begin');
      const signals = setInterval(() => running.child.kill('SIGINT'), 100);
      const { code } = await running.ended.finally(() => clearInterval(signals));
      expect(code).toBeNull();
      expect(running.child.signalCode).toBe('SIGINT');
      proxy.cut();
      await expect.poll(() => raw().count(store)).toBe(300);
      const stored = (await takeAll(raw(), store)).map(({ content }) => content.toString());
      expect(stored).toEqual(upTo(300));
    },
    limitMs,
  );

  it(
    'interrupted while the reader of its output does not read, it ends',
    async () => {
      const { queue, dlq: store } = await fillDeadLetterQueue(raw(), 300, () => ({
        headers: { filler: 'x'.repeat(10_000) },
      }));
      const running = dlq(['list', ...at(queue), '--json']);
      running.child.stdout!.pause();
      await eventually(
        async () => ((await raw().count(store)) < 300 ? true : undefined),
        'the scan to begin',
      );
      running.child.kill('SIGINT');
      await new Promise((resolve) => running.child.once('exit', resolve));
      expect(running.child.exitCode).toBe(130);
      await expect.poll(() => raw().count(store)).toBe(300);
    },
    limitMs,
  );

  it(
    'discards, and tolerates a reader that closes the pipe early',
    async () => {
      const { queue, dlq: store } = await fillDeadLetterQueue(raw(), 300);
      const command = `"${process.execPath}" dist/esm/cli/main.js dlq list --max 300 --json | head -n 1; echo "\${PIPESTATUS[0]}"`;
      const env = { RABBITMQ_URL: url!, QUEUE_NAME: queue, DLQ_NAME: store, KAFKA_BROKERS: '' };
      const { stdout, stderr } = await run('bash', ['-c', command], { limitMs, env }).ended;
      expect(stderr).toBe('');
      expect(stdout.split('\n')).toHaveLength(3);
      expect(stdout).toMatch(/\n0\n$/);

      const some = await dlq(['discard', ...at(queue), '--all', '--max', '299', '--yes', '--window', '50'])
        .ended;
      expect(some.stdout).toContain('299 dead letters discarded\n');
      await expect.poll(() => raw().count(store)).toBe(1);
    },
    limitMs,
  );

  it(
    'reports a missing queue, a missing broker and a wrong password',
    async () => {
      const queue = raw().queue();
      const noQueue = await dlq(['list', ...at(queue)]).ended;
      expect(noQueue).toMatchObject({ code: 1, stdout: '' });
      expect(noQueue.stderr).toContain(`there is no queue "${queue}.dlq"`);

      const address = `127.0.0.1:${await unusedPort()}`;
      const [noBroker, refused] = await Promise.all([
        dlq(['list', '--url', `amqp://guest:hunter2@${address}`, '--queue', queue]).ended,
        dlq(['list', '--url', url!.replace(/\/\/([^@]*@)?/, '//guest:hunter2@'), '--queue', queue]).ended,
      ]);
      for (const { code, stdout, stderr } of [noBroker, refused]) {
        expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
        expect(stderr).not.toContain('hunter2');
      }
      expect(noBroker.stderr).toContain(`error: RabbitMQ at amqp://${address}: connect ECONNREFUSED`);
      expect(refused.stderr).toContain('check user, password');
    },
    limitMs,
  );
});

describe.skipIf(brokers === undefined)('the command line on Kafka', () => {
  const raw = useKafka();
  const at = (topic: string, group: string): string[] => [
    '--brokers',
    brokers!.join(','),
    '--topic',
    topic,
    '--group',
    group,
  ];

  it(
    'lists, shows, counts and replays what a handler has failed on',
    async () => {
      const topic = await raw().topic(2);
      const group = raw().name();
      const fail = (): void => {
        throw new TypeError('no way');
      };
      const failing = await startKafkaApp({
        group,
        handlers: { [topic]: fail },
        options: { fromBeginning: true },
      });
      await raw().send(topic, [{ n: 1 }, { n: 2 }, { n: 3 }], { key: 'k' });
      await raw().settled(group, topic);
      await failing.close();

      const listed = await dlq(['list', ...at(topic, group)]).ended;
      expect(listed).toMatchObject({ code: 0, stderr: '' });
      expect(listed.stdout.match(/^\d\/\d +\S+Z +retries-exhausted .* TypeError: no way$/gm)).toHaveLength(3);
      expect(listed.stdout).toContain(`\n3 dead letters in ${topic}.dlq, of group ${group}\n`);

      const [id] = ids((await dlq(['list', ...at(topic, group), '--json', '--max', '1']).ended).stdout);
      const shown = await dlq(['show', id!, ...at(topic, group)]).ended;
      expect(shown).toMatchObject({ code: 0, stderr: '' });
      expect(shown.stdout).toContain(`group            ${group}\n`);
      expect(shown.stdout).toContain('body: 7 bytes of JSON\n  {\n    "n": 1\n  }\n');

      const dry = await dlq(['replay', ...at(topic, group)]).ended;
      expect(dry.stdout).toContain(
        `dry run: replay from ${topic}.dlq, of group ${group} to group ${group} of ${topic}`,
      );
      expect(dry.stdout).toContain('3 dead letters would be replayed\n');

      const done = await dlq(['replay', ...at(topic, group), '--yes', '--json']).ended;
      expect(done.code, done.stderr).toBe(0);
      expect(JSON.parse(done.stdout)).toMatchObject({ action: 'replay', group, done: 3, complete: true });
      const empty = await dlq(['stats', ...at(topic, group), '--json']).ended;
      expect(JSON.parse(empty.stdout)).toMatchObject({ total: 0 });

      const handled: unknown[] = [];
      await startKafkaApp({ group, handlers: { [topic]: (body) => handled.push(body) } });
      await eventually(() => (handled.length >= 3 ? true : undefined), 'replayed letters');
      expect(handled).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    },
    limitMs,
  );

  it(
    'killed during a replay and run again, it neither loses nor duplicates a dead letter',
    async () => {
      const topic = await raw().topic(2);
      const group = raw().name();
      await raw().topic(2, `${topic}.dlq`);
      await raw().producer.send({
        topic: `${topic}.dlq`,
        messages: Array.from({ length: many }, (_, n) => ({
          key: `k${n % 20}`,
          value: String(n),
          headers: {
            ...texts(deadLetterHeaders(topic, n)),
            'stork-handler': topic,
            'stork-group': group,
            'content-type': 'application/json',
          },
        })),
      });
      const killed = dlq(['replay', ...at(topic, group), '--yes', '--rate', '50']);
      const target = `${topic}.retry.${group}.0`;
      // A new topic may have no leader yet.
      const written = (): Promise<number> =>
        raw()
          .reader.records(target)
          .then(
            ({ length }) => length,
            () => 0,
          );
      await eventually(
        async () => ((await written()) >= 150 ? true : undefined),
        '150 replayed, in transactions that may be open',
      );
      killed.child.kill('SIGKILL');
      expect((await killed.ended).code).toBeNull();

      const again = await dlq(['replay', ...at(topic, group), '--yes', '--json']).ended;
      expect(again.code, again.stderr).toBe(0);
      const { done, complete } = JSON.parse(again.stdout) as { done: number; complete: boolean };
      expect(complete).toBe(true);
      expect(done).toBeGreaterThan(0);
      expect(done).toBeLessThan(many);
      const handled: number[] = [];
      await startKafkaApp({ group, handlers: { [topic]: (body) => handled.push(Number(body)) } });
      await eventually(() => (handled.length >= many ? true : undefined), 'replayed letters');
      await raw().settled(group, target);
      expect(handled.toSorted((a, b) => a - b)).toEqual(Array.from({ length: many }, (_, n) => n));
    },
    limitMs,
  );

  it(
    'reports a missing topic and an unreachable broker',
    async () => {
      const topic = raw().name();
      const address = `127.0.0.1:${await unusedPort()}`;
      const [noTopic, noBroker] = await Promise.all([
        dlq(['list', ...at(topic, 'g')]).ended,
        dlq(['list', '--brokers', address, '--topic', topic, '--group', 'g']).ended,
      ]);
      expect(noTopic).toMatchObject({ code: 1, stdout: '' });
      expect(noTopic.stderr).toContain(`there is no topic ${topic}.dlq`);
      expect(noBroker).toMatchObject({ code: 1, stdout: '' });
      expect(noBroker.stderr).toContain(
        `error: no answer within 10 s: Connection error: connect ECONNREFUSED ${address}`,
      );
    },
    limitMs,
  );
});

it('reports wrong usage without connecting to a broker', async () => {
  const { code, stdout, stderr } = await dlq(['list']).ended;
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain('no broker is given');
});

function texts(headers: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}
