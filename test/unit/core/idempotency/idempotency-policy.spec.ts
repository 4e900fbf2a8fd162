import { describe, expect, it } from 'vitest';
import { resolveDeadLetter } from '../../../../lib/core/dead-letter/dead-letter-options.js';
import type { HandlerAttempt } from '../../../../lib/core/consume/handler-attempt.js';
import {
  resolveIdempotency,
  type IdempotencyTimes,
} from '../../../../lib/core/idempotency/idempotency-options.js';
import type { IdempotencyStore } from '../../../../lib/core/idempotency/idempotency-store.js';
import { newMemoryStore } from '../../../support/stores.js';
import { newPipeline, type PipelineScope } from '../../../../lib/core/consume/pipeline.js';
import { resolveRetry } from '../../../../lib/core/retry/retry-options.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { newDelivery, newGate, newMessage, noteWhenDone, settle } from '../harness.js';
import {
  replyToInbox,
  deliveryOf,
  failure,
  deadLetters,
  freeSlot,
  loseSource,
  newBench,
  TestHandler,
  type Behaviour,
  processAlone,
} from '../pipeline-harness.js';

const succeed: Behaviour = async () => undefined;

interface BenchOptions extends IdempotencyTimes {
  readonly behaviour?: Behaviour;
  readonly kind?: 'event' | 'message';
  readonly keyOf?: (attempt: HandlerAttempt) => unknown;
  readonly maxRetries?: number;
  readonly scope?: Partial<PipelineScope>;
}

/**
 * An idempotent handler with its store, and the calls of the store. While `faults.isDown`, each call fails; while `faults.isMute`, it
 * takes effect but its answer is lost.
 */
function newIdempotent({
  behaviour = succeed,
  kind = 'event',
  keyOf,
  maxRetries = 0,
  scope,
  ...times
}: BenchOptions = {}) {
  const clock = new VirtualClock();
  const inner = newMemoryStore({ clock });
  const calls: string[] = [];
  const faults = { isDown: false, isMute: false };
  const call = async <T>(name: string, forward: () => Promise<T>): Promise<T> => {
    calls.push(name);
    if (faults.isDown) throw new Error('the store is down');
    const answer = await forward();
    if (faults.isMute) throw new Error('the answer was lost');
    return answer;
  };
  const store: IdempotencyStore = {
    begin: (...args) => call(`begin ${args[0]}`, async () => inner.begin(...args)),
    renew: (...args) => call('renew', async () => inner.renew(...args)),
    complete: (...args) => call('complete', async () => inner.complete(...args)),
    release: (...args) => call('release', async () => inner.release(...args)),
  };
  const idempotency = resolveIdempotency({ store, keyOf }, times);
  const handler = new TestHandler(kind, 'Orders.paid', '#', behaviour, {
    idempotency,
    retry: resolveRetry({ maxRetries }),
    deadLetter: resolveDeadLetter(),
  });
  return { handler, calls, faults, inner, ...newBench([handler], { ...scope }, clock) };
}

describe('a key', () => {
  it.each<[string, Parameters<typeof newMessage>[0], string]>([
    ['of an event is its message id', {}, 'orders:Orders.paid:m-1'],
    ['keeps colons and percent signs of the id', { messageId: 'a:b%' }, 'orders:Orders.paid:a:b%'],
    [
      'of a long id is its hash',
      { messageId: 'x'.repeat(257) },
      'orders:Orders.paid:sha256-15eb95a462ee20bd91a415ae2d4aed341288186ddaa2b37908f7d592f0c3f85f',
    ],
  ])('%s', async (_, fields, key) => {
    const { calls, scope } = newIdempotent();
    await processAlone(deliveryOf(fields).delivery, scope);
    expect(calls).toEqual([`begin ${key}`, 'complete']);
  });

  it('of a request is its correlation id', async () => {
    const { calls, driver, scope } = newIdempotent({ kind: 'message' });
    driver.target = replyToInbox;
    await processAlone(deliveryOf({ correlationId: 'r-1' }).delivery, scope);
    expect(calls[0]).toBe('begin orders:Orders.paid:r-1');
  });

  it('escapes colons of the consumer name, so that it cannot equal the key of another consumer', async () => {
    const { calls, scope } = newIdempotent({ scope: { consumerName: 'a:Orders.paid' } });
    await processAlone(deliveryOf().delivery, scope);
    expect(calls[0]).toBe('begin a%3AOrders.paid:Orders.paid:m-1');
  });
});

describe('a reply', () => {
  it('is stored before it is sent, and its duplicate gets the same bytes', async () => {
    const { calls, driver, scope, handler } = newIdempotent({
      kind: 'message',
      behaviour: async (run) => {
        await run.emit({ n: handler.attempts.length });
        return undefined;
      },
    });
    driver.target = replyToInbox;
    const order: string[] = [];
    driver.confirm = async () => {
      order.push(...calls.splice(0), 'reply');
      return 'confirmed';
    };
    const request = () => processAlone(deliveryOf({ correlationId: 'r-1' }).delivery, scope);
    await request();
    expect(order).toEqual(['begin orders:Orders.paid:r-1', 'complete', 'reply']);
    await request();
    expect(driver.sent).toEqual(['value {"n":1}', 'value {"n":1}']);
    expect(driver.replies[1]!.contentType).toBe('application/json');
    expect(handler.attempts.length).toBe(1);
  });

  it('that was not confirmed before its source was lost is sent again from the store', async () => {
    const { driver, scope, handler } = newIdempotent({
      kind: 'message',
      behaviour: async (run) => {
        await run.emit(1);
        return undefined;
      },
    });
    driver.target = replyToInbox;
    driver.confirm = () => Promise.reject(new Error('channel closed'));
    const test = deliveryOf({ correlationId: 'r-1' });
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    await done;
    expect(test.source.events).toEqual([]);
    driver.confirm = async () => 'confirmed';
    await processAlone(deliveryOf({ correlationId: 'r-1' }).delivery, scope);
    expect(driver.sent).toEqual(['value 1', 'value 1']);
    expect(handler.attempts.length).toBe(1);
  });

  it('of several values is an error, and none of them is sent', async () => {
    const emitted: boolean[] = [];
    const { driver, scope, calls } = newIdempotent({
      kind: 'message',
      behaviour: async (run) => {
        emitted.push(run.emit(1) as boolean);
        // A turn in which the first item of a stream would be sent.
        await settle();
        emitted.push(run.emit(2) as boolean);
        return undefined;
      },
    });
    driver.target = replyToInbox;
    await processAlone(deliveryOf({ correlationId: 'r-1' }).delivery, scope);
    expect(emitted).toEqual([true, false]);
    expect(driver.error).toMatchObject({ name: 'StreamNotIdempotentError', retryable: false });
    expect(calls.at(-1)).toBe('release');
  });

  it('is an error, which is not stored, when the handler fails after ctx.ack()', async () => {
    const { driver, scope, calls } = newIdempotent({
      kind: 'message',
      behaviour: async (run) => {
        run.decide({ kind: 'ack' });
        return failure('too late');
      },
    });
    driver.target = replyToInbox;
    await processAlone(deliveryOf({ correlationId: 'r-1' }).delivery, scope);
    expect(driver.error).toMatchObject({ message: 'too late' });
    expect(calls.at(-1)).toBe('release');
  });
});

describe('a message in progress elsewhere', () => {
  it('is sent through the broker, without an increment of its attempt', async () => {
    const { scope, inner, counters, handler } = newIdempotent();
    await inner.begin('orders:Orders.paid:m-1', 'another', 60_000);
    const test = deliveryOf({ headers: { 'stork-attempt': '3' } });
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    const [copy] = test.source.republished;
    expect(copy).toMatchObject({ to: 'redelivery', delayMs: 1_000 });
    expect(copy!.headers).toMatchObject({ 'stork-attempt': '3', 'stork-handler': 'Orders.paid' });
    expect(copy!.headers).not.toHaveProperty('stork-first-failed-at');
    expect(counters.snapshot()).toEqual({ received: 1, 'duplicates-in-flight': 1 });
    expect(handler.attempts).toEqual([]);
  });

  it.each([
    [60_000, 1_000],
    [900, 300],
    [100, 100],
  ])(
    'waits in process where the source cannot requeue it; with a lease of %i ms for %i ms at a time',
    async (leaseMs, waitMs) => {
      const capabilities = { requeue: 'in-process' } as const;
      const { scope, inner, calls, clock, counters, handler } = newIdempotent({
        leaseMs,
        scope: { capabilities },
      });
      await inner.begin('orders:Orders.paid:m-1', 'another', 60_000);
      const test = deliveryOf();
      const done = processAlone(test.delivery, scope);
      await settle();
      await clock.advance(waitMs - 1);
      await settle();
      expect(calls.length).toBe(1);
      await clock.advance(1);
      await settle();
      expect(calls.length).toBe(2);
      await inner.release('orders:Orders.paid:m-1', 'another');
      await clock.advance(waitMs);
      await done;
      expect(test.source.events).toEqual(['ack 1']);
      expect(handler.attempts.length).toBe(1);
      expect(counters.get('duplicates-in-flight')).toBe(1);
    },
  );

  it('is requeued when the application stops', async () => {
    const capabilities = { requeue: 'in-process' } as const;
    const { scope, inner, clock } = newIdempotent({ scope: { capabilities } });
    await inner.begin('orders:Orders.paid:m-1', 'another', 60_000);
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    scope.retryTimers.close();
    await done;
    expect(test.source.events).toEqual(['requeue 1']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('fails a request whose caller would time out during the wait', async () => {
    const { scope, driver, inner, clock, handler } = newIdempotent({
      kind: 'message',
      scope: { capabilities: { requeue: 'in-process' } },
    });
    await inner.begin('orders:Orders.paid:r-1', 'another', 60_000);
    driver.target = replyToInbox;
    const deadline = new Date(clock.now() + 1_500).toISOString();
    const test = deliveryOf({ correlationId: 'r-1', headers: { 'stork-deadline': deadline } });
    const done = noteWhenDone(processAlone(test.delivery, scope));
    await settle();
    expect(done.done).toBe(false);
    await clock.advance(1_000);
    await settle();
    expect(done.done).toBe(true);
    expect(handler.attempts.length).toBe(0);
    expect(driver.error).toMatchObject({ name: 'InProgressError' });
    expect(test.source.events).toEqual(['ack 1']);
  });

  it('fails a request whose caller would time out before its redelivery', async () => {
    const { scope, driver, inner, clock, handler } = newIdempotent({ kind: 'message' });
    await inner.begin('orders:Orders.paid:r-1', 'another', 60_000);
    driver.target = replyToInbox;
    const deadline = new Date(clock.now() + 500).toISOString();
    const test = deliveryOf({ correlationId: 'r-1', headers: { 'stork-deadline': deadline } });
    await processAlone(test.delivery, scope);
    expect(handler.attempts.length).toBe(0);
    expect(driver.error).toMatchObject({ name: 'InProgressError' });
    expect([test.source.events, test.source.republished]).toEqual([['ack 1'], []]);
  });

  it('is dead-lettered when the application stops, if it was acknowledged early', async () => {
    const { scope, inner } = newIdempotent();
    await inner.begin('orders:Orders.paid:m-1', 'another', 60_000);
    const test = newDelivery({ message: newMessage(), mode: 'at-most-once' });
    const done = processAlone(test.delivery, scope);
    await settle();
    scope.retryTimers.close();
    await done;
    expect(deadLetters(test)).toEqual([['retries-exhausted', 'Orders.paid', '1']]);
  });
});

describe('a store that fails', () => {
  it('is called again after 500 ms, doubling; after a minute the message is deferred through the broker', async () => {
    const { scope, calls, faults, clock, logger } = newIdempotent();
    faults.isDown = true;
    const test = deliveryOf();
    const done = noteWhenDone(processAlone(test.delivery, scope));
    const triedAt: number[] = [];
    for (let half = 0; half <= 62 * 2; half++) {
      await settle();
      const begun = calls.filter((call) => call.startsWith('begin'));
      if (begun.length > triedAt.length) triedAt.push(half / 2);
      await clock.advance(500);
    }
    expect(done.done).toBe(true);
    expect(triedAt).toEqual([0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5]);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    expect(test.source.republished[0]).toMatchObject({ to: 'redelivery', delayMs: 30_000 });
    expect(test.source.republished[0]!.headers['stork-attempt']).toBe('1');
    expect(logger.lines.filter((line) => line.startsWith('error'))).toEqual([
      'error orders: the idempotency store is unavailable; messages of idempotent handlers wait until it recovers, ' +
        'and messages whose completion was not stored may be processed twice: the store is down',
    ]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('but has written the lease grants it to the next try, which need not wait until it expires', async () => {
    const { scope, calls, faults, clock, handler } = newIdempotent();
    faults.isMute = true;
    const test = deliveryOf();
    const done = noteWhenDone(processAlone(test.delivery, scope));
    await settle();
    faults.isMute = false;
    await clock.advance(500);
    await settle();
    expect(done.done).toBe(true);
    expect(handler.attempts.length).toBe(1);
    expect(calls.slice(1)).toEqual([calls[0], 'complete']);
    expect(test.source.events).toEqual(['ack 1']);
  });

  it('but has written the lease is told to release it when the message is requeued', async () => {
    const { scope, faults, inner } = newIdempotent();
    faults.isMute = true;
    const test = deliveryOf();
    const done = noteWhenDone(processAlone(test.delivery, scope));
    await settle();
    loseSource(test);
    await settle();
    expect(done.done).toBe(true);
    expect(await inner.begin('orders:Orders.paid:m-1', 'another', 60_000)).toEqual({ state: 'acquired' });
  });

  it('is logged once for all messages, and so is its recovery', async () => {
    const { scope, faults, clock, logger, handler } = newIdempotent();
    faults.isDown = true;
    const ids = ['m-1', 'm-2', 'm-3'];
    const all = Promise.all(ids.map((messageId) => processAlone(deliveryOf({ messageId }).delivery, scope)));
    await settle();
    await clock.advance(500);
    await settle();
    faults.isDown = false;
    await clock.advance(1_000);
    await all;
    expect(handler.attempts.length).toBe(3);
    expect(logger.lines.map((line) => line.slice(0, 53))).toEqual([
      'error orders: the idempotency store is unavailable; m',
      'log orders: the idempotency store has recovered',
    ]);
  });

  it('does not delay the shutdown: the message is requeued', async () => {
    const { scope, faults, clock } = newIdempotent();
    faults.isDown = true;
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    scope.retryTimers.close();
    await done;
    expect(test.source.events).toEqual(['requeue 1']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('fails a request whose caller would time out before the next try', async () => {
    const { scope, faults, driver, clock } = newIdempotent({ kind: 'message' });
    faults.isDown = true;
    driver.target = replyToInbox;
    const deadline = new Date(clock.now() + 400).toISOString();
    const test = deliveryOf({ correlationId: 'r-1', headers: { 'stork-deadline': deadline } });
    await processAlone(test.delivery, scope);
    expect(driver.error).toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true });
    expect(test.source.events).toEqual(['ack 1']);
  });

  it('fails a request whose caller timed out while the message waited for a slot', async () => {
    const { scope, faults, driver, clock, handler } = newIdempotent({ kind: 'message' });
    faults.isDown = true;
    driver.target = replyToInbox;
    const deadline = new Date(clock.now() + 1_000).toISOString();
    const { delivery, source } = deliveryOf({
      correlationId: 'r-1',
      headers: { 'stork-deadline': deadline },
    });
    const wait = async (): Promise<boolean> => {
      faults.isDown = false;
      await clock.advance(1_000);
      return true;
    };
    await newPipeline(scope)(delivery, { ...freeSlot(delivery, scope), wait });
    expect(driver.error).toMatchObject({ code: 'STORE_UNAVAILABLE' });
    expect([handler.attempts.length, source.events]).toEqual([0, ['ack 1']]);
  });

  it('is bypassed with onStoreError "process", which is logged once', async () => {
    const { scope, faults, handler, logger } = newIdempotent({ onStoreError: 'process' });
    faults.isDown = true;
    for (const messageId of ['m-1', 'm-2']) await processAlone(deliveryOf({ messageId }).delivery, scope);
    expect(handler.attempts.length).toBe(2);
    expect(logger.lines).toEqual([
      'warn orders: the idempotency store is unavailable; idempotent handlers run without it and may process a message twice: the store is down',
    ]);
  });
});

describe('an aborted delivery', () => {
  it('completes its key when the handler did not read the signal, so that the message is not handled again', async () => {
    const gate = newGate();
    const { scope, calls } = newIdempotent({ behaviour: () => gate.promise.then(() => undefined) });
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    gate.open();
    await done;
    expect(calls.at(-1)).toBe('complete');
  });

  it('releases its key when the handler read the signal: it may have stopped early', async () => {
    const gate = newGate();
    const { scope, calls } = newIdempotent({
      behaviour: async ({ signal }) => {
        await gate.promise;
        expect(signal.aborted).toBe(true);
        return undefined;
      },
    });
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    gate.open();
    await done;
    expect(calls.at(-1)).toBe('release');
  });

  it('releases its key when a later attempt read the signal', async () => {
    const gate = newGate();
    const { handler, scope, calls, clock } = newIdempotent({
      maxRetries: 1,
      behaviour: async (attempt) => {
        if (attempt.number === 1) return failure('no stock', 'retries-exhausted');
        await gate.promise;
        expect(attempt.signal.aborted).toBe(true);
        return undefined;
      },
    });
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    await clock.advance(1_000);
    await settle();
    loseSource(test);
    gate.open();
    await done;
    expect([handler.attempts.length, calls.at(-1)]).toEqual([2, 'release']);
  });

  it('completes its key when only another handler of the event read the signal', async () => {
    const gate = newGate();
    const { handler, calls, scope } = newIdempotent({ behaviour: () => gate.promise.then(() => undefined) });
    const watching = new TestHandler('event', 'watching', '#', async ({ signal }) => {
      await gate.promise;
      expect(signal.aborted).toBe(true);
      return undefined;
    });
    const both = newBench([handler, watching], { clock: scope.clock });
    const test = deliveryOf();
    const done = processAlone(test.delivery, both.scope);
    await settle();
    loseSource(test);
    gate.open();
    await done;
    expect(calls.at(-1)).toBe('complete');
  });

  it('keeps its lease while the handler runs, but not after a shutdown has abandoned it', async () => {
    const gate = newGate();
    const { scope, calls, clock } = newIdempotent({
      leaseMs: 300,
      behaviour: () => gate.promise.then(() => undefined),
    });
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    await clock.advance(100);
    await settle();
    expect(calls.filter((call) => call === 'renew').length).toBe(1);
    scope.retryTimers.close();
    scope.retryTimers.abandon();
    test.delivery.abort();
    test.delivery.requeue();
    await settle();
    expect(clock.pendingTimers).toBe(0);
    gate.open();
    await done;
  });

  it('lets its lease expire when the source was lost before the shutdown', async () => {
    const gate = newGate();
    const { scope, calls, clock } = newIdempotent({
      leaseMs: 300,
      behaviour: () => gate.promise.then(() => undefined),
    });
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    scope.retryTimers.close();
    await clock.advance(100);
    await settle();
    expect([calls.includes('renew'), clock.pendingTimers]).toEqual([false, 0]);
    gate.open();
    await done;
  });

  it('leaves no timer after a shutdown, although the source was lost before', async () => {
    const { scope, clock } = newIdempotent({ leaseMs: 60_000, behaviour: () => new Promise(() => {}) });
    const test = deliveryOf();
    void processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    expect(clock.pendingTimers).toBe(1);
    scope.retryTimers.close();
    scope.retryTimers.abandon();
    expect(clock.pendingTimers).toBe(0);
  });

  it('does not call the handler when it was aborted during begin, and releases its key', async () => {
    const { scope, calls, handler } = newIdempotent();
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    loseSource(test);
    await done;
    expect(handler.attempts.length).toBe(0);
    expect(calls).toEqual(['begin orders:Orders.paid:m-1', 'release']);
  });

  it('warns of a lease that was lost while the handler ran', async () => {
    const gate = newGate();
    const { scope, faults, inner, logger, clock } = newIdempotent({
      leaseMs: 300,
      behaviour: () => gate.promise.then(() => undefined),
    });
    const done = processAlone(deliveryOf().delivery, scope);
    await settle();
    faults.isDown = true;
    await clock.advance(301);
    await settle();
    faults.isDown = false;
    await inner.begin('orders:Orders.paid:m-1', 'another', 60_000);
    gate.open();
    await done;
    expect(logger.lines.filter((line) => line.startsWith('warn'))).toEqual([
      'warn orders: message "m-1" of the handler "Orders.paid" was processed after its idempotency lease expired ' +
        'and may have been processed twice (leaseMs=300)',
    ]);
  });
});
