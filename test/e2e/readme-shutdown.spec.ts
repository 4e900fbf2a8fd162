import { readFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { committedOffsets } from '../support/kafka-topics.js';
import { useWorkerFile } from '../support/worker-file.js';
import { eventually } from '../contract/app.js';
import { brokers, uniqueTopic, useForeign } from './kafka/kafka-app.js';
import { later, uniqueQueue, url, useRaw } from './rabbitmq/support.js';
import { root, run, type Running } from './tour-support.js';

// The programs of the README, as processes that get a SIGTERM while a handler works. What is replaced in them:
// names, the port, and what the handler does.

const blocks = [...readFileSync(`${root}README.md`, 'utf8').matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(
  ([, code]) => code!,
);
const blockWith = (text: string): string => blocks.find((code) => code.includes(text))!;

function replaced(code: string, ...pairs: readonly (readonly [from: string, to: string])[]): string {
  for (const [from] of pairs) expect(code).toContain(from);
  return pairs.reduce((result, [from, to]) => result.replace(from, to), code);
}

const appModule = replaced(
  blockWith('// app.module.ts'),
  ['  created(', '  async created('],
  [
    'console.log(ctx.messageId, order.id);',
    `await new Promise((resolve) => {
      process.once('message', resolve);
      // The only listener would keep the process alive.
      if (process.listenerCount('SIGTERM') > 0) process.once('SIGTERM', () => console.log('terminates'));
      console.log('begins', order.id, ctx.redelivered);
    });
    console.log('ended', order.id);`,
  ],
  ["queue: 'orders'", "queue: process.env['SOURCE']"],
);
const onKafka = replaced(
  appModule,
  ["import { rabbitmq } from 'nestjs-stork/rabbitmq';", "import { kafka } from 'nestjs-stork/kafka';"],
  [
    "rabbitmq({ url: process.env['RABBITMQ_URL'], queue: process.env['SOURCE'] })",
    "kafka({ brokers: [process.env['BROKER']!], groupId: process.env['SOURCE'], topic: process.env['SOURCE'], patternHeader: 'stork-pattern', fromBeginning: true })",
  ],
);
const worker = blockWith('createMicroservice(AppModule');
const hybrid = replaced(blockWith('connectStork(app)'), ['listen(3000)', 'listen(0)']);
// The compiler of the tests needs it first.
const polyfilled = (main: string): string => `import 'reflect-metadata';\n${main}`;

const start = (file: string, env: Readonly<Record<string, string>>): Running => {
  const started = run(process.execPath, [file], { limitMs: 60_000, env, hasChannel: true });
  onTestFinished(async () => {
    started.child.kill('SIGKILL');
    await started.ended;
  });
  return started;
};

/** Sends SIGTERM while the handler works, and returns what the process printed until its end. */
async function terminateAtWork({ child, ended, shows }: Running): Promise<string> {
  await shows('begins 1');
  child.kill('SIGTERM');
  await shows('terminates');
  // In this time a process whose handlers are idle has ended.
  await later(200);
  child.send('end');
  const { stdout, stderr } = await ended;
  expect(stderr).toBe('');
  // Nest sends the signal again when everything is closed.
  expect(child.signalCode).toBe('SIGTERM');
  return stdout;
}

describe.skipIf(url === undefined)("a SIGTERM at the README's programs on RabbitMQ", () => {
  const raw = useRaw();
  const sources = {
    'test/e2e/readme/app.module.ts': appModule,
    'test/e2e/readme/worker.ts': polyfilled(worker),
    'test/e2e/readme/hybrid.ts': polyfilled(hybrid),
  };
  const files = ['worker', 'hybrid'].map((name) => ({
    name,
    file: useWorkerFile(`test/e2e/readme/${name}.ts`, url === undefined, sources),
  }));

  it.each(files)('lets the handler of the $name finish and acknowledges its message', async ({ file }) => {
    const queue = raw().queue(uniqueQueue());
    const running = start(file, { RABBITMQ_URL: url!, SOURCE: queue });
    await eventually(async () => {
      const isSent = await raw()
        .with((channel) => channel.checkQueue(queue))
        .catch(() => undefined);
      return isSent?.consumerCount === 1 ? true : undefined;
    }, 'a consumer');
    raw().channel.sendToQueue(queue, Buffer.from('{"id":"1"}'), { type: 'order.created' });
    const printed = await terminateAtWork(running);
    expect(printed.match(/begins .*/g)).toEqual(['begins 1 false']);
    expect(printed).toContain('ended 1');
    expect([await raw().count(queue), await raw().count(`${queue}.dlq`)]).toEqual([0, 0]);
  });
});

describe.skipIf(brokers === undefined)("a SIGTERM at the README's worker on Kafka", () => {
  const foreign = useForeign();
  const file = useWorkerFile('test/e2e/readme-kafka/worker.ts', brokers === undefined, {
    'test/e2e/readme-kafka/app.module.ts': onKafka,
    'test/e2e/readme-kafka/worker.ts': polyfilled(worker),
  });

  it('lets the handler finish, commits its offset and leaves the group', async () => {
    const topic = await foreign().topic(uniqueTopic(), 1);
    await foreign().send(topic, {
      value: '{"id":"1"}',
      headers: { 'stork-pattern': 'order.created', 'content-type': 'application/json' },
    });
    const printed = await terminateAtWork(start(file, { BROKER: brokers![0]!, SOURCE: topic }));
    expect(printed).toContain('ended 1');
    expect(await committedOffsets(foreign().admin, topic, topic)).toEqual(new Map([[0, 1]]));
    const { groups } = await foreign().admin.describeGroups([topic]);
    expect(groups.map(({ members }) => members)).toEqual([[]]);
  });
});
