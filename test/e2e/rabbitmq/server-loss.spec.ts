import { Controller } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { ChannelModel } from 'amqplib';
import { Consume, type StorkEvents } from 'nestjs-stork';
import { eventually, Gate, Seen } from '../../contract/app.js';
import { throwAway, type ThrowAway } from '../../support/brokers/index.mjs';
import { patientClock } from '../../support/patient-clock.js';
import { startProxy } from '../../support/tcp-proxy.js';
import { codeOf, later, Raw, startRabbitApp, uniqueQueue, url } from './support.js';

interface Job {
  readonly queue: string;
  readonly n: number;
}

const attempts = new Map<string, Map<number, number>>();
/** Each call of rabbitmqctl starts an Erlang VM, which takes many seconds on a busy machine. */
const timeout = 480_000;
const gate = new Gate();
const begun = new Seen<number>();

@Controller()
class Worker {
  @EventPattern<string>('job')
  async job(@Payload() { queue, n }: Job): Promise<void> {
    await later(1);
    const counts = attempts.get(queue) ?? new Map<number, number>();
    attempts.set(queue, counts);
    counts.set(n, (counts.get(n) ?? 0) + 1);
  }
  @EventPattern<string>('hang')
  async hang(@Payload() n: number): Promise<void> {
    begun.add(n);
    await gate.opened;
  }
  @MessagePattern('echo')
  echo(@Payload() n: number): number {
    return n;
  }
}

const times = (queue: string): Map<number, number> => attempts.get(queue) ?? new Map<number, number>();

/** A server of its own: these tests would break others. */
describe.skipIf(url === undefined)('RabbitMQ: loss of the server', { timeout }, () => {
  let server: ThrowAway<'rabbitmq'>;

  beforeAll(async () => {
    server = await throwAway('rabbitmq');
  }, 180_000);
  afterAll(async () => {
    gate.open();
    await server.remove();
  });

  const at = (change: (address: URL) => void): string => {
    const address = new URL(server.url);
    change(address);
    return address.href;
  };

  /** A suspended queue process accepts messages, and neither stores nor confirms anything. */
  const control = (what: 'suspend' | 'resume', queue: string): Promise<string> =>
    server.ctl(
      'eval',
      `{ok, Queue} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"${queue}">>)), sys:${what}(amqqueue:get_pid(Queue)).`,
    );

  it('shows three connections by name, one for each purpose', async () => {
    const { client } = await startRabbitApp({
      controllers: [Worker],
      options: { url: server.url, queue: uniqueQueue() },
    });
    expect(await client.request('echo', 1)).toBe(1);
    const listed = await server.ctl('list_connections', 'client_properties');
    const names = [...listed.matchAll(/"connection_name","([^"]*)"/g)].map(([, name]) => name!);
    expect(names.map((name) => name.replace(/\/[0-9a-f]{8}$/, '')).toSorted()).toEqual([
      'main/consume',
      'main/publish',
      'main/reply',
    ]);
  });

  it("reports a memory alarm by status and events, and gives amqplib's connection by unwrap()", async () => {
    const { app, client, queue } = await startRabbitApp({
      controllers: [Worker],
      options: { url: server.url, queue: uniqueQueue() },
    });
    const channel = await app.unwrap<ChannelModel>().createChannel();
    expect(await channel.checkQueue(queue)).toMatchObject({ queue, consumerCount: 1 });
    await channel.close();
    const blocked = new Seen<readonly unknown[]>();
    const unblocked = new Seen<string>();
    client.on('blocked', (...args) => blocked.add(args));
    app.on<StorkEvents, 'unblocked'>('unblocked', (transport) => unblocked.add(transport));
    const states: string[] = [];
    app.status.subscribe((state) => states.push(state));
    await server.ctl('set_vm_memory_high_watermark', '0.0000001');
    // RabbitMQ blocks a connection when it publishes.
    const published = client.publish('job', { queue, n: 1 });
    expect(await blocked.count(1)).toEqual([
      [{ reason: expect.stringContaining('memory') as string }, 'main'],
    ]);
    await server.ctl('set_vm_memory_high_watermark', '0.4');
    expect(await unblocked.count(1)).toEqual(['main']);
    await published;
    expect(states).toEqual(['ready', 'blocked', 'ready']);
  });

  it('recovers when the broker closes the channel because of consumer_timeout', async () => {
    const tuned = (ms: string, tick: string): Promise<string> =>
      server.ctl(
        'eval',
        `application:set_env(rabbit, consumer_timeout, ${ms}), application:set_env(rabbit, channel_tick_interval, ${tick}).`,
      );
    await tuned('1000', '300');
    const { client, queue, service } = await startRabbitApp({
      controllers: [Worker],
      options: { url: server.url, queue: uniqueQueue(), concurrency: 2, prefetch: 2 },
    });
    await client.publish('hang', 7);
    await begun.count(1);
    // Delivered again on a new channel: the broker has closed the first.
    await eventually(async () => (begun.all.length >= 2 ? true : undefined), 'the second attempt', 120_000);
    await tuned('1800000', '60000');
    gate.open();
    for (let n = 0; n < 5; n++) await client.publish('job', { queue, n });
    await eventually(async () => (times(queue).size === 5 ? true : undefined), 'the messages');
    expect(service.state()['main']!.counts['stale-settlements']).toBeGreaterThan(0);
    await eventually(async () => (service.state()['main']!.inFlight === 0 ? true : undefined), 'an end');
  });

  it('shuts down gracefully and nothing is redelivered, however late the queue stores acknowledgements', async () => {
    const queue = uniqueQueue();
    const count = 100;
    const door = new Gate();
    const attempts = new Seen<number>();
    @Controller()
    class Slow {
      @EventPattern<string>('slow')
      async slow(@Payload() n: number): Promise<void> {
        attempts.add(n);
        await door.opened;
        // Until the first is settled each of the others is acknowledged individually.
        if (n === 0) await later(50);
      }
    }
    const options = { url: server.url, queue, concurrency: count, prefetch: count };
    const module = { drainTimeoutMs: 30_000 };
    const first = await startRabbitApp({ controllers: [Slow], options, module, clock: patientClock });
    for (let n = 0; n < count; n++) await first.client.publish('slow', n);
    await attempts.count(count);
    const closed = first.close();
    await expect.poll(() => server.ctl('list_consumers')).not.toContain(queue);
    await control('suspend', queue);
    door.open();
    await expect.poll(() => first.service.state()['main']!.inFlight).toBe(0);
    await control('resume', queue);
    await closed;
    const second = await startRabbitApp({ controllers: [Slow], options });
    await second.client.publish('slow', count);
    await eventually(async () => (attempts.all.includes(count) ? true : undefined), 'the next message');
    expect(attempts.all.length).toBe(count + 1);
  });

  it('handles nothing twice under at-most-once, however late the queue stores acknowledgements', async () => {
    const queue = uniqueQueue();
    const count = 100;
    const doors = [new Gate(), new Gate()];
    const attempts = new Seen<number>();
    const proxy = await startProxy({ host: '127.0.0.1', port: Number(new URL(server.url).port) });
    onTestFinished(() => proxy.close());
    @Controller()
    class Once {
      @EventPattern<string>('once')
      @Consume({ delivery: 'at-most-once' })
      async once(@Payload() n: number): Promise<void> {
        attempts.add(n);
        if (n < count) await doors[n === 0 ? 1 : 0]!.opened;
        else if (n === count + 1) proxy.cut();
      }
    }
    const url = at((it) => (it.port = String(proxy.port)));
    const options = { url, queue, concurrency: count, prefetch: count };
    const { client } = await startRabbitApp({ controllers: [Once], options });
    // The first of the second hundred waits for the first of all: later ones are acknowledged individually.
    for (let n = 0; n < 2 * count; n++) await client.publish('once', n, { key: `k${n % count}` });
    await attempts.count(count);
    await control('suspend', queue);
    doors[0]!.open();
    await later(500);
    await control('resume', queue);
    await eventually(async () => (attempts.all.includes(2 * count - 1) ? true : undefined), 'the last');
    doors[1]!.open();
    await eventually(async () => (attempts.all.includes(count) ? true : undefined), 'the one that waited');
    expect(attempts.all.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 2 * count }, (_, n) => n));
  });

  it('recovers after a period in which the broker refused its password', async () => {
    await server.ctl('add_user', 'shop', 'first');
    await server.ctl('set_permissions', 'shop', '.*', '.*', '.*');
    const queue = uniqueQueue();
    const app = await startRabbitApp({
      controllers: [Worker],
      options: { url: at((it) => Object.assign(it, { username: 'shop', password: 'first' })), queue },
    });
    await app.client.publish('job', { queue, n: 1 });
    await eventually(async () => times(queue).get(1), 'the first message');
    await server.ctl('change_password', 'shop', 'second');
    await server
      .ctl('close_all_user_connections', 'shop', 'rotated')
      .catch(() => server.ctl('close_all_connections', 'rotated'));
    await eventually(async () => {
      const { connection } = app.service.state()['main']!;
      return connection.value === 'backoff' && /ACCESS.REFUSED/.test(connection.error.message)
        ? true
        : undefined;
    }, 'the refusal');
    await server.ctl('change_password', 'shop', 'first');
    await eventually(
      async () => (app.service.state()['main']!.connection.value === 'ready' ? true : undefined),
      'the connection',
    );
    const again = await Promise.race([
      app.client.publish('job', { queue, n: 2 }).then(() => 'published'),
      later(15_000).then(() => 'still waits'),
    ]);
    expect(again).toBe('published');
    await eventually(async () => times(queue).get(2), 'the second message');
  });

  it('loses nothing that was confirmed when it is SIGKILLed and started again under load', async () => {
    const queue = uniqueQueue();
    const prefetch = 20;
    const consumer = await startRabbitApp({
      controllers: [Worker],
      options: { url: server.url, queue, concurrency: 10, prefetch },
    });
    const publisher = await startRabbitApp({ options: { url: server.url, queue } });
    const confirmed = new Set<number>();
    let unconfirmed = 0;
    let next = 0;
    const over = new AbortController();
    const load = (async () => {
      while (!over.signal.aborted) {
        const batch = Array.from({ length: 20 }, () => next++);
        const sent = batch.map((n) =>
          publisher.client.publish('job', { queue, n }).then(
            () => void confirmed.add(n),
            (error: unknown) => {
              unconfirmed++;
              expect(codeOf(error)).toBe('PUBLISH_UNCONFIRMED');
            },
          ),
        );
        await Promise.all(sent);
      }
    })();
    // A newly declared quorum queue of RabbitMQ 3.10 does not survive a SIGKILL.
    await later(5_000);
    const before = confirmed.size;
    await server.kill();
    await later(300);
    await server.start();
    await eventually(
      async () => (confirmed.size > before + 200 ? true : undefined),
      'publishing to continue',
    ).catch(() => {});
    over.abort();
    await load;
    expect(confirmed.size).toBeGreaterThan(before + 200);
    const missing = (): number[] => [...confirmed].filter((n) => !times(queue).has(n));
    await eventually(async () => (missing().length === 0 ? true : undefined), 'every confirmed').catch(
      () => {},
    );
    expect(missing()).toEqual([]);
    const doubles = [...times(queue).values()].reduce((sum, n) => sum + n - 1, 0);
    // Unacknowledged deliveries, and acknowledgements that were lost in the crash.
    expect(doubles).toBeLessThanOrEqual(prefetch * 2 + unconfirmed);
    await expect.poll(() => consumer.service.state()['main']!.connection.value).toBe('ready');
    const raw = new Raw(server.url);
    await raw.open();
    expect(await raw.count(`${queue}.dlq`)).toBe(0);
    await raw.close();
  });
});
