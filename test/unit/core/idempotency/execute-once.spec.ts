import { beforeEach, describe, expect, it } from 'vitest';
import { StorkConfigError, StoreUnavailableError } from '../../../../lib/core/runtime/errors.js';
import type {
  BeginOutcome,
  IdempotencyStore,
  StoredReply,
} from '../../../../lib/core/idempotency/idempotency-store.js';
import {
  executeOnce,
  type WorkResult,
  type ExecuteOnceSettings,
} from '../../../../lib/core/idempotency/execute-once.js';
import { newMemoryStore } from '../../../support/stores.js';
import { withResolvers } from '../../../../lib/core/runtime/with-timeout.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { settle } from '../harness.js';

const leaseMs = 60_000;
const ttlMs = 86_400_000;
const down = new Error('the store is down');
const reply: StoredReply = { body: Buffer.from('"paid"'), contentType: 'application/json' };

let clock: VirtualClock;
/** Calls of the store, in order, each with the seconds since the start. */
let calls: string[];
let startMs: number;

beforeEach(() => {
  clock = new VirtualClock();
  startMs = clock.now();
  calls = [];
});

type Call = 'begin' | 'renew' | 'complete' | 'release';
type Fault = () => Promise<never>;

/** A memory store that records its calls; `faults` makes calls of one kind fail. */
class FaultyStore implements IdempotencyStore {
  readonly inner = newMemoryStore({ clock });
  readonly faults = new Map<Call, Fault>();

  begin(key: string, owner: string, lease: number): Promise<BeginOutcome> {
    return this.#call('begin', async () => this.inner.begin(key, owner, lease));
  }

  renew(key: string, owner: string, lease: number): Promise<boolean> {
    return this.#call('renew', async () => this.inner.renew(key, owner, lease));
  }

  complete(key: string, owner: string, ttl: number, given?: StoredReply): Promise<boolean> {
    return this.#call('complete', async () => this.inner.complete(key, owner, ttl, given));
  }

  release(key: string, owner: string): Promise<boolean> {
    return this.#call('release', async () => this.inner.release(key, owner));
  }

  #call<T>(call: Call, inner: () => Promise<T>): Promise<T> {
    calls.push(`${call} ${(clock.now() - startMs) / 1_000}`);
    const fault = this.faults.get(call);
    return fault === undefined ? inner() : fault();
  }
}

const fails: Fault = () => Promise.reject(down);
const hangs: Fault = () => new Promise(() => {});

function settings(store: IdempotencyStore, more: Partial<ExecuteOnceSettings> = {}): ExecuteOnceSettings {
  return { store, key: 'k', owner: 'me', leaseMs, ttlMs, onStoreError: 'fail', clock, ...more };
}

/** Work that ends when the test ends it. */
function start(store: IdempotencyStore, more?: Partial<ExecuteOnceSettings>) {
  const work = withResolvers<WorkResult<string>>();
  let begun = false;
  const outcome = executeOnce(settings(store, more), () => {
    begun = true;
    return work.promise;
  });
  return { outcome, hasBegun: () => begun, end: work.resolve, fail: work.reject };
}

const worked = async () => ({ value: 'worked', reply });
const executed = { kind: 'executed', value: 'worked', leaseLost: false, storeError: undefined };

describe('executeOnce', () => {
  it('executes the work once, and returns the stored reply for its duplicates', async () => {
    const store = new FaultyStore();
    expect(await executeOnce(settings(store), worked)).toEqual(executed);
    let executions = 0;
    const duplicate = await executeOnce(settings(store, { owner: 'another' }), async () => ({
      value: ++executions,
    }));
    expect(duplicate).toEqual({ kind: 'duplicate', reply });
    expect(executions).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it('does not execute work that is in progress elsewhere', async () => {
    const store = new FaultyStore();
    const first = start(store);
    await settle();
    expect(await executeOnce(settings(store, { owner: 'another' }), worked)).toEqual({ kind: 'in-progress' });
    first.end({ value: 'worked' });
    expect(await first.outcome).toEqual(executed);
    expect(await executeOnce(settings(store, { owner: 'another' }), worked)).toEqual({
      kind: 'duplicate',
      reply: undefined,
    });
  });

  it('releases the key after a failure, so that a redelivery is executed', async () => {
    const store = new FaultyStore();
    const error = new Error('no stock');
    const failed = await executeOnce(settings(store), () => Promise.reject(error));
    expect(failed).toEqual({ kind: 'failed', error, leaseLost: false, storeError: undefined });
    expect(await executeOnce(settings(store, { owner: 'again' }), worked)).toEqual(executed);
  });

  it('treats work that throws synchronously as failed', async () => {
    const outcome = await executeOnce(settings(new FaultyStore()), () => {
      throw down;
    });
    expect(outcome).toMatchObject({ kind: 'failed', error: down });
  });

  it('releases the key of work that did not throw but is incomplete', async () => {
    const store = new FaultyStore();
    const outcome = await executeOnce(settings(store), async () => ({ value: 'worked', isIncomplete: true }));
    expect(outcome).toEqual(executed);
    expect(await executeOnce(settings(store, { owner: 'again' }), worked)).toEqual(executed);
  });

  it('remembers completed work for ttlMs', async () => {
    const store = new FaultyStore();
    await executeOnce(settings(store), worked);
    await clock.advance(ttlMs - 1);
    expect(await executeOnce(settings(store, { owner: 'b' }), worked)).toMatchObject({ kind: 'duplicate' });
    await clock.advance(1);
    expect(await executeOnce(settings(store, { owner: 'c' }), worked)).toEqual(executed);
  });

  it.each(['key', 'owner', 'leaseMs', 'ttlMs', 'storeTimeoutMs'] as const)(
    'rejects an invalid %s by name',
    (name) => {
      const bad = name === 'key' || name === 'owner' ? '' : 0;
      const execute = () => executeOnce(settings(new FaultyStore(), { [name]: bad }), worked);
      expect(execute).toThrow(StorkConfigError);
      expect(execute).toThrow(`${name}: expected`);
      expect(calls).toEqual([]);
    },
  );
});

describe('the lease', () => {
  it('is renewed after each third of it while the work runs, and not afterwards', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    await clock.advance(leaseMs * 2);
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'in-progress' });
    execution.end({ value: 'worked' });
    expect(await execution.outcome).toEqual(executed);
    await clock.advance(leaseMs);
    const renewals = ['20', '40', '60', '80', '100', '120'].map((second) => `renew ${second}`);
    expect(calls).toEqual(['begin 0', ...renewals, 'complete 120']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('is reported as lost when another owner has the key; the result of the work stays', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    await settle();
    await store.inner.release('k', 'me');
    await store.inner.begin('k', 'another', ttlMs);
    await clock.advance(leaseMs);
    execution.end({ value: 'worked', reply });
    expect(await execution.outcome).toEqual({ ...executed, leaseLost: true });
    expect(calls, 'a lost lease is not renewed').toEqual(['begin 0', 'renew 20', 'begin 20', 'complete 60']);
    expect(await store.inner.begin('k', 'third', leaseMs), 'fenced').toEqual({ state: 'in-progress' });
  });

  it('is reported as lost for failed work too', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    await settle();
    await store.inner.release('k', 'me');
    await store.inner.begin('k', 'another', ttlMs);
    await clock.advance(leaseMs);
    execution.fail(down);
    expect(await execution.outcome).toEqual({
      kind: 'failed',
      error: down,
      leaseLost: true,
      storeError: undefined,
    });
    expect(await store.inner.begin('k', 'third', leaseMs)).toEqual({ state: 'in-progress' });
  });

  it('is reported as lost when only `complete` detects it', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    await settle();
    await store.inner.release('k', 'me');
    await store.inner.begin('k', 'another', ttlMs);
    execution.end({ value: 'worked' });
    expect(await execution.outcome).toEqual({ ...executed, leaseLost: true });
  });

  it('is acquired again when the store has lost it', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    await settle();
    await store.inner.release('k', 'me');
    await clock.advance(leaseMs / 3);
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'in-progress' });
    await clock.advance(leaseMs * 2);
    execution.end({ value: 'worked' });
    expect(await execution.outcome, 'there was a gap').toEqual({ ...executed, leaseLost: true });
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'done', reply: undefined });
  });

  it.each([
    ['fails', fails],
    ['hangs', hangs],
  ])('outlives a renewal that %s: the next renewal is in time', async (_, fault) => {
    const store = new FaultyStore();
    const execution = start(store);
    await settle();
    store.faults.set('renew', fault);
    await clock.advance(30_000);
    store.faults.delete('renew');
    await clock.advance(20_000);
    expect(calls).toEqual(['begin 0', 'renew 20', 'renew 40']);
    await clock.advance(leaseMs);
    execution.end({ value: 'worked' });
    expect(await execution.outcome).toEqual(executed);
  });

  it('is not acquired again by a renewal that is pending when the work ends', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    const gate = withResolvers<never>();
    store.faults.set('renew', () => gate.promise);
    await clock.advance(20_000);
    await store.inner.release('k', 'me');
    execution.fail(down);
    await settle();
    gate.resolve(false as never);
    expect(await execution.outcome).toMatchObject({ kind: 'failed', leaseLost: true });
    expect(calls).toEqual(['begin 0', 'renew 20', 'begin 20', 'release 20']);
    expect(await store.inner.begin('k', 'next', leaseMs)).toEqual({ state: 'acquired' });
  });

  it('is renewed once after the process was suspended', async () => {
    const store = new FaultyStore();
    // The clock jumps, as after a suspension of the machine.
    let jumpMs = 0;
    const jumping = { now: () => clock.now() + jumpMs, setTimer: clock.setTimer.bind(clock) };
    const execution = start(store, { clock: jumping });
    await settle();
    jumpMs = 3_600_000;
    await clock.advance(20_000);
    await settle();
    expect(calls.filter((call) => call.startsWith('renew')).length).toBeLessThanOrEqual(2);
    execution.end({ value: 'worked' });
    await execution.outcome;
  });
});

describe('a store that fails', () => {
  it.each([
    ['rejects', fails, down],
    ['throws at once', throwsAtOnce, down],
    [
      'answers nonsense',
      () => Promise.resolve({ state: 'maybe' } as never),
      expect.any(StoreUnavailableError),
    ],
    ['answers nothing', () => Promise.resolve(undefined as never), expect.any(StoreUnavailableError)],
  ])('at begin: %s, so the message waits', async (_, fault, error) => {
    const store = new FaultyStore();
    store.faults.set('begin', fault);
    const execution = start(store);
    expect(await execution.outcome).toEqual({ kind: 'store-unavailable', error });
    expect(execution.hasBegun()).toBe(false);
    expect(clock.pendingTimers).toBe(0);
  });

  it('at begin, with onStoreError "process": the work is executed, and the error reported', async () => {
    const store = new FaultyStore();
    store.faults.set('begin', fails);
    expect(await executeOnce(settings(store, { onStoreError: 'process' }), worked)).toEqual({
      ...executed,
      storeError: down,
    });
    expect(calls).toEqual(['begin 0']);
  });

  it('by never answering begin times out after storeTimeoutMs', async () => {
    const store = new FaultyStore();
    store.faults.set('begin', hangs);
    const execution = start(store);
    await clock.advance(4_999);
    expect(clock.pendingTimers).toBe(1);
    await clock.advance(1);
    expect(await execution.outcome).toMatchObject({
      kind: 'store-unavailable',
      error: { code: 'STORE_UNAVAILABLE', message: 'the idempotency store did not answer within 5000 ms' },
    });
    const shortLimit = start(store, { storeTimeoutMs: 10 });
    await clock.advance(10);
    expect(await shortLimit.outcome).toMatchObject({ kind: 'store-unavailable' });
  });

  it('by answering begin after the time limit does not block the key', async () => {
    const store = new FaultyStore();
    const gate = withResolvers<void>();
    const late = () => gate.promise.then(() => store.inner.begin('k', 'me', leaseMs)) as Promise<never>;
    store.faults.set('begin', late);
    const execution = start(store);
    await clock.advance(5_000);
    expect(await execution.outcome).toMatchObject({ kind: 'store-unavailable' });
    gate.resolve();
    await settle();
    expect(calls).toEqual(['begin 0', 'release 5']);
    expect(await store.inner.begin('k', 'next', leaseMs)).toEqual({ state: 'acquired' });
  });

  it('at complete is called again until it answers', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    await settle();
    store.faults.set('complete', fails);
    execution.end({ value: 'worked', reply });
    await clock.advance(1_000);
    store.faults.delete('complete');
    await clock.advance(4_000);
    expect(await execution.outcome).toEqual(executed);
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'done', reply });
  });

  it('at complete is called a last time when 90 % of the time limit have passed', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    await settle();
    store.faults.set('complete', fails);
    execution.end({ value: 'worked' });
    await clock.advance(4_400);
    store.faults.delete('complete');
    await clock.advance(600);
    expect(await execution.outcome).toEqual(executed);
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'done' });
  });

  it.each([
    ['fails', fails, down],
    ['hangs', hangs, expect.any(StoreUnavailableError)],
  ])(
    'at complete: %s until the time limit; the result of the work stays, and the error is reported',
    async (_, fault, error) => {
      const store = new FaultyStore();
      const execution = start(store);
      await settle();
      store.faults.set('complete', fault);
      execution.end({ value: 'worked' });
      await clock.advance(5_000);
      expect(await execution.outcome).toEqual({ ...executed, storeError: error });
      expect(clock.pendingTimers).toBe(0);
    },
  );

  it('at release does not change the failure of the work', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    await settle();
    store.faults.set('release', fails);
    const error = new Error('no stock');
    execution.fail(error);
    await clock.advance(5_000);
    expect(await execution.outcome).toEqual({ kind: 'failed', error, leaseLost: false, storeError: down });
  });

  it('by hanging in a renewal delays the end of the work by no more than the time limit of a renewal', async () => {
    const store = new FaultyStore();
    const execution = start(store);
    await settle();
    store.faults.set('renew', hangs);
    await clock.advance(20_000);
    execution.end({ value: 'worked' });
    await clock.advance(5_000);
    expect(await execution.outcome).toEqual(executed);
  });
});

/** As a store in JavaScript, or one with a JSON column, may answer. */
const wrong = (answer: unknown): Fault => {
  return () => Promise.resolve(answer) as Promise<never>;
};

describe('a store with a wrong answer', () => {
  const contentType = 'application/json';
  const expected =
    'expected undefined, or a body that is a Buffer or Uint8Array and a contentType that is a text';

  it.each<[string, unknown, string]>([
    ['null', null, 'null'],
    ['a text', '"paid"', 'a text'],
    ['no body', { contentType }, `body: undefined, contentType: "${contentType}"`],
    [
      'a Buffer as JSON',
      JSON.parse(JSON.stringify({ ...reply })),
      `body: an object, contentType: "${contentType}"`,
    ],
    ['a body that is a text', { body: '"paid"', contentType }, `body: a text, contentType: "${contentType}"`],
    ['no contentType', { body: reply.body }, 'body: an object, contentType: undefined'],
  ])('to begin, done with the reply %s: the message waits', async (_, given, described) => {
    const store = new FaultyStore();
    store.faults.set('begin', wrong({ state: 'done', reply: given }));
    const message = `the idempotency store answered begin with the reply ${described}; ${expected}`;
    expect(await executeOnce(settings(store), worked)).toEqual({
      kind: 'store-unavailable',
      error: expect.objectContaining({ code: 'STORE_UNAVAILABLE', message }),
    });
    expect(clock.pendingTimers).toBe(0);
  });

  it('is not one whose body is a Uint8Array: the duplicate gets its bytes', async () => {
    const store = new FaultyStore();
    // Part of a larger buffer, as clients of databases return it.
    const body = new Uint8Array(new TextEncoder().encode('…"paid"…').buffer, 3, 6);
    store.faults.set('begin', wrong({ state: 'done', reply: { body, contentType } }));
    const duplicate = await executeOnce(settings(store), worked);
    expect(duplicate).toEqual({ kind: 'duplicate', reply });
    expect(duplicate.kind === 'duplicate' && duplicate.reply?.body.toString()).toBe('"paid"');
  });

  it.each<[unknown, string]>([
    [undefined, 'undefined'],
    ['OK', '"OK"'],
    [1, '1 (number)'],
  ])('to complete, release or renew: %s is an error, and no lost lease', async (answer, described) => {
    const errorOf = (call: Call) =>
      expect.objectContaining({
        code: 'STORE_UNAVAILABLE',
        message: `the idempotency store answered ${call} with ${described}; expected true or false`,
      });
    for (const isSync of [false, true]) {
      const store = new FaultyStore();
      const fault = isSync ? ((() => answer) as Fault) : wrong(answer);
      store.faults.set('complete', fault).set('release', fault);
      expect(await executeOnce(settings(store), worked)).toEqual({
        ...executed,
        storeError: errorOf('complete'),
      });
      const failed = await executeOnce(settings(store, { key: 'other' }), () => Promise.reject(down));
      expect(failed).toEqual({
        kind: 'failed',
        error: down,
        leaseLost: false,
        storeError: errorOf('release'),
      });
    }
    const store = new FaultyStore();
    store.faults.set('renew', wrong(answer));
    const execution = start(store);
    await clock.advance(leaseMs / 3);
    execution.end({ value: 'worked' });
    expect(await execution.outcome).toEqual({ ...executed, storeError: errorOf('renew') });
    expect(calls.filter((call) => call.startsWith('complete'))).toHaveLength(3);
    expect(clock.pendingTimers).toBe(0);
  });
});

function throwsAtOnce(): Promise<never> {
  throw down;
}
