import { Controller, UseInterceptors } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import { interval, of, take } from 'rxjs';
import { describe, expect, it } from 'vitest';
import {
  Consume,
  DeadLetter,
  Idempotent,
  IdempotencyInterceptor,
  memoryIdempotencyStore,
  Retry,
  type BeginOutcome,
  type IdempotencyOptions,
  type IdempotencyStore,
  type IdempotentOptions,
  type StorkContext,
  type StorkService,
} from 'nestjs-stork';
import { deathReason, eventually, Gate, headerText, Seen, startApp, type AppOptions } from '../app.js';
import { newMemoryStore } from '../../support/stores.js';
import type { DriverHarness } from '../harness.js';

/** Short, so that a duplicate that waits for the owner of its key is checked again after 100 ms. */
const leaseMs = 300;

/**
 * A store that fails on demand and records each `begin`. Its leases are 1 000 times as long as asked, so
 * that a stalled machine does not let the lease of a live owner expire.
 */
class BreakableStore implements IdempotencyStore {
  readonly started = new Seen<string>();
  readonly renewed = new Seen<string>();
  isDown = false;
  readonly #store = newMemoryStore();

  async begin(key: string, owner: string, lease: number): Promise<BeginOutcome> {
    this.started.add(key);
    this.#check();
    return this.#store.begin(key, owner, lease * 1_000);
  }
  async renew(key: string, owner: string, lease: number): Promise<boolean> {
    this.#check();
    this.renewed.add(key);
    return this.#store.renew(key, owner, lease * 1_000);
  }
  async complete(...args: Parameters<IdempotencyStore['complete']>): Promise<boolean> {
    this.#check();
    return this.#store.complete(...args);
  }
  async release(key: string, owner: string): Promise<boolean> {
    this.#check();
    return this.#store.release(key, owner);
  }
  #check(): void {
    if (this.isDown) throw new Error('the store is away');
  }
}

interface Work {
  readonly payload: unknown;
  readonly context: StorkContext;
}

/** An idempotent event handler that records each attempt and then calls `behave`. */
function newWorker(
  behave: (run: number, context: StorkContext) => unknown = () => {},
  options: IdempotentOptions<{ readonly id?: string }> = {},
) {
  const attempts = new Seen<Work>();
  @Controller()
  class Worker {
    @EventPattern<string>('work')
    @Idempotent(options)
    async work(@Payload() payload: unknown, @Ctx() context: StorkContext): Promise<void> {
      attempts.add({ payload, context });
      await behave(attempts.all.length, context);
    }
  }
  return { attempts, Worker };
}

/** A request handler that replies with the number of its attempt. */
function newAsked(behave: (run: number) => void = () => {}) {
  const attempts = new Seen<number>();
  @Controller()
  @Idempotent()
  class Asked {
    @MessagePattern('ask')
    ask(): { readonly run: number } {
      attempts.add(1);
      behave(attempts.all.length);
      return { run: attempts.all.length };
    }
  }
  return { attempts, Asked };
}

/**
 * Resolves at that many duplicates. A waiting duplicate may be in a retry queue or topic, so `settled()`
 * would miss it.
 */
async function duplicates(service: StorkService, count: number): Promise<void> {
  const isFound = async () => (service.state()['main']!.counts['duplicate'] === count ? true : undefined);
  await eventually(isFound, `${count} duplicates`);
}

/** an event or a request twice → handled once */
export function idempotencyContract(harness: DriverHarness): void {
  const start = (
    controller: AppOptions['controllers'][number],
    idempotency: IdempotencyOptions = {},
    more: Partial<AppOptions> = {},
  ) =>
    startApp(harness, {
      controllers: [controller],
      ...more,
      module: {
        retry: { maxRetries: 0 },
        idempotency: { store: memoryIdempotencyStore(), leaseMs, ...idempotency },
        ...more.module,
      },
    });

  describe('events', () => events(harness, start));
  describe('requests', () => requests(harness, start));
  describe('failed attempts', () => failedAttempts(harness, start));
  describe('an attempt in progress', () => inProgress(harness, start));
  describe('a store that fails', () => failingStore(harness, start));
  describe('with retry and dead letters', () => together(harness, start));
}

type Start = (
  controller: AppOptions['controllers'][number],
  idempotency?: IdempotencyOptions,
  more?: Partial<AppOptions>,
) => ReturnType<typeof startApp>;

function events(harness: DriverHarness, start: Start): void {
  it('handles a message that is delivered twice once, and settles the second', async () => {
    const { attempts, Worker } = newWorker();
    const { client, settled, service, source } = await start(Worker);
    await client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(1);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await client.publish('work', 2, { messageId: 'm-2' });
    await attempts.count(2);
    await settled();
    expect(attempts.all.map(({ payload }) => payload)).toEqual([1, 2]);
    expect(service.state()['main']!.counts).toMatchObject({ received: 3, handled: 2, duplicate: 1 });
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it("uses the key of the handler's options", async () => {
    const { attempts, Worker } = newWorker(undefined, {
      key: ({ id }, { pattern }) => (id === undefined ? undefined : `${pattern}/${id}`),
    });
    const { client, settled, service } = await start(Worker);
    for (const payload of [{ id: 'a' }, { id: 'b' }, { id: 'a' }, {}, {}]) {
      await client.publish('work', payload, { key: 'k' });
    }
    await attempts.count(4);
    await settled();
    expect(attempts.all.map(({ payload }) => payload)).toEqual([{ id: 'a' }, { id: 'b' }, {}, {}]);
    expect(service.state()['main']!.counts).toMatchObject({ duplicate: 1, 'no-idempotency-key': 2 });
  });

  it.each<[string, () => unknown, string]>([
    ['is no text', () => 7, 'returned 7 (number), expected a non-empty string or undefined'],
    ['is empty', () => '', 'returned "", expected a non-empty string or undefined'],
    ['is a promise', async () => 'k', 'returned an object, expected a non-empty string or undefined'],
    [
      'cannot be told',
      () => {
        throw new Error('no id');
      },
      'failed: no id',
    ],
  ])('fails the attempt whose key %s', async (_, key, why) => {
    const { attempts, Worker } = newWorker(undefined, { key: key as () => string });
    const { client, deadLetters, settled } = await start(
      Worker,
      {},
      { module: { retry: { maxRetries: 1, delayMs: 1 } } },
    );
    await client.publish('work', 1);
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect(headerText(deadLetter, 'stork-error-message')).toBe(`the key function of @Idempotent() ${why}`);
    expect([deathReason(deadLetter!), headerText(deadLetter, 'stork-attempt')]).toEqual([
      'retries-exhausted',
      '2',
    ]);
    expect(attempts.all).toEqual([]);
  });

  it('keeps several handlers of one event apart, each with its own key', async () => {
    const seen = new Seen<string>();
    @Controller()
    @Idempotent()
    class Both {
      @EventPattern<string>('work')
      byMessage(@Payload() { n }: { n: number }): void {
        seen.add(`message ${n}`);
      }
      @EventPattern<string>('work')
      @Idempotent({ key: (payload: { order: string }) => payload.order })
      byOrder(@Payload() { n }: { n: number }): void {
        seen.add(`order ${n}`);
      }
    }
    const { client, settled, service } = await start(Both);
    await client.publish('work', { n: 1, order: 'o' }, { messageId: 'm-1' });
    await seen.count(2);
    await settled();
    await client.publish('work', { n: 2, order: 'o' }, { messageId: 'm-2' });
    await seen.count(3);
    await settled();
    await client.publish('work', { n: 3, order: 'p' }, { messageId: 'm-2' });
    await seen.count(4);
    await settled();
    expect([...seen.all].toSorted()).toEqual(['message 1', 'message 2', 'order 1', 'order 3']);
    expect(service.state()['main']!.counts).toMatchObject({ handled: 4, duplicate: 2 });
  });

  it('is idempotent by an interceptor too, and not by the store of the module alone', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Bound {
      @EventPattern<string>('by-hand')
      @UseInterceptors(new IdempotencyInterceptor({ ttlMs: 60_000 }))
      withInterceptor(): void {
        seen.add('by hand');
      }
      @EventPattern<string>('plain')
      plain(): void {
        seen.add('plain');
      }
    }
    const { client, settled, service } = await start(Bound);
    for (const pattern of ['by-hand', 'plain']) {
      for (let time = 1; time <= 2; time++) {
        await client.publish(pattern, 1, { messageId: pattern });
        await settled();
      }
    }
    await seen.count(3);
    await settled();
    expect(seen.all).toEqual(['by hand', 'plain', 'plain']);
    expect(service.state()['main']!.counts).toMatchObject({ duplicate: 1 });
  });

  it('handles nothing twice after a restart if the store persists', async () => {
    const store = newMemoryStore();
    const { attempts, Worker } = newWorker();
    const first = await start(Worker, { store });
    await first.client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(1);
    await first.settled();
    await first.close();
    const second = await start(Worker, { store }, { source: first.source });
    await second.client.publish('work', 1, { messageId: 'm-1' });
    await second.client.publish('work', 2, { messageId: 'm-2' });
    await attempts.count(2);
    await second.settled();
    expect(attempts.all.map(({ payload }) => payload)).toEqual([1, 2]);
  });

  it('does not repeat a handler that continued after the connection was lost', async () => {
    const gate = new Gate();
    const { attempts, Worker } = newWorker(() => gate.opened);
    const { client, settled, service } = await start(Worker, {}, { transport: harness.impatient });
    await client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(1);
    await harness.dropConnections();
    gate.open();
    await duplicates(service, 1);
    await settled();
    expect(attempts.all.length).toBe(1);
  });
}

function requests(harness: DriverHarness, start: Start): void {
  it('answers a duplicate with the same reply without calling the handler', async () => {
    const { attempts, Asked } = newAsked();
    const { client, settled, service } = await start(Asked);
    const ask = (requestId: string) => client.request<unknown>('ask', 1, { requestId });
    expect([await ask('r-1'), await ask('r-1'), await ask('r-2')]).toEqual([
      { run: 1 },
      { run: 1 },
      { run: 2 },
    ]);
    await settled();
    expect(attempts.all.length).toBe(2);
    expect(service.state()['main']!.counts).toMatchObject({ handled: 2, duplicate: 1 });
  });

  it('repeats a reply unchanged: bytes, text, null, nothing', async () => {
    const replies: Record<string, unknown> = { bytes: Buffer.from([0, 255, 1]), null: null };
    let attempts = 0;
    @Controller()
    class Answers {
      @MessagePattern('ask')
      @Idempotent()
      ask(@Payload() name: string): unknown {
        attempts++;
        return replies[name];
      }
    }
    const { client } = await start(Answers);
    for (const name of ['bytes', 'null', 'nothing']) {
      const ask = () => client.request<unknown>('ask', name, { requestId: name });
      const [first, second] = [await ask(), await ask()];
      expect(first).toEqual(replies[name]);
      expect(second).toEqual(first);
    }
    expect(attempts).toBe(3);
  });

  it('stores no error: the next request is handled', async () => {
    const { attempts, Asked } = newAsked((run) => {
      if (run === 1) throw new RpcException('not yet');
    });
    const { client } = await start(Asked);
    const ask = () => client.request<unknown>('ask', 1, { requestId: 'r-1' });
    await expect(ask()).rejects.toMatchObject({ message: 'not yet' });
    expect(await ask()).toEqual({ run: 2 });
    expect(await ask()).toEqual({ run: 2 });
    expect(attempts.all.length).toBe(2);
  });

  it.each(['at-once', 'slowly'])(
    'refuses a handler that streams %s, and sends none of it',
    async (pattern) => {
      @Controller()
      class Streams {
        @MessagePattern('at-once')
        @Idempotent()
        atOnce() {
          return of(1, 2, 3);
        }
        @MessagePattern('slowly')
        @Idempotent()
        slowly() {
          return interval(10).pipe(take(3));
        }
        @MessagePattern('one')
        @Idempotent()
        one() {
          return of(1);
        }
      }
      const { client } = await start(Streams, {}, { module: { retry: { maxRetries: 3, delayMs: 1 } } });
      const items: unknown[] = [];
      const failure = await new Promise<unknown>((resolve) => {
        client.send(pattern, 1).subscribe({ next: (item) => items.push(item), error: resolve });
      });
      expect(failure).toMatchObject({
        remoteName: 'StreamNotIdempotentError',
        message: expect.stringContaining('@Idempotent() requires a single reply') as unknown,
      });
      expect(items).toEqual([]);
      expect(await client.request('one', 1)).toBe(1);
    },
  );

  it('makes a duplicate wait for the reply of the attempt in progress', async () => {
    const gate = new Gate();
    const started = new Seen<number>();
    @Controller()
    class Slow {
      @MessagePattern('ask')
      @Idempotent({ key: (order: string) => order })
      async ask(): Promise<number> {
        started.add(1);
        await gate.opened;
        return started.all.length;
      }
    }
    const store = new BreakableStore();
    const { client, settled } = await start(Slow, { store });
    const replies = [client.request('ask', 'o', { key: 'a' }), client.request('ask', 'o', { key: 'b' })];
    // One `begin` of the first message, and several of the duplicate.
    await store.started.count(4);
    gate.open();
    expect(await Promise.all(replies)).toEqual([1, 1]);
    await settled();
    expect(started.all.length).toBe(1);
  });
}

function failedAttempts(harness: DriverHarness, start: Start): void {
  it('handles a message again after a failure, by the retry policy and by a duplicate', async () => {
    const { attempts, Worker } = newWorker((run) => {
      if (run <= 3) throw new Error('no');
    });
    const { client, deadLetters, settled } = await start(
      Worker,
      {},
      { module: { retry: { maxRetries: 1, delayMs: 1 } } },
    );
    await client.publish('work', 1, { messageId: 'm-1' });
    await deadLetters(1);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(4);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await settled();
    expect(attempts.all.map(({ context }) => context.attempt)).toEqual([1, 2, 1, 2]);
    expect((await deadLetters(1)).length).toBe(1);
  });

  it.each<[string, (context: StorkContext) => unknown]>([
    ['nack', (context) => context.nack()],
    ['nack without requeue', (context) => context.nack({ requeue: false })],
    ['deadLetter', (context) => context.deadLetter('not now')],
    ['retry', (context) => context.retry()],
  ])('handles a message again after ctx.%s', async (_, verb) => {
    const { attempts, Worker } = newWorker((run, context) => {
      if (run === 1) verb(context);
    });
    const { client, settled, service } = await start(Worker);
    await client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(1);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(2);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await eventually(async () => service.state()['main']!.counts['duplicate'], 'a duplicate');
    await settled();
    expect(attempts.all.length).toBe(2);
  });

  it('handles a message again after a ctx.nack() that a lost connection made ineffective', async () => {
    const gate = new Gate();
    const accepted = new Seen<boolean>();
    const { attempts, Worker } = newWorker(async (run, context) => {
      if (run === 1) throw new Error('no');
      if (run > 2) return;
      await gate.opened;
      accepted.add(context.nack());
    });
    const { client, settled, service, source } = await start(
      Worker,
      {},
      { transport: harness.impatient, module: { retry: { maxRetries: 1, delayMs: 0 } } },
    );
    await client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(2);
    await harness.dropConnections();
    // The redelivery waits for the key or, on a log, behind the first delivery.
    await eventually(async () => {
      const { inFlight, counts } = service.state()['main']!;
      return inFlight > 1 || counts['duplicates-in-flight'] !== undefined ? true : undefined;
    }, 'the redelivery');
    gate.open();
    expect(await accepted.count(1)).toEqual([false]);
    await attempts.count(3);
    await settled();
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('is done by ctx.ack(), whatever happens after it', async () => {
    const { attempts, Worker } = newWorker((_, context) => {
      context.ack();
      throw new Error('too late');
    });
    const { client, settled, service } = await start(Worker);
    await client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(1);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await duplicates(service, 1);
    await settled();
    expect(attempts.all.length).toBe(1);
    expect(service.state()['main']!.counts).toMatchObject({ handled: 1, duplicate: 1 });
  });

  it('handles in another application what a shutdown has interrupted', async () => {
    const store = newMemoryStore();
    const { attempts, Worker } = newWorker((run, { signal }) =>
      run > 1 ? undefined : new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
    );
    const first = await start(Worker, { store }, { module: { drainTimeoutMs: 10 } });
    await first.client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(1);
    await first.close();
    const second = await start(Worker, { store }, { source: first.source });
    await attempts.count(2);
    await second.settled();
    expect(await harness.deadLetters(first.source)).toEqual([]);
  });
}

function inProgress(harness: DriverHarness, start: Start): void {
  it('keeps a duplicate waiting, uncounted, and never settles it before the first is done', async () => {
    const gate = new Gate();
    const store = new BreakableStore();
    const { attempts, Worker } = newWorker((run) => (run === 1 ? gate.opened : undefined), {
      key: () => 'one',
    });
    const { client, settled, service, source } = await start(Worker, { store });
    await client.publish('work', 1, { key: 'a' });
    await attempts.count(1);
    await client.publish('work', 2, { key: 'b' });
    await store.started.count(4);
    expect(service.state()['main']!.counts['duplicates-in-flight']).toBeGreaterThanOrEqual(1);
    expect(service.state()['main']!.counts['duplicate']).toBeUndefined();
    gate.open();
    await duplicates(service, 1);
    await client.publish('work', 3, { key: 'b' });
    await duplicates(service, 2);
    await settled();
    const { counts } = service.state()['main']!;
    expect(counts['handled']).toBe(1);
    expect([counts['redelivered'], counts['retried']]).toEqual([undefined, undefined]);
    expect(await harness.deadLetters(source)).toEqual([]);
    expect(attempts.all.length).toBe(1);
  });

  it('renews the lease while the handler runs, and not after it', async () => {
    const gate = new Gate();
    const store = new BreakableStore();
    const { attempts, Worker } = newWorker(() => gate.opened);
    const { client, settled } = await start(Worker, { store });
    await client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(1);
    // Two lease times at least.
    await store.renewed.count(4);
    gate.open();
    await settled();
    const renewed = store.renewed.all.length;
    await client.publish('work', 1, { messageId: 'm-2' });
    await attempts.count(2);
    await settled();
    expect(new Set(store.renewed.all.slice(renewed)).has(store.renewed.all[0]!)).toBe(false);
  });

  it('handles the duplicate after the first has failed, as a first attempt', async () => {
    const gate = new Gate();
    const store = new BreakableStore();
    const fail = async (run: number): Promise<void> => {
      if (run > 1) return;
      await gate.opened;
      throw new Error('no');
    };
    const { attempts, Worker } = newWorker(fail, { key: () => 'one' });
    const { client, settled, deadLetters } = await start(Worker, { store });
    await client.publish('work', 1, { key: 'a' });
    await attempts.count(1);
    await client.publish('work', 2, { key: 'b' });
    await store.started.count(4);
    gate.open();
    const [, second] = await attempts.count(2);
    await settled();
    const { attempt, firstFailedAt } = second!.context;
    expect([second!.payload, attempt, firstFailedAt]).toEqual([2, 1, undefined]);
    expect((await deadLetters(1)).length).toBe(1);
  });

  it('waits in process if the message cannot be requeued', async () => {
    const gate = new Gate();
    const store = new BreakableStore();
    const attempts = new Seen<number>();
    @Controller()
    class Once {
      @EventPattern<string>('work')
      @Consume({ delivery: 'at-most-once' })
      @Idempotent({ key: () => 'one' })
      async work(): Promise<void> {
        attempts.add(1);
        await gate.opened;
      }
    }
    const { client, settled, service } = await start(Once, { store });
    await client.publish('work', 1, { key: 'a' });
    await attempts.count(1);
    await client.publish('work', 2, { key: 'b' });
    await store.started.count(4);
    gate.open();
    await settled();
    expect(attempts.all.length).toBe(1);
    expect(service.state()['main']!.counts).toMatchObject({ received: 2, handled: 1, duplicate: 1 });
  });
}

function failingStore(harness: DriverHarness, start: Start): void {
  it('keeps messages waiting until the store has recovered', async () => {
    const store = new BreakableStore();
    store.isDown = true;
    const { attempts, Worker } = newWorker();
    const { client, settled, source } = await start(Worker, { store });
    await client.publish('work', 1, { messageId: 'm-1' });
    await store.started.count(2);
    expect(attempts.all).toEqual([]);
    store.isDown = false;
    await attempts.count(1);
    await settled();
    expect(attempts.all[0]!.context.attempt).toBe(1);
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('gives the slot of a message that waits for the store to other keys, and counts no requeue', async () => {
    const store = new BreakableStore();
    store.isDown = true;
    const seen = new Seen<string>();
    @Controller()
    class Mixed {
      @EventPattern<string>('work')
      @Idempotent()
      work(): void {
        seen.add('work');
      }
      @EventPattern<string>('plain')
      plain(): void {
        seen.add('plain');
      }
    }
    const transport = { concurrency: 1, ...harness.withDeliveryLimit(1) };
    const { client, settled, source } = await start(Mixed, { store }, { transport });
    await client.publish('work', 1, { messageId: 'm-1', key: 'a' });
    await store.started.count(1);
    await client.publish('plain', 2, { key: 'b' });
    expect(await seen.count(1)).toEqual(['plain']);
    await store.started.count(3);
    store.isDown = false;
    expect(await seen.count(2)).toEqual(['plain', 'work']);
    await settled();
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('does not delay a shutdown: the message stays in its source', async () => {
    const store = new BreakableStore();
    store.isDown = true;
    const { attempts, Worker } = newWorker();
    const first = await start(Worker, { store });
    await first.client.publish('work', 1, { messageId: 'm-1' });
    // The next `begin` follows a second later.
    await store.started.count(2);
    await first.close();
    const second = await start(Worker, {}, { source: first.source });
    await attempts.count(1);
    await second.settled();
  });

  it('handles messages without the store if the handler allows it', async () => {
    const store = new BreakableStore();
    store.isDown = true;
    const { attempts, Worker } = newWorker(undefined, { onStoreError: 'process' });
    const { client, settled, service } = await start(Worker, { store });
    await client.publish('work', 1, { messageId: 'm-1' });
    await client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(2);
    await settled();
    expect(service.state()['main']!.counts).toMatchObject({ handled: 2 });
  });
}

function together(harness: DriverHarness, start: Start): void {
  const newShop = (failures: number) => {
    const attempts = new Seen<string>();
    const answer = (pattern: string): string => {
      attempts.add(pattern);
      if (attempts.all.length <= failures) throw new Error('no');
      return `after ${attempts.all.length}`;
    };
    @Controller()
    @Retry({ maxRetries: 3, delayMs: 1 })
    class Shop {
      @MessagePattern('plain')
      plain(): string {
        return answer('plain');
      }
      @MessagePattern('plain.kept')
      @DeadLetter()
      plainKept(): string {
        return answer('plain.kept');
      }
      @MessagePattern('once')
      @Idempotent()
      once(): string {
        return answer('once');
      }
      @MessagePattern('once.kept')
      @Idempotent()
      @DeadLetter()
      onceKept(): string {
        return answer('once.kept');
      }
    }
    return { attempts, Shop };
  };

  it.each(['plain', 'plain.kept', 'once', 'once.kept'])(
    '%s: a request whose handler fails twice gets three attempts and a reply, and leaves no dead letter',
    async (pattern) => {
      const { attempts, Shop } = newShop(2);
      const { client, settled, source } = await start(Shop);
      expect(await client.request(pattern, 1)).toBe('after 3');
      await settled();
      expect(attempts.all.length).toBe(3);
      expect(await harness.deadLetters(source)).toEqual([]);
    },
  );

  it.each([
    ['plain', 0],
    ['plain.kept', 1],
    ['once', 0],
    ['once.kept', 1],
  ])(
    '%s: a request that always fails gets four attempts and an error, and leaves %i dead letters',
    async (pattern, kept) => {
      const { attempts, Shop } = newShop(Infinity);
      const { client, settled, source, deadLetters } = await start(Shop);
      await expect(client.request(pattern, 1)).rejects.toMatchObject({
        message: 'no',
        code: 'HANDLER_FAILED',
      });
      await deadLetters(kept);
      await settled();
      expect(attempts.all.length).toBe(4);
      expect((await harness.deadLetters(source)).map(deathReason)).toEqual(
        Array(kept).fill('retries-exhausted'),
      );
    },
  );
}
