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
import { memoryIdempotencyStore } from '../../../../lib/core/idempotency/memory-idempotency-store.js';
import { withResolvers } from '../../../../lib/core/runtime/with-timeout.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { settle } from '../harness.js';

const leaseMs = 60_000;
const ttlMs = 86_400_000;
const down = new Error('the store is down');
const reply: StoredReply = { body: Buffer.from('"paid"'), contentType: 'application/json' };

let clock: VirtualClock;
/** What the store was asked, in order, with the time since the start in seconds. */
let asked: string[];
let startMs: number;

beforeEach(() => {
  clock = new VirtualClock();
  startMs = clock.now();
  asked = [];
});

type Call = 'begin' | 'renew' | 'complete' | 'release';
type Fault = () => Promise<never>;

/** A memory store that notes what it is asked, and can be made to fail by call. */
class FaultyStore implements IdempotencyStore {
  readonly inner = memoryIdempotencyStore({ clock });
  readonly faults = new Map<Call, Fault>();

  begin(key: string, owner: string, lease: number): Promise<BeginOutcome> {
    return this.#ask('begin', () => this.inner.begin(key, owner, lease));
  }

  renew(key: string, owner: string, lease: number): Promise<boolean> {
    return this.#ask('renew', () => this.inner.renew(key, owner, lease));
  }

  complete(key: string, owner: string, ttl: number, given?: StoredReply): Promise<boolean> {
    return this.#ask('complete', () => this.inner.complete(key, owner, ttl, given));
  }

  release(key: string, owner: string): Promise<boolean> {
    return this.#ask('release', () => this.inner.release(key, owner));
  }

  #ask<T>(call: Call, inner: () => Promise<T>): Promise<T> {
    asked.push(`${call} ${(clock.now() - startMs) / 1_000}`);
    return this.faults.get(call)?.() ?? inner();
  }
}

const fails: Fault = () => Promise.reject(down);
const hangs: Fault = () => new Promise(() => {});

function settings(store: IdempotencyStore, more: Partial<ExecuteOnceSettings> = {}): ExecuteOnceSettings {
  return { store, key: 'k', owner: 'me', leaseMs, ttlMs, onStoreError: 'fail', clock, ...more };
}

/** A run whose work ends when the test says so. */
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
const ran = { kind: 'ran', value: 'worked', leaseLost: false, storeError: undefined };

describe('executeOnce', () => {
  it('does the work once, and answers its duplicates with the same bytes', async () => {
    const store = new FaultyStore();
    expect(await executeOnce(settings(store), worked)).toEqual(ran);
    let runs = 0;
    const duplicate = await executeOnce(settings(store, { owner: 'another' }), async () => ({
      value: ++runs,
    }));
    expect(duplicate).toEqual({ kind: 'duplicate', reply });
    expect(runs).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it('does not do what another owner is doing', async () => {
    const store = new FaultyStore();
    const first = start(store);
    await settle();
    expect(await executeOnce(settings(store, { owner: 'another' }), worked)).toEqual({ kind: 'in-progress' });
    first.end({ value: 'worked' });
    expect(await first.outcome).toEqual(ran);
    expect(await executeOnce(settings(store, { owner: 'another' }), worked)).toEqual({
      kind: 'duplicate',
      reply: undefined,
    });
  });

  it('frees the key after a failure, so that the message that comes again runs', async () => {
    const store = new FaultyStore();
    const error = new Error('no stock');
    const failed = await executeOnce(settings(store), () => Promise.reject(error));
    expect(failed).toEqual({ kind: 'failed', error, leaseLost: false, storeError: undefined });
    expect(await executeOnce(settings(store, { owner: 'again' }), worked)).toEqual(ran);
  });

  it('takes work that throws at once for a failure', async () => {
    const outcome = await executeOnce(settings(new FaultyStore()), () => {
      throw down;
    });
    expect(outcome).toMatchObject({ kind: 'failed', error: down });
  });

  it('frees the key of work that will be tried again without an error', async () => {
    const store = new FaultyStore();
    const outcome = await executeOnce(settings(store), async () => ({ value: 'worked', isUndone: true }));
    expect(outcome).toEqual(ran);
    expect(await executeOnce(settings(store, { owner: 'again' }), worked)).toEqual(ran);
  });

  it('remembers for ttlMs', async () => {
    const store = new FaultyStore();
    await executeOnce(settings(store), worked);
    await clock.advance(ttlMs - 1);
    expect(await executeOnce(settings(store, { owner: 'b' }), worked)).toMatchObject({ kind: 'duplicate' });
    await clock.advance(1);
    expect(await executeOnce(settings(store, { owner: 'c' }), worked)).toEqual(ran);
  });

  it.each(['key', 'owner', 'leaseMs', 'ttlMs', 'storeTimeoutMs'] as const)(
    'refuses a bad %s by name',
    async (name) => {
      const bad = name === 'key' || name === 'owner' ? '' : 0;
      const run = executeOnce(settings(new FaultyStore(), { [name]: bad }), worked);
      await expect(run).rejects.toThrow(StorkConfigError);
      await expect(run).rejects.toThrow(`${name}: expected`);
      expect(asked).toEqual([]);
    },
  );
});

describe('the lease of a run', () => {
  it('is renewed at each third of it while the work runs, and never after', async () => {
    const store = new FaultyStore();
    const run = start(store);
    await clock.advance(leaseMs * 2);
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'in-progress' });
    run.end({ value: 'worked' });
    expect(await run.outcome).toEqual(ran);
    await clock.advance(leaseMs);
    const renewals = ['20', '40', '60', '80', '100', '120'].map((second) => `renew ${second}`);
    expect(asked).toEqual(['begin 0', ...renewals, 'complete 120']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('is told to be lost when another has the key, and the work counts all the same', async () => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    await store.inner.release('k', 'me');
    await store.inner.begin('k', 'another', ttlMs);
    await clock.advance(leaseMs);
    run.end({ value: 'worked', reply });
    expect(await run.outcome).toEqual({ ...ran, leaseLost: true });
    expect(asked, 'who has lost it stops renewing').toEqual([
      'begin 0',
      'renew 20',
      'begin 20',
      'complete 60',
    ]);
    expect(await store.inner.begin('k', 'third', leaseMs), 'fenced').toEqual({ state: 'in-progress' });
  });

  it('is told to be lost by a failed run too', async () => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    await store.inner.release('k', 'me');
    await store.inner.begin('k', 'another', ttlMs);
    await clock.advance(leaseMs);
    run.fail(down);
    expect(await run.outcome).toEqual({
      kind: 'failed',
      error: down,
      leaseLost: true,
      storeError: undefined,
    });
    expect(await store.inner.begin('k', 'third', leaseMs)).toEqual({ state: 'in-progress' });
  });

  it('is told to be lost when only the completion finds out', async () => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    await store.inner.release('k', 'me');
    await store.inner.begin('k', 'another', ttlMs);
    run.end({ value: 'worked' });
    expect(await run.outcome).toEqual({ ...ran, leaseLost: true });
  });

  it('is taken again where the store has forgotten it', async () => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    await store.inner.release('k', 'me');
    await clock.advance(leaseMs / 3);
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'in-progress' });
    await clock.advance(leaseMs * 2);
    run.end({ value: 'worked' });
    expect(await run.outcome, 'there was a gap').toEqual({ ...ran, leaseLost: true });
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'done', reply: undefined });
  });

  it.each([
    ['fails', fails],
    ['hangs', hangs],
  ])('outlives a renewal that %s: the next comes in time', async (_, fault) => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    store.faults.set('renew', fault);
    await clock.advance(30_000);
    store.faults.delete('renew');
    await clock.advance(20_000);
    expect(asked).toEqual(['begin 0', 'renew 20', 'renew 40']);
    await clock.advance(leaseMs);
    run.end({ value: 'worked' });
    expect(await run.outcome).toEqual(ran);
  });

  it('is not taken again by a renewal that is overtaken by the end of the run', async () => {
    const store = new FaultyStore();
    const run = start(store);
    const gate = withResolvers<never>();
    store.faults.set('renew', () => gate.promise);
    await clock.advance(20_000);
    await store.inner.release('k', 'me');
    run.fail(down);
    await settle();
    gate.resolve(false as never);
    expect(await run.outcome).toMatchObject({ kind: 'failed', leaseLost: true });
    expect(asked).toEqual(['begin 0', 'renew 20', 'begin 20', 'release 20']);
    expect(await store.inner.begin('k', 'next', leaseMs)).toEqual({ state: 'acquired' });
  });

  it('is not renewed many times at once after the process was asleep', async () => {
    const store = new FaultyStore();
    // A clock that jumps: the machine was suspended.
    let jumpMs = 0;
    const jumping = { now: () => clock.now() + jumpMs, setTimer: clock.setTimer.bind(clock) };
    const run = start(store, { clock: jumping });
    await settle();
    jumpMs = 3_600_000;
    await clock.advance(20_000);
    await settle();
    expect(asked.filter((call) => call.startsWith('renew')).length).toBeLessThanOrEqual(2);
    run.end({ value: 'worked' });
    await run.outcome;
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
    const run = start(store);
    expect(await run.outcome).toEqual({ kind: 'store-unavailable', error });
    expect(run.hasBegun()).toBe(false);
    expect(clock.pendingTimers).toBe(0);
  });

  it('at begin, with onStoreError "process": the work is done, and the failure told', async () => {
    const store = new FaultyStore();
    store.faults.set('begin', fails);
    expect(await executeOnce(settings(store, { onStoreError: 'process' }), worked)).toEqual({
      ...ran,
      storeError: down,
    });
    expect(asked).toEqual(['begin 0']);
  });

  it('by never answering begin is given up after storeTimeoutMs', async () => {
    const store = new FaultyStore();
    store.faults.set('begin', hangs);
    const run = start(store);
    await clock.advance(4_999);
    expect(clock.pendingTimers).toBe(1);
    await clock.advance(1);
    expect(await run.outcome).toMatchObject({
      kind: 'store-unavailable',
      error: { code: 'STORE_UNAVAILABLE', message: 'the idempotency store did not answer within 5000 ms' },
    });
    const impatient = start(store, { storeTimeoutMs: 10 });
    await clock.advance(10);
    expect(await impatient.outcome).toMatchObject({ kind: 'store-unavailable' });
  });

  it('by answering begin too late does not keep the key', async () => {
    const store = new FaultyStore();
    const gate = withResolvers<void>();
    const late = () => gate.promise.then(() => store.inner.begin('k', 'me', leaseMs)) as Promise<never>;
    store.faults.set('begin', late);
    const run = start(store);
    await clock.advance(5_000);
    expect(await run.outcome).toMatchObject({ kind: 'store-unavailable' });
    gate.resolve();
    await settle();
    expect(asked).toEqual(['begin 0', 'release 5']);
    expect(await store.inner.begin('k', 'next', leaseMs)).toEqual({ state: 'acquired' });
  });

  it('at complete is told again until it answers', async () => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    store.faults.set('complete', fails);
    run.end({ value: 'worked', reply });
    await clock.advance(1_000);
    store.faults.delete('complete');
    await clock.advance(4_000);
    expect(await run.outcome).toEqual(ran);
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'done', reply });
  });

  it('at complete is told for a last time when most of the time is over', async () => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    store.faults.set('complete', fails);
    run.end({ value: 'worked' });
    await clock.advance(4_400);
    store.faults.delete('complete');
    await clock.advance(600);
    expect(await run.outcome).toEqual(ran);
    expect(await store.inner.begin('k', 'another', leaseMs)).toEqual({ state: 'done' });
  });

  it.each([
    ['fails', fails, down],
    ['hangs', hangs, expect.any(StoreUnavailableError)],
  ])('at complete: %s for good; the work counts, and the failure is told', async (_, fault, error) => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    store.faults.set('complete', fault);
    run.end({ value: 'worked' });
    await clock.advance(5_000);
    expect(await run.outcome).toEqual({ ...ran, storeError: error });
    expect(clock.pendingTimers).toBe(0);
  });

  it('at release leaves the failure of the work what it was', async () => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    store.faults.set('release', fails);
    const error = new Error('no stock');
    run.fail(error);
    await clock.advance(5_000);
    expect(await run.outcome).toEqual({ kind: 'failed', error, leaseLost: false, storeError: down });
  });

  it('by hanging in a renewal holds up the end of the run by no more than its limit', async () => {
    const store = new FaultyStore();
    const run = start(store);
    await settle();
    store.faults.set('renew', hangs);
    await clock.advance(20_000);
    run.end({ value: 'worked' });
    await clock.advance(5_000);
    expect(await run.outcome).toEqual(ran);
  });
});

function throwsAtOnce(): Promise<never> {
  throw down;
}
