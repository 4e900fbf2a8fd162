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
import type { DriverHarness } from '../harness.js';

/** So that what waits for another run is back soon: 100 ms. */
const leaseMs = 300;

/** A store that can be told to fail, and tells of each begin. Its leases outlast a machine that stands still: those who hold them are alive. */
class BreakableStore implements IdempotencyStore {
  readonly begun = new Seen<string>();
  isDown = false;
  readonly #store = memoryIdempotencyStore();

  async begin(key: string, owner: string, lease: number): Promise<BeginOutcome> {
    this.begun.add(key);
    this.#check();
    return this.#store.begin(key, owner, lease * 1_000);
  }
  async renew(key: string, owner: string, lease: number): Promise<boolean> {
    this.#check();
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

/** An idempotent event handler that tells of each run, and what it then does. */
function newWorker(
  behave: (run: number, context: StorkContext) => unknown = () => {},
  options: IdempotentOptions<{ readonly id?: string }> = {},
) {
  const runs = new Seen<Work>();
  @Controller()
  class Worker {
    @EventPattern<string>('work')
    @Idempotent(options)
    async work(@Payload() payload: unknown, @Ctx() context: StorkContext): Promise<void> {
      runs.add({ payload, context });
      await behave(runs.all.length, context);
    }
  }
  return { runs, Worker };
}

/** A handler of requests that answers with the number of its run. */
function newAsked(behave: (run: number) => void = () => {}) {
  const runs = new Seen<number>();
  @Controller()
  @Idempotent()
  class Asked {
    @MessagePattern('ask')
    ask(): { readonly run: number } {
      runs.add(1);
      behave(runs.all.length);
      return { run: runs.all.length };
    }
  }
  return { runs, Asked };
}

/** Resolves when so many were found: one that waits for another run may be in a companion of the source. */
async function duplicates(service: StorkService, count: number): Promise<void> {
  const isFound = async () => (service.state()['main']!.counts['duplicate'] === count ? true : undefined);
  await eventually(isFound, `${count} duplicates`);
}

/** event or request twice → one run */
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
  describe('what is not done', () => undone(harness, start));
  describe('a run that is under way', () => inProgress(harness, start));
  describe('a store that fails', () => failingStore(harness, start));
  describe('with retry and dead letters', () => together(harness, start));
}

type Start = (
  controller: AppOptions['controllers'][number],
  idempotency?: IdempotencyOptions,
  more?: Partial<AppOptions>,
) => ReturnType<typeof startApp>;

function events(harness: DriverHarness, start: Start): void {
  it('handles a message that comes twice once, and settles the second', async () => {
    const { runs, Worker } = newWorker();
    const { client, settled, service, source } = await start(Worker);
    await client.publish('work', 1, { messageId: 'm-1' });
    await runs.count(1);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await client.publish('work', 2, { messageId: 'm-2' });
    await runs.count(2);
    await settled();
    expect(runs.all.map(({ payload }) => payload)).toEqual([1, 2]);
    expect(service.state()['main']!.counts).toMatchObject({ received: 3, handled: 2, duplicate: 1 });
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('takes the key that the user names', async () => {
    const { runs, Worker } = newWorker(undefined, {
      key: ({ id }, { pattern }) => (id === undefined ? undefined : `${pattern}/${id}`),
    });
    const { client, settled, service } = await start(Worker);
    for (const payload of [{ id: 'a' }, { id: 'b' }, { id: 'a' }, {}, {}]) {
      await client.publish('work', payload, { key: 'k' });
    }
    await runs.count(4);
    await settled();
    expect(runs.all.map(({ payload }) => payload)).toEqual([{ id: 'a' }, { id: 'b' }, {}, {}]);
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
  ])('fails the run whose key %s', async (_, key, why) => {
    const { runs, Worker } = newWorker(undefined, { key: key as () => string });
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
    expect(runs.all).toEqual([]);
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

  it('is idempotent by an interceptor bound by hand too, and not by what the module says of a store', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Bound {
      @EventPattern<string>('by-hand')
      @UseInterceptors(new IdempotencyInterceptor({ ttlMs: 60_000 }))
      byHand(): void {
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

  it('does nothing twice after a restart, where the store remembers', async () => {
    const store = memoryIdempotencyStore();
    const { runs, Worker } = newWorker();
    const first = await start(Worker, { store });
    await first.client.publish('work', 1, { messageId: 'm-1' });
    await runs.count(1);
    await first.settled();
    await first.close();
    const second = await start(Worker, { store }, { source: first.source });
    await second.client.publish('work', 1, { messageId: 'm-1' });
    await second.client.publish('work', 2, { messageId: 'm-2' });
    await runs.count(2);
    await second.settled();
    expect(runs.all.map(({ payload }) => payload)).toEqual([1, 2]);
  });

  it('does not repeat work that went on while its connection broke', async () => {
    const gate = new Gate();
    const { runs, Worker } = newWorker(() => gate.opened);
    const { client, settled, service } = await start(Worker, {}, { transport: harness.impatient });
    await client.publish('work', 1, { messageId: 'm-1' });
    await runs.count(1);
    await harness.dropConnections();
    gate.open();
    await duplicates(service, 1);
    await settled();
    expect(runs.all.length).toBe(1);
  });
}

function requests(harness: DriverHarness, start: Start): void {
  it('answers a duplicate with the same reply and does not run', async () => {
    const { runs, Asked } = newAsked();
    const { client, settled, service } = await start(Asked);
    const ask = (correlationId: string) => client.request<unknown>('ask', 1, { correlationId });
    expect([await ask('r-1'), await ask('r-1'), await ask('r-2')]).toEqual([
      { run: 1 },
      { run: 1 },
      { run: 2 },
    ]);
    await settled();
    expect(runs.all.length).toBe(2);
    expect(service.state()['main']!.counts).toMatchObject({ handled: 2, duplicate: 1 });
  });

  it('repeats a reply as it was: bytes, text, null, nothing', async () => {
    const replies: Record<string, unknown> = { bytes: Buffer.from([0, 255, 1]), null: null };
    let runs = 0;
    @Controller()
    class Answers {
      @MessagePattern('ask')
      @Idempotent()
      ask(@Payload() name: string): unknown {
        runs++;
        return replies[name];
      }
    }
    const { client } = await start(Answers);
    for (const name of ['bytes', 'null', 'nothing']) {
      const ask = () => client.request<unknown>('ask', name, { correlationId: name });
      const [first, second] = [await ask(), await ask()];
      expect(first).toEqual(replies[name]);
      expect(second).toEqual(first);
    }
    expect(runs).toBe(3);
  });

  it('stores no error: the next one runs', async () => {
    const { runs, Asked } = newAsked((run) => {
      if (run === 1) throw new RpcException('not yet');
    });
    const { client } = await start(Asked);
    const ask = () => client.request<unknown>('ask', 1, { correlationId: 'r-1' });
    await expect(ask()).rejects.toMatchObject({ message: 'not yet' });
    expect(await ask()).toEqual({ run: 2 });
    expect(await ask()).toEqual({ run: 2 });
    expect(runs.all.length).toBe(2);
  });

  it.each(['at-once', 'slowly'])(
    'refuses a handler that streams %s, of which nothing is sent',
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

  it('makes a duplicate wait for the answer of the run that is under way', async () => {
    const gate = new Gate();
    const begun = new Seen<number>();
    @Controller()
    class Slow {
      @MessagePattern('ask')
      @Idempotent({ key: (order: string) => order })
      async ask(): Promise<number> {
        begun.add(1);
        await gate.opened;
        return begun.all.length;
      }
    }
    const store = new BreakableStore();
    const { client, settled } = await start(Slow, { store });
    const replies = [client.request('ask', 'o', { key: 'a' }), client.request('ask', 'o', { key: 'b' })];
    // The first, and more than one try of the second.
    await store.begun.count(4);
    gate.open();
    expect(await Promise.all(replies)).toEqual([1, 1]);
    await settled();
    expect(begun.all.length).toBe(1);
  });
}

function undone(harness: DriverHarness, start: Start): void {
  it('runs again after a failure, by its retry policy and by another copy', async () => {
    const { runs, Worker } = newWorker((run) => {
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
    await runs.count(4);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await settled();
    expect(runs.all.map(({ context }) => context.attempt)).toEqual([1, 2, 1, 2]);
    expect((await deadLetters(1)).length).toBe(1);
  });

  it.each<[string, (context: StorkContext) => unknown]>([
    ['nack', (context) => context.nack()],
    ['nack without requeue', (context) => context.nack({ requeue: false })],
    ['deadLetter', (context) => context.deadLetter('not now')],
    ['retry', (context) => context.retry()],
  ])('runs again after ctx.%s', async (_, verb) => {
    const { runs, Worker } = newWorker((run, context) => {
      if (run === 1) verb(context);
    });
    const { client, settled, service } = await start(Worker);
    await client.publish('work', 1, { messageId: 'm-1' });
    await runs.count(1);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await runs.count(2);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await eventually(async () => service.state()['main']!.counts['duplicate'], 'a duplicate');
    await settled();
    expect(runs.all.length).toBe(2);
  });

  it('is done by ctx.ack(), whatever comes after it', async () => {
    const { runs, Worker } = newWorker((_, context) => {
      context.ack();
      throw new Error('too late');
    });
    const { client, settled, service } = await start(Worker);
    await client.publish('work', 1, { messageId: 'm-1' });
    await runs.count(1);
    await settled();
    await client.publish('work', 1, { messageId: 'm-1' });
    await duplicates(service, 1);
    await settled();
    expect(runs.all.length).toBe(1);
    expect(service.state()['main']!.counts).toMatchObject({ handled: 1, duplicate: 1 });
  });

  it('runs elsewhere what a shutdown has cut short', async () => {
    const store = memoryIdempotencyStore();
    const { runs, Worker } = newWorker((run, { signal }) =>
      run > 1 ? undefined : new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
    );
    const first = await start(Worker, { store }, { module: { drainTimeoutMs: 10 } });
    await first.client.publish('work', 1, { messageId: 'm-1' });
    await runs.count(1);
    await first.close();
    const second = await start(Worker, { store }, { source: first.source });
    await runs.count(2);
    await second.settled();
    expect(await harness.deadLetters(first.source)).toEqual([]);
  });
}

function inProgress(harness: DriverHarness, start: Start): void {
  it('keeps the second waiting, uncounted, and never settles it as done before the first is', async () => {
    const gate = new Gate();
    const store = new BreakableStore();
    const { runs, Worker } = newWorker((run) => (run === 1 ? gate.opened : undefined), { key: () => 'one' });
    const { client, settled, service, source } = await start(Worker, { store });
    await client.publish('work', 1, { key: 'a' });
    await runs.count(1);
    await client.publish('work', 2, { key: 'b' });
    await store.begun.count(4);
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
    expect(runs.all.length).toBe(1);
  });

  it('runs the second where the first has failed, as a first run', async () => {
    const gate = new Gate();
    const store = new BreakableStore();
    const fail = async (run: number): Promise<void> => {
      if (run > 1) return;
      await gate.opened;
      throw new Error('no');
    };
    const { runs, Worker } = newWorker(fail, { key: () => 'one' });
    const { client, settled, deadLetters } = await start(Worker, { store });
    await client.publish('work', 1, { key: 'a' });
    await runs.count(1);
    await client.publish('work', 2, { key: 'b' });
    await store.begun.count(4);
    gate.open();
    const [, second] = await runs.count(2);
    await settled();
    const { attempt, firstFailedAt } = second!.context;
    expect([second!.payload, attempt, firstFailedAt]).toEqual([2, 1, undefined]);
    expect((await deadLetters(1)).length).toBe(1);
  });

  it('waits in place where the message has no way back', async () => {
    const gate = new Gate();
    const store = new BreakableStore();
    const runs = new Seen<number>();
    @Controller()
    class Once {
      @EventPattern<string>('work')
      @Consume({ delivery: 'at-most-once' })
      @Idempotent({ key: () => 'one' })
      async work(): Promise<void> {
        runs.add(1);
        await gate.opened;
      }
    }
    const { client, settled, service } = await start(Once, { store });
    await client.publish('work', 1, { key: 'a' });
    await runs.count(1);
    await client.publish('work', 2, { key: 'b' });
    await store.begun.count(4);
    gate.open();
    await settled();
    expect(runs.all.length).toBe(1);
    expect(service.state()['main']!.counts).toMatchObject({ received: 2, handled: 1, duplicate: 1 });
  });
}

function failingStore(harness: DriverHarness, start: Start): void {
  it('keeps its messages waiting until it is back', async () => {
    const store = new BreakableStore();
    store.isDown = true;
    const { runs, Worker } = newWorker();
    const { client, settled, source } = await start(Worker, { store });
    await client.publish('work', 1, { messageId: 'm-1' });
    await store.begun.count(2);
    expect(runs.all).toEqual([]);
    store.isDown = false;
    await runs.count(1);
    await settled();
    expect(runs.all[0]!.context.attempt).toBe(1);
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('keeps nothing waiting at a shutdown: the message stays', async () => {
    const store = new BreakableStore();
    store.isDown = true;
    const { runs, Worker } = newWorker();
    const first = await start(Worker, { store });
    await first.client.publish('work', 1, { messageId: 'm-1' });
    // Its next try is a second away.
    await store.begun.count(2);
    await first.close();
    const second = await start(Worker, {}, { source: first.source });
    await runs.count(1);
    await second.settled();
  });

  it('does without it where the handler says so', async () => {
    const store = new BreakableStore();
    store.isDown = true;
    const { runs, Worker } = newWorker(undefined, { onStoreError: 'process' });
    const { client, settled, service } = await start(Worker, { store });
    await client.publish('work', 1, { messageId: 'm-1' });
    await client.publish('work', 1, { messageId: 'm-1' });
    await runs.count(2);
    await settled();
    expect(service.state()['main']!.counts).toMatchObject({ handled: 2 });
  });
}

function together(harness: DriverHarness, start: Start): void {
  const newShop = (failures: number) => {
    const runs = new Seen<string>();
    const answer = (pattern: string): string => {
      runs.add(pattern);
      if (runs.all.length <= failures) throw new Error('no');
      return `after ${runs.all.length}`;
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
    return { runs, Shop };
  };

  it.each(['plain', 'plain.kept', 'once', 'once.kept'])(
    '%s: a request whose handler fails twice runs three times, is answered, and leaves nothing',
    async (pattern) => {
      const { runs, Shop } = newShop(2);
      const { client, settled, source } = await start(Shop);
      expect(await client.request(pattern, 1)).toBe('after 3');
      await settled();
      expect(runs.all.length).toBe(3);
      expect(await harness.deadLetters(source)).toEqual([]);
    },
  );

  it.each([
    ['plain', 0],
    ['plain.kept', 1],
    ['once', 0],
    ['once.kept', 1],
  ])(
    '%s: a request that always fails runs four times, gets the error, and leaves %i letters',
    async (pattern, kept) => {
      const { runs, Shop } = newShop(Infinity);
      const { client, settled, source, deadLetters } = await start(Shop);
      await expect(client.request(pattern, 1)).rejects.toMatchObject({
        message: 'no',
        code: 'HANDLER_FAILED',
      });
      await deadLetters(kept);
      await settled();
      expect(runs.all.length).toBe(4);
      expect((await harness.deadLetters(source)).map(deathReason)).toEqual(
        Array(kept).fill('retries-exhausted'),
      );
    },
  );
}
