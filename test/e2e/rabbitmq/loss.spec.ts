import { Controller } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { MessageOptions } from 'nestjs-stork';
import { systemClock } from '../../../lib/core/runtime/clock.js';
import { Counters } from '../../../lib/core/runtime/reporting.js';
import { RabbitMqDriver } from '../../../lib/rabbitmq/driver.js';
import { eventually, Gate, Seen } from '../../contract/app.js';
import { patientClock } from '../../support/patient-clock.js';
import { seeded } from '../../support/seeded.js';
import { startProxy } from '../../support/tcp-proxy.js';
import {
  buildApp,
  codeOf,
  crashesDuring,
  later,
  reconnect,
  startRabbitApp,
  url,
  useRaw,
  type RabbitApp,
} from './support.js';
import { startStallingProxy } from './stalling-proxy.js';

/** How often each number was handled, by queue. */
const handled = new Map<string, Map<number, number>>();
let gate = new Gate();
gate.open();
/** Attempts whose handler never returns. */
const kept = new Seen<number>();

function note({ queue, n }: Job): void {
  const counts = handled.get(queue) ?? new Map<number, number>();
  handled.set(queue, counts);
  counts.set(n, (counts.get(n) ?? 0) + 1);
}

interface Job {
  readonly queue: string;
  readonly n: number;
}

@Controller()
class Worker {
  @EventPattern<string>('job')
  async job(@Payload() job: Job): Promise<void> {
    await later(job.n % 3);
    note(job);
  }
  @EventPattern<string>('gated')
  async gated(@Payload() job: Job): Promise<void> {
    note(job);
    await gate.opened;
  }
  @MessagePattern('echo')
  async echo(@Payload() n: number): Promise<number> {
    await later(1);
    return n;
  }
  @MessagePattern('never')
  async never(@Payload() n: number): Promise<void> {
    kept.add(n);
    await gate.opened;
  }
}

const times = (queue: string): Map<number, number> => handled.get(queue) ?? new Map<number, number>();
const extra = (queue: string): number => [...times(queue).values()].reduce((sum, n) => sum + n - 1, 0);

/** Class and method of `basic.consume-ok`. */
const consumeOk = Buffer.from([0, 60, 0, 21]);

describe.skipIf(url === undefined)('RabbitMQ: loss', () => {
  const raw = useRaw();
  const ready = ({ service }: RabbitApp): Promise<true> =>
    eventually(
      async () => (service.state()['main']!.connection.value === 'ready' ? true : undefined),
      'the connection',
    );

  it.each([1, 2, 3])(
    'of the connection at random moments loses nothing that was confirmed, seed %i',
    async (seed) => {
      const random = seeded(seed);
      const proxy = await startProxy({ host: new URL(url!).hostname, port: Number(new URL(url!).port) });
      onTestFinished(() => proxy.close());
      const proxied = new URL(url!);
      proxied.port = String(proxy.port);
      const prefetch = 10;
      const app = await startRabbitApp({
        controllers: [Worker],
        options: { url: proxied.href, queue: raw().queue(), concurrency: 5, prefetch },
      });
      const { client, queue } = app;
      const confirmed = new Set<number>();
      let unconfirmed = 0;
      let cuts = 0;
      const over = new AbortController();
      const cutting = (async () => {
        // The cuts end, since a slow machine may make no progress between two of them.
        while (!over.signal.aborted && cuts < 100) {
          await later(20 + random() * 200);
          cuts++;
          proxy.cut();
        }
      })();
      const asked: string[] = [];
      for (let n = 0; n < 900; n += 30) {
        const batch = Array.from({ length: 30 }, (_, i) => n + i);
        const sent = batch.map((m) =>
          client.publish('job', { queue, n: m }).then(
            () => void confirmed.add(m),
            (error: unknown) => {
              unconfirmed++;
              expect(codeOf(error)).toBe('PUBLISH_UNCONFIRMED');
            },
          ),
        );
        const ask = client.request<number>('echo', n, { timeoutMs: 30_000 }).then(
          (answer) => expect(answer).toBe(n),
          (error: unknown) => void asked.push(String(codeOf(error))),
        );
        await Promise.all([...sent, ask]);
      }
      over.abort();
      await cutting;
      const missing = (): number[] => [...confirmed].filter((n) => !times(queue).has(n));
      await eventually(
        async () => (missing().length === 0 ? true : undefined),
        `seed ${seed}: every confirmed`,
      );
      expect(extra(queue), `seed ${seed}, ${cuts} cuts`).toBeLessThanOrEqual(cuts * prefetch);
      expect(times(queue).size).toBeLessThanOrEqual(confirmed.size + unconfirmed);
      for (const code of asked) expect(['CONNECTION_LOST', 'PUBLISH_UNCONFIRMED']).toContain(code);
      await ready(app);
      expect(await raw().count(`${queue}.dlq`)).toBe(0);
    },
  );

  it('rejects pending requests at once with CONNECTION_LOST', async () => {
    const mine = new Gate();
    gate = mine;
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    const { queue } = await startRabbitApp({ controllers: [Worker], options: { queue: raw().queue() } });
    const asker = await startRabbitApp({ options: { url: proxy.url, queue } });
    const asked = Array.from({ length: 5 }, (_, n) => asker.client.request('never', n));
    await kept.count(5);
    // Their publisher confirms have arrived: they wait only for their replies.
    expect(await asker.client.request('echo', 1)).toBe(1);
    const began = performance.now();
    proxy.cut();
    const outcomes = await Promise.allSettled(asked);
    const tookMs = performance.now() - began;
    mine.open();
    // Sooner than the timeout of a request.
    expect(tookMs).toBeLessThan(20_000);
    for (const one of outcomes) expect(one).toMatchObject({ reason: { code: 'CONNECTION_LOST' } });
  });

  it('of all traffic on a stalled connection does not delay a shutdown, and leaks nothing', async () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    const drainTimeoutMs = 2_000;
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    const app = await startRabbitApp({
      controllers: [Worker],
      options: { url: proxy.url, queue: raw().queue() },
      module: { drainTimeoutMs },
    });
    expect(await app.client.request('echo', 1)).toBe(1);
    proxy.stall();
    const publish = (n: number, options?: MessageOptions): Promise<unknown> =>
      app.client.publish('job', { queue: app.queue, n }, options).catch((error: unknown) => error);
    const published = publish(1);
    expect(await publish(2, { timeoutMs: 200 })).toMatchObject({ code: 'PUBLISH_UNCONFIRMED' });
    const began = performance.now();
    await app.close();
    expect(await published).toMatchObject({ code: 'PUBLISH_UNCONFIRMED' });
    // Without a limit a dead connection would last for minutes. Timers of a busy machine are late.
    expect(performance.now() - began).toBeLessThan(drainTimeoutMs + 3_000);
    await eventually(async () => (proxy.open <= 6 ? true : undefined), 'the sockets');
    await expect.poll(timers).toBeLessThanOrEqual(before);
  });

  it.each([0, 300])('of the broker, %i ms ago, does not delay a shutdown', async (ms) => {
    const target = new URL(url!);
    const proxy = await startProxy({ host: target.hostname, port: Number(target.port) });
    onTestFinished(() => proxy.close());
    target.port = String(proxy.port);
    const options = { queue: raw().queue(), url: target.href };
    const { close, service } = await startRabbitApp({ controllers: [Worker], options });
    proxy.breakOff();
    await eventually(
      async () => (service.state()['main']!.connection.value === 'backoff' ? true : undefined),
      'the loss',
    );
    await later(ms);
    const began = performance.now();
    await close();
    // Without the change it takes 5 s, the time limit of leaving a source.
    expect(performance.now() - began).toBeLessThan(2_500);
  });

  it('of the queue under a running consumer declares it again, whatever is being settled', async () => {
    const app = await startRabbitApp({
      controllers: [Worker],
      options: { queue: raw().queue(), concurrency: 20 },
    });
    const { client, queue, service } = app;
    for (let round = 0; round < 5; round++) {
      const sent = Array.from({ length: 60 }, (_, i) =>
        client.publish('job', { queue, n: round * 100 + i }).catch(() => {}),
      );
      await Promise.all(sent.slice(0, 20));
      await raw().channel.deleteQueue(queue);
      await Promise.all(sent);
      await eventually(
        async () =>
          client.publish('job', { queue, n: round * 100 + 99 }).then(
            () => true,
            () => undefined,
          ),
        'the queue',
      );
      await eventually(async () => times(queue).get(round * 100 + 99), `round ${round}`);
    }
    await eventually(async () => (service.state()['main']!.inFlight === 0 ? true : undefined), 'an end');
    const source = await raw().with((channel) => channel.checkQueue(queue));
    expect(source.consumerCount).toBe(1);
  });

  it('of a queue that was declared again with other arguments is reported by the state until it is deleted', async () => {
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    const options = { url: proxy.url, queue: raw().queue() };
    const { queue, service, client } = await startRabbitApp({ controllers: [Worker], options });
    // The consumer is cancelled when the new queue already exists.
    proxy.stall();
    await raw().channel.deleteQueue(queue);
    await raw().channel.assertQueue(queue, { durable: true });
    proxy.resume();
    await eventually(async () => {
      const { connection } = service.state()['main']!;
      return connection.value === 'backoff' && connection.error.message.includes('PRECONDITION')
        ? true
        : undefined;
    }, 'the refusal');
    await raw().channel.deleteQueue(queue);
    await eventually(
      async () =>
        client.publish('job', { queue, n: 1 }).then(
          () => true,
          () => undefined,
        ),
      'the queue',
    );
    await eventually(async () => times(queue).get(1), 'the message');
  });

  it('of the queue at the moment of basic.consume does not end the consumer', async () => {
    const queue = raw().queue();
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    proxy.holdFrom(consumeOk);
    const built = await buildApp({ controllers: [Worker], options: { url: proxy.url, queue } });
    onTestFinished(built.close);
    const listening = built.app.listen();
    await eventually(async () => (proxy.held === 1 ? true : undefined), 'the consumer');
    await raw().with((channel) => channel.deleteQueue(queue));
    await eventually(async () => (proxy.held === 2 ? true : undefined), "the broker's word of it");
    // Both frames arrive together.
    proxy.resume();
    await listening;
    await eventually(
      async () =>
        built.client
          .publish('job', { queue, n: 1 })
          .catch(() => undefined)
          .then(() => times(queue).get(1)),
      'the message',
    );
  });

  it('of the queue while paused does not end the process on resume', async () => {
    const queue = raw().queue();
    const quiet = (): void => {};
    const driver = new RabbitMqDriver(
      { url, queue, reconnect },
      {
        name: 'main',
        clock: systemClock,
        logger: { log: quiet, warn: quiet, error: quiet, debug: quiet },
        counters: new Counters(),
        shared: new Map(),
      },
    );
    onTestFinished(() => driver.close(1_000));
    await driver.connect(AbortSignal.timeout(30_000));
    const spec = {
      id: 'main',
      patterns: [{ text: 'job', kind: 'exact' } as never],
      concurrency: 1,
      redeliverDelaysMs: [],
      maxHoldTime: { handler: 'job', waitMs: 0, attempts: 1, timeoutMs: 0 },
      deadLetterTargets: [],
    };
    await driver.declare(spec);
    const seen = new Seen<number>();
    const subscription = await driver.subscribe(spec, {
      deliver: (delivery) => {
        seen.add(1);
        delivery.ack();
      },
      quiesce: async () => {},
      resume: () => {},
    });
    const crashes = await crashesDuring(async () => {
      subscription.pause();
      await eventually(
        async () =>
          (await raw().with((channel) => channel.checkQueue(queue))).consumerCount === 0 ? true : undefined,
        'the pause',
      );
      await raw().channel.deleteQueue(queue);
      subscription.resume();
      await eventually(
        async () =>
          raw()
            .with((channel) => channel.checkQueue(queue))
            .then(
              ({ consumerCount }) => (consumerCount === 1 ? true : undefined),
              () => undefined,
            ),
        'the consumer',
      );
    });
    raw().channel.publish('', queue, Buffer.from('1'), { type: 'job' });
    await seen.count(1);
    expect(crashes).toEqual([]);
  });

  it('of a process by a graceful shutdown: nothing is lost, nothing is handled twice', async () => {
    const first = await startRabbitApp({
      controllers: [Worker],
      options: { queue: raw().queue(), concurrency: 20, prefetch: 200 },
    });
    const { queue } = first;
    const sender = await startRabbitApp({ options: { queue } });
    const count = 3_000;
    const sent = Promise.all(
      Array.from({ length: count }, (_, n) => sender.client.publish('job', { queue, n })),
    );
    await eventually(async () => (times(queue).size > 300 ? true : undefined), 'the load');
    await first.close();
    const atStop = times(queue).size;
    expect(atStop).toBeLessThan(count);
    await startRabbitApp({ controllers: [Worker], options: { queue, concurrency: 50 } });
    await sent;
    await eventually(async () => (times(queue).size === count ? true : undefined), 'all of them');
    expect(extra(queue)).toBe(0);
    expect(await raw().count(`${queue}.dlq`)).toBe(0);
  });

  it('of the connection, however often, leaks no listeners', async () => {
    const proxy = await startProxy({ host: new URL(url!).hostname, port: Number(new URL(url!).port) });
    onTestFinished(() => proxy.close());
    const proxied = new URL(url!);
    proxied.port = String(proxy.port);
    const app = await startRabbitApp({
      controllers: [Worker],
      options: { url: proxied.href, queue: raw().queue() },
    });
    const { queue, client } = app;
    const warnings: string[] = [];
    const note = ({ name, message }: Error): void => void warnings.push(`${name}: ${message}`);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    for (let n = 0; n < 15; n++) {
      proxy.cut();
      // This requires each of its connections to be restored.
      await eventually(async () => {
        await client.publish('job', { queue, n }).catch(() => {});
        return times(queue).has(n) ? true : undefined;
      }, `message ${n}`);
      await client.request('echo', n);
    }
    await later(0);
    expect(warnings).toEqual([]);
  });

  it('of the process while it publishes: every publish before close() is confirmed or rejected', async () => {
    const options = { queue: raw().queue() };
    const app = await startRabbitApp({ controllers: [Worker], options, clock: patientClock });
    const target = raw().queue();
    await raw().channel.assertQueue(target);
    const sent = Array.from({ length: 1_000 }, (_, n) =>
      app.client.publish('p', n, { to: { queue: target } }),
    );
    await app.close();
    const outcomes = await Promise.allSettled(sent);
    const held = new Set(await raw().drain(target));
    outcomes.forEach((one, n) => {
      if (one.status === 'fulfilled') expect(held).toContain(String(n));
      else expect(['CLOSED', 'PUBLISH_UNCONFIRMED']).toContain(codeOf(one.reason));
    });
    expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBe(1_000);
  });
});
