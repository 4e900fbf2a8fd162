import { describe, expect, it, onTestFinished } from 'vitest';
import { Interruption } from '../../../lib/cli/host.js';
import { openStore } from '../../../lib/cli/input/connect.js';
import { systemClock, type StorkClock } from '../../../lib/core/runtime/clock.js';
import { FakeStore, runOver, type Ran, type RunFields } from '../../unit/cli/fake-host.js';
import { fillDeadLetterQueue, takeAll, upTo } from './dead-letter-queues.js';
import { startStallingProxy, type StallingProxy } from './stalling-proxy.js';
import { url, useRaw } from './support.js';

/** Time limits are a tenth: a stalled link ends in each of them. */
const fastClock: StorkClock = {
  now: () => systemClock.now(),
  setTimer: (delayMs, fire) => systemClock.setTimer(delayMs / 10, fire),
};

/** AMQP method ids, class and method, as they stand in a frame. */
const methods = {
  connectionOpenOk: Buffer.from([0, 10, 0, 41]),
  consumeOk: Buffer.from([0, 60, 0, 21]),
  cancelOk: Buffer.from([0, 60, 0, 31]),
} as const;

function bodiesIn(stdout: string): readonly string[] {
  const lines = stdout.split('\n').filter((line) => line !== '');
  return lines.map((line) => (JSON.parse(line) as { body: string }).body);
}

describe.skipIf(url === undefined)('the command line on RabbitMQ, in this process', () => {
  const raw = useRaw();

  function dlq(queue: string, args: string, fields: RunFields & { readonly at?: string } = {}): Promise<Ran> {
    const { at = url!, ...others } = fields;
    const env = { RABBITMQ_URL: at, QUEUE_NAME: queue };
    return runOver(new FakeStore([]), `dlq ${args}`, { env, open: openStore, ...others });
  }

  const bodiesOf = async (queue: string): Promise<readonly string[]> =>
    (await takeAll(raw(), queue)).map(({ content }) => content.toString());
  /** The broker requeues unacknowledged messages when it has noticed the end of their channel. */
  const stored = (queue: string, count: number): Promise<void> =>
    expect.poll(() => raw().count(queue)).toBe(count);

  /** @returns the signal that `interrupt` aborts */
  function interruption() {
    const controller = new AbortController();
    return {
      signal: controller.signal,
      interrupt: () => controller.abort(new Interruption('SIGINT', 130)),
    };
  }

  async function proxied(): Promise<StallingProxy> {
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    return proxy;
  }

  it('list --json > backup and discard --all lose nothing', async () => {
    const { queue, dlq: store } = await fillDeadLetterQueue(raw(), 450);
    const backup = await dlq(queue, 'list --json');
    expect(backup).toMatchObject({ code: 0, stderr: '' });
    expect(bodiesIn(backup.stdout)).toEqual(upTo(450));
    const cut = await dlq(queue, 'list --json --max 449');
    expect(cut.code).toBe(3);
    expect(cut.stderr).toContain(`449 dead letters in ${store}, 450 in total`);
    expect(await dlq(queue, 'discard --yes --window 50')).toMatchObject({ code: 2 });
    await stored(store, 450);
    expect(await dlq(queue, 'discard --all --yes --window 50')).toMatchObject({ code: 0 });
    await stored(store, 0);
  });

  it('exits with 3 where the source queue is full', async () => {
    const { queue, dlq: store } = await fillDeadLetterQueue(raw(), 3);
    await raw().channel.deleteQueue(queue);
    const full = { 'x-max-length': 1, 'x-overflow': 'reject-publish' };
    await raw().channel.assertQueue(queue, { durable: true, arguments: full });
    const ran = await dlq(queue, 'replay --yes');
    expect(ran.code).toBe(3);
    expect(ran.stdout).toContain('1 dead letter replayed\n');
    expect(ran.stdout).toContain('2 dead letters skipped:\n');
    await stored(store, 2);
  });

  it.each([
    [200, 1_000],
    [400, 250],
  ])('replays %i dead letters with --window %i, none twice', async (count, window) => {
    const { queue, dlq: store } = await fillDeadLetterQueue(raw(), count);
    const ran = await dlq(queue, `replay --yes --json --window ${window}`);
    expect(ran.code, ran.stderr).toBe(0);
    expect(JSON.parse(ran.stdout)).toMatchObject({ done: count, skipped: 0 });
    await stored(store, 0);
    expect((await bodiesOf(queue)).toSorted((a, b) => Number(a) - Number(b))).toEqual(upTo(count));
  });

  it.each(['list --json', 'replay --yes --json', 'discard --all --yes --json'])(
    'interrupted during the scan of %s, it leaves the others in order',
    async (args) => {
      const { queue, dlq: store } = await fillDeadLetterQueue(raw(), 500);
      const { signal, interrupt } = interruption();
      // The 260th is in the second prefetch window.
      let seen = 0;
      const clock: StorkClock = {
        ...systemClock,
        now: () => {
          if (++seen === 260) interrupt();
          return systemClock.now();
        },
      };
      const ran = await dlq(queue, args, { signal, clock });
      expect(ran).toMatchObject({ code: 130 });
      expect(ran.stderr).toContain('interrupted by SIGINT\n');
      const gone = args.startsWith('list') ? 0 : (JSON.parse(ran.stdout) as { done: number }).done;
      await stored(store, 500 - gone);
      expect(await bodiesOf(store)).toEqual(upTo(500).slice(gone));
    },
  );

  it.each(Object.entries(methods))(
    'interrupted while the broker is silent from %s on, it ends and leaves all in order',
    async (_, method) => {
      const { queue, dlq: store } = await fillDeadLetterQueue(raw(), 300);
      const proxy = await proxied();
      const { signal, interrupt } = interruption();
      proxy.holdFrom(method);
      const running = dlq(queue, 'list --json', { at: proxy.url, signal, clock: fastClock });
      await expect.poll(() => proxy.held).toBeGreaterThan(0);
      interrupt();
      const ran = await running;
      expect(ran).toMatchObject({ code: 130, stderr: 'interrupted by SIGINT\n' });
      proxy.cut();
      await stored(store, 300);
      expect(await bodiesOf(store)).toEqual(upTo(300));
    },
  );

  it.each(['hunter2\n', 'hun ter2', 'hunter2\t', 'a@hunter2', 'hun%20ter2', '%68unter2'])(
    'shows nothing of the password %j that the broker refuses',
    async (password) => {
      const { host } = new URL(url!);
      const ran = await dlq(raw().queue(), 'list', { at: `amqp://app:${password}@${host}` });
      expect(ran).toMatchObject({ code: 1, stdout: '' });
      expect(ran.stderr).toContain(host);
      expect(ran.stderr).not.toMatch(/hun|ter2|%68/);
    },
  );
});
