import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StorkConfigError, StoreFullError } from '../../../../lib/core/runtime/errors.js';
import { memoryIdempotencyStore } from '../../../../lib/core/idempotency/memory-idempotency-store.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { idempotencyStoreSuite } from '../../../../lib/testing/idempotency-store-suite.js';
import { newMemoryStore } from '../../../support/stores.js';
import { IdempotencyModel, steps } from '../idempotency-model.js';

const long = 600_000;

describe('memoryIdempotencyStore passes the suite', () => {
  const clock = new VirtualClock();
  const suite = idempotencyStoreSuite(() => memoryIdempotencyStore({ clock }), {
    passTime: (ms) => clock.advance(ms),
  });
  for (const { name, run } of suite) it(name, run);
});

describe('memoryIdempotencyStore', () => {
  it('leases to one owner at a time, keeps completed keys, and fences owners, in any order of calls', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        let now = 0;
        const clock = { now: () => now, setTimer: () => () => {} };
        const passTime = async (ms: number) => (now += ms);
        const model = new IdempotencyModel(newMemoryStore({ clock }), 'k', passTime);
        for (const next of all) await model.run(next);
      }),
      { numRuns: 500 },
    );
  });

  it('evicts the oldest completed key at maxKeys, and no active lease', async () => {
    const store = newMemoryStore({ maxKeys: 3 });
    await store.begin('working', 'w', long);
    for (const key of ['first', 'second']) {
      await store.begin(key, 'o', long);
      await store.complete(key, 'o', long);
    }
    expect((await store.begin('new', 'o', long)).state).toBe('acquired');
    expect((await store.begin('working', 'other', long)).state).toBe('in-progress');
    expect((await store.begin('second', 'other', long)).state).toBe('done');
    expect((await store.begin('first', 'other', long)).state).toBe('acquired');
  });

  it('rejects begin while maxKeys leases are active, until one expires', async () => {
    const clock = new VirtualClock();
    const store = newMemoryStore({ maxKeys: 2, clock });
    await store.begin('long', 'o', long);
    await store.begin('short', 'o', 1_000);
    expect(() => store.begin('third', 'o', long)).toThrow(StoreFullError);
    expect(() => store.begin('third', 'o', long)).toThrow(/2 leases are active, maxKeys is 2/);
    expect((await store.begin('long', 'o', long)).state, 'those that run go on').toBe('acquired');
    expect(await store.renew('short', 'o', 1_000)).toBe(true);
    await clock.advance(1_000);
    expect((await store.begin('third', 'o', long)).state).toBe('acquired');
  });

  it('sets no timer', async () => {
    const clock = new VirtualClock();
    const store = newMemoryStore({ clock });
    await store.begin('k', 'o', long);
    await store.complete('k', 'o', long);
    expect(clock.pendingTimers).toBe(0);
  });

  it('returns a separate buffer to each duplicate', async () => {
    const store = newMemoryStore();
    await store.begin('k', 'o', long);
    await store.complete('k', 'o', long, { body: Buffer.from('reply'), contentType: 'text/plain' });
    const read = async () => {
      const outcome = await store.begin('k', 'x', long);
      return outcome.state === 'done' ? outcome.reply?.body : undefined;
    };
    (await read())?.fill(0);
    expect((await read())?.toString()).toBe('reply');
  });

  it.each([0, -1, 1.5, Number.NaN])('names maxKeys: %s as wrong', async (maxKeys) => {
    const definition = memoryIdempotencyStore({ maxKeys });
    expect(definition.validate('idempotency.store')).toMatchObject([{ name: 'idempotency.store.maxKeys' }]);
    expect(() => newMemoryStore({ maxKeys })).toThrow(StorkConfigError);
    expect(() => newMemoryStore({ maxKeys })).toThrow(/memoryIdempotencyStore\.maxKeys: expected an integer/);
  });

  it('reports no problem for valid options', () => {
    expect(memoryIdempotencyStore().validate('x')).toEqual([]);
    expect(memoryIdempotencyStore({ maxKeys: 1 }).validate('x')).toEqual([]);
  });
});
