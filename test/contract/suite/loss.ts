import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { interval, of } from 'rxjs';
import { expect, it } from 'vitest';
import { StorkContext, type StorkError } from 'nestjs-stork';
import { eventually, Gate, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** connection lost, consumer gone, shutdown */
export function lossContract(harness: DriverHarness): void {
  it('redelivers what was unsettled when the connection was lost, and drops the late settlement', async () => {
    const attempts = new Seen<StorkContext>();
    @Controller()
    class Slow {
      @EventPattern<string>('slow')
      async slow(@Ctx() context: StorkContext): Promise<void> {
        const isFirst = attempts.all.length === 0;
        attempts.add(context);
        if (isFirst)
          await new Promise((resolve) => context.signal.addEventListener('abort', resolve, { once: true }));
      }
    }
    const { client, settled, service, source } = await startApp(harness, {
      controllers: [Slow],
      transport: harness.impatient,
    });
    await client.publish('slow', 1, { messageId: 'm-1' });
    await attempts.count(1);
    await harness.dropConnections();
    const [first, second] = await attempts.count(2);
    expect(first!.signal.aborted).toBe(true);
    expect(second!.messageId).toBe('m-1');
    expect(second!.signal.aborted).toBe(false);
    await eventually(
      async () => service.state()['main']!.counts['stale-settlements'],
      'the stale settlement',
    );
    await settled();
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('reconnects after a lost connection: consuming, publishing, requests', async () => {
    const seen = new Seen<number>();
    @Controller()
    class Echo {
      @EventPattern<string>('event')
      event(@Payload() n: number): void {
        seen.add(n);
      }
      @MessagePattern('echo')
      echo(@Payload() n: number): number {
        return n;
      }
    }
    const { client, service } = await startApp(harness, {
      controllers: [Echo],
      transport: harness.impatient,
    });
    expect(await client.request('echo', 1)).toBe(1);
    await harness.dropConnections();
    // A publish during the connection loss rejects with a named error; a repeated one succeeds.
    const repeat = (send: () => Promise<unknown>, what: string): Promise<unknown> =>
      eventually(async () => {
        try {
          await send();
          return true;
        } catch (error) {
          expect(['PUBLISH_UNCONFIRMED', 'CONNECTION_LOST']).toContain((error as StorkError).code);
          return undefined;
        }
      }, what);
    await repeat(() => client.publish('event', 2), 'a publish');
    expect((await seen.count(1))[0]).toBe(2);
    await repeat(async () => expect(await client.request('echo', 3)).toBe(3), 'a request');
    await eventually(
      async () => (service.state()['main']!.connection.value === 'ready' ? true : undefined),
      'the connection',
    );
  });

  it('ends a streamed reply whose request was lost, and frees its concurrency slot', async () => {
    let attempts = 0;
    const seen = new Seen<number>();
    @Controller()
    class Streams {
      @MessagePattern('stream')
      stream() {
        return ++attempts === 1 ? interval(5) : of(-1);
      }
      @EventPattern<string>('event')
      event(@Payload() n: number): void {
        seen.add(n);
      }
    }
    const { client, source, settled } = await startApp(harness, {
      controllers: [Streams],
      transport: { ...harness.impatient, concurrency: 1 },
    });
    const asker = await startApp(harness, { controllers: [], source });
    const items = new Seen<number>();
    asker.client.send<number>('stream', 1).subscribe({ next: (item) => items.add(item), error: () => {} });
    await items.count(2);
    await harness.dropConnections();
    await eventually(
      async () =>
        client.publish('event', 7).then(
          () => true,
          () => undefined,
        ),
      'a publish',
    );
    expect((await seen.count(1))[0]).toBe(7);
    await eventually(async () => (attempts >= 2 ? true : undefined), 'the second run');
    await settled();
  });

  it('redelivers what a consumer left unsettled to another consumer', async () => {
    const gate = new Gate();
    const atFirst = new Seen<unknown>();
    const atSecond = new Seen<unknown>();
    @Controller()
    class Hangs {
      @EventPattern<string>('work')
      async work(@Payload() data: unknown): Promise<void> {
        atFirst.add(data);
        await gate.opened;
      }
    }
    @Controller()
    class Works {
      @EventPattern<string>('work')
      work(@Payload() data: unknown): void {
        atSecond.add(data);
      }
    }
    const first = await startApp(harness, { controllers: [Hangs], module: { drainTimeoutMs: 50 } });
    for (let i = 0; i < 5; i++) await first.client.publish('work', i, { key: `k${i}` });
    await atFirst.count(5);
    await first.close();
    const second = await startApp(harness, { controllers: [Works], source: first.source });
    expect([...(await atSecond.count(5))].toSorted()).toEqual([0, 1, 2, 3, 4]);
    await second.settled();
    gate.open();
  });

  it('waits at shutdown for running handlers and settles their messages', async () => {
    const gate = new Gate();
    const started = new Seen<number>();
    let finished = 0;
    @Controller()
    class Slow {
      @EventPattern<string>('slow')
      async slow(@Payload() n: number): Promise<void> {
        started.add(n);
        await gate.opened;
        finished++;
      }
      @MessagePattern('ask')
      async ask(@Payload() n: number): Promise<number> {
        started.add(n);
        await gate.opened;
        return n;
      }
    }
    const { client, close, left, source } = await startApp(harness, { controllers: [Slow] });
    const asker = await startApp(harness, { controllers: [], source });
    // Two keys, because on a log messages without a key keep the order of their partition.
    await client.publish('slow', 1, { key: 'a' });
    const asked = asker.client.request('ask', 2, { key: 'b' });
    await started.count(2);
    const closed = close();
    await expect(
      Promise.race([closed.then(() => 'closed'), new Promise((resolve) => setImmediate(resolve))]),
    ).resolves.toBe(undefined);
    gate.open();
    expect(await asked).toBe(2);
    await closed;
    expect(finished).toBe(1);
    await left(0);
  });

  it('aborts handlers that exceed the drain timeout and loses nothing', async () => {
    const aborted = new Seen<string>();
    const started = new Seen<string>();
    @Controller()
    class Stubborn {
      @EventPattern<string>('work')
      async work(@Ctx() context: StorkContext): Promise<void> {
        started.add('begun');
        await new Promise<void>((resolve) =>
          context.signal.addEventListener('abort', () => resolve(), { once: true }),
        );
        aborted.add('aborted');
      }
    }
    const { client, close, left } = await startApp(harness, {
      controllers: [Stubborn],
      module: { drainTimeoutMs: 20 },
    });
    await client.publish('work', 1);
    await started.count(1);
    await close();
    await aborted.count(1);
    await left(1);
  });

  it('ends a shutdown within drainTimeoutMs although a handler never ends; its message comes again', async () => {
    const drainTimeoutMs = 1_000;
    const attempts = new Seen<StorkContext>();
    const newWorker = (work: () => Promise<void>) => {
      @Controller()
      class Worker {
        @EventPattern<string>('work')
        async work(@Ctx() context: StorkContext): Promise<void> {
          attempts.add(context);
          await work();
        }
      }
      return Worker;
    };
    const hangs = newWorker(() => new Promise(() => {}));
    const first = await startApp(harness, { controllers: [hangs], module: { drainTimeoutMs } });
    await first.client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(1);
    const beganAt = performance.now();
    await first.close();
    // Timers of a busy machine are late.
    expect(performance.now() - beganAt).toBeLessThan(drainTimeoutMs + 3_000);
    const works = newWorker(async () => {});
    const second = await startApp(harness, { controllers: [works], source: first.source });
    const contexts = await attempts.count(2);
    await second.settled();
    expect(contexts.map(({ messageId, signal }) => [messageId, signal.aborted])).toEqual([
      ['m-1', true],
      ['m-1', false],
    ]);
  });

  it('neither hangs nor times out a request that was pending when the connection was lost', async () => {
    const gate = new Gate();
    const started = new Seen<number>();
    @Controller()
    class Slow {
      @MessagePattern('ask')
      async ask(@Payload() n: number): Promise<number> {
        started.add(n);
        await gate.opened;
        return n;
      }
    }
    const { client } = await startApp(harness, { controllers: [Slow], transport: harness.impatient });
    // Rejected where the reply address is lost with the connection, else answered by the redelivery.
    const asked = client.request('ask', 1, { timeoutMs: 600_000 }).catch((error: unknown) => error);
    await started.count(1);
    await harness.dropConnections();
    gate.open();
    const outcome = await asked;
    if (outcome !== 1) expect(outcome).toMatchObject({ code: 'CONNECTION_LOST' });
  });

  it('drains on demand, once: takes no further message, settles what is running, and keeps publishing', async () => {
    const gate = new Gate();
    const started = new Seen<number>();
    @Controller()
    class Slow {
      @EventPattern<string>('work')
      async work(@Payload() n: number): Promise<void> {
        started.add(n);
        await gate.opened;
      }
    }
    const { client, close, left, service } = await startApp(harness, { controllers: [Slow] });
    await client.publish('work', 1);
    await started.count(1);
    const drained = Promise.all([service.drain(), service.drain()]);
    await client.publish('work', 2);
    gate.open();
    await drained;
    await service.drain();
    expect(service.state()['main']!.inFlight).toBe(0);
    await client.publish('work', 3);
    await close();
    await left(2);
    expect(started.all).toEqual([1]);
  });

  it('refuses to send once closed, and rejects pending requests', async () => {
    @Controller()
    class Deaf {
      @MessagePattern('ask')
      async ask(): Promise<void> {
        await new Promise(() => {});
      }
    }
    const { client, close, service } = await startApp(harness, {
      controllers: [Deaf],
      module: { drainTimeoutMs: 20 },
    });
    const asked = client.request('ask', 1).catch((error: unknown) => error);
    await eventually(async () => (service.state()['main']!.inFlight === 1 ? true : undefined), 'the request');
    await close();
    expect(await asked).toMatchObject({ code: 'CLOSED' });
    await expect(client.publish('ask', 1)).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(client.request('ask', 1)).rejects.toMatchObject({ code: 'CLOSED' });
  });
}
