import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as fc from 'fast-check';
import { Redis } from 'ioredis';
import { afterAll, describe, expect, inject, it, onTestFinished, vi } from 'vitest';
import { ClientClosedError, StorkConfigError, type IdempotencyStore } from 'nestjs-stork';
import {
  redisIdempotencyStore,
  redisIdempotencyStoreFromEnv,
  type RedisIdempotencyStoreOptions,
} from 'nestjs-stork/redis';
import { idempotencyStoreSuite } from 'nestjs-stork/testing';
import { systemClock } from '../../../lib/core/runtime/clock.js';
import { IdempotencyModel, steps } from '../../unit/core/idempotency-model.js';
import { startStallingProxy } from '../rabbitmq/stalling-proxy.js';
import { isSkipped, long, newIds, openClient, openStore, longTimeouts } from './support.js';

/** Keys of this test run, distinct from those of other users of the same server. */
const keyPrefix = `stork-test:${randomUUID()}:`;
const url = inject('redisUrl')!;

afterAll(async () => {
  if (isSkipped) return;
  const client = new Redis(url);
  const keys = await client.keys(`${keyPrefix}*`);
  if (keys.length > 0) await client.del(keys);
  client.disconnect();
});

const newStore = (options: RedisIdempotencyStoreOptions): IdempotencyStore =>
  redisIdempotencyStore(options).createStore({ clock: systemClock });

/**
 * Redis uses the real clock: the suite's time runs at a fifth of its speed, so that leases do not expire on a
 * busy machine.
 */
const slowness = 5;
const passTime = (ms: number) => sleep(ms * slowness);

function newSlowStore(): IdempotencyStore {
  const store = newStore({ url, keyPrefix, ...longTimeouts });
  return {
    begin: (key, owner, leaseMs) => store.begin(key, owner, leaseMs * slowness),
    renew: (key, owner, leaseMs) => store.renew(key, owner, leaseMs * slowness),
    complete: (key, owner, ttlMs, reply) => store.complete(key, owner, ttlMs * slowness, reply),
    release: (key, owner) => store.release(key, owner),
    close: async () => store.close?.(),
  };
}

describe.skipIf(isSkipped)('redisIdempotencyStore passes the suite', () => {
  // All tests wait concurrently.
  for (const { name, run } of idempotencyStoreSuite(newSlowStore, { passTime })) it.concurrent(name, run);
});

describe.skipIf(isSkipped)('redisIdempotencyStore', () => {
  it('never has two owners of a key, keeps completed keys, and is fenced, in any order of calls', async () => {
    const store = openStore({ url, keyPrefix });
    const client = openClient(url);
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const key = randomUUID();
        // The server's clock cannot be set, so the expiry of the key is.
        const passTime = async (ms: number) => {
          const leftMs = await client.pttl(keyPrefix + key);
          if (leftMs > 0) await client.pexpire(keyPrefix + key, leftMs - ms);
        };
        const model = new IdempotencyModel(store, key, passTime);
        for (const next of all) await model.run(next);
      }),
      { numRuns: 150 },
    );
  });

  it('keeps no key without an expiry', async () => {
    const store = openStore({ url, keyPrefix });
    const client = openClient(url);
    const { key, a } = newIds();
    await store.begin(key, a, 500_000);
    expect(await client.pttl(keyPrefix + key)).toSatisfy((ms: number) => ms > 0 && ms <= 500_000);
    await store.renew(key, a, 700_000);
    expect(await client.pttl(keyPrefix + key)).toSatisfy((ms: number) => ms > 500_000 && ms <= 700_000);
    await store.complete(key, a, 900_000, { body: Buffer.from('x'), contentType: 'text/plain' });
    expect(await client.pttl(keyPrefix + key)).toSatisfy((ms: number) => ms > 700_000 && ms <= 900_000);
  });

  it('executes a burst of commands before the first connection', async () => {
    const store = openStore({ url, keyPrefix });
    const { key } = newIds();
    const begun = await Promise.all(
      Array.from({ length: 100 }, async (_, i) => store.begin(`${key}.${i}`, 'o', long)),
    );
    expect(new Set(begun.map(({ state }) => state))).toEqual(new Set(['acquired']));
  });

  it('continues when the server has flushed its scripts', async () => {
    const store = openStore({ url, keyPrefix });
    const { key, a } = newIds();
    await store.begin(key, a, long);
    await openClient(url).script('FLUSH');
    expect(await store.renew(key, a, long)).toBe(true);
  });

  it('treats an evicted key as free', async () => {
    const store = openStore({ url, keyPrefix });
    const client = openClient(url);
    const { key, a, b } = newIds();
    await store.begin(key, a, long);
    await client.del(keyPrefix + key);
    expect(await store.renew(key, a, long)).toBe(false);
    expect((await store.begin(key, b, long)).state).toBe('acquired');
    expect(await store.complete(key, a, long), 'b works on it').toBe(false);
    await client.del(keyPrefix + key);
    expect(await store.complete(key, b, long), 'no attempt in progress holds it').toBe(true);
    await client.del(keyPrefix + key);
    expect((await store.begin(key, a, long)).state).toBe('acquired');
  });

  it('reports a key of another type', async () => {
    const store = openStore({ url, keyPrefix });
    const { key, a } = newIds();
    await openClient(url).set(keyPrefix + key, 'foreign', 'PX', long);
    await expect(store.begin(key, a, long)).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringContaining('WRONGTYPE') as string,
    });
  });

  it('completes commands that were sent before close(), and rejects later ones', async () => {
    const store = newStore({ url, keyPrefix });
    const { key, a } = newIds();
    await store.begin(key, a, long);
    const completed = store.complete(key, a, long);
    await Promise.all([store.close?.(), store.close?.()]);
    expect(await completed).toBe(true);
    await expect(store.begin(key, a, long)).rejects.toThrow(ClientClosedError);
  });

  it('ends its connection when it is closed', async () => {
    const proxy = await startStallingProxy(url);
    onTestFinished(() => proxy.close());
    const store = newStore({ url: proxy.url, keyPrefix });
    expect(proxy.open, 'nothing before the first call').toBe(0);
    await store.begin(newIds().key, 'o', long);
    expect(proxy.open).toBeGreaterThan(0);
    await store.close?.();
    await expect.poll(() => proxy.open).toBe(0);
  });

  it('closes without ever having connected', async () => {
    await newStore({ url }).close?.();
  });

  it('uses a given client and leaves it open', async () => {
    const client = openClient(url);
    const store = newStore({ client, keyPrefix });
    const { key, a, b } = newIds();
    expect((await store.begin(key, a, long)).state).toBe('acquired');
    expect((await store.begin(key, b, long)).state).toBe('in-progress');
    await store.close?.();
    expect(await client.ping()).toBe('PONG');
    client.disconnect();
    await expect.poll(() => client.status).toBe('end');
    const after = newStore({ client, keyPrefix });
    await expect(after.begin(key, a, long)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });

  it('reads REDIS_URL', async () => {
    vi.stubEnv('REDIS_URL', url);
    onTestFinished(() => void vi.unstubAllEnvs());
    const store = redisIdempotencyStoreFromEnv({ keyPrefix }).createStore({ clock: systemClock });
    onTestFinished(() => store.close?.());
    expect((await store.begin(newIds().key, 'o', long)).state).toBe('acquired');
  });
});

describe('the options of redisIdempotencyStore', () => {
  const problems = (options: RedisIdempotencyStoreOptions) =>
    redisIdempotencyStore(options).validate('store');

  it.each([
    [{}, 'store.url'],
    [{ url: undefined }, 'store.url'],
    [{ url: '' }, 'store.url'],
    [{ url: 'amqp://localhost' }, 'store.url'],
    [{ url: 'redis://localhost/shop' }, 'store.url'],
    [{ url: 'redis://h', keyPrefix: '' }, 'store.keyPrefix'],
    [{ url: 'redis://h', connectTimeoutMs: 0 }, 'store.connectTimeoutMs'],
    [{ url: 'redis://h', commandTimeoutMs: 1.5 }, 'store.commandTimeoutMs'],
    [{ url: 'redis://h', prefix: 'x' }, 'store.prefix'],
    [{ client: {} }, 'store.client'],
    [{ client: { callBuffer() {} }, url: 'redis://h' }, 'store.url'],
    [{ client: { callBuffer() {} }, connectTimeoutMs: 1 }, 'store.connectTimeoutMs'],
  ])('refuses %j, naming %s', (given, name) => {
    const options = given as RedisIdempotencyStoreOptions;
    expect(problems(options)).toMatchObject([{ name }]);
    expect(() => newStore(options)).toThrow(StorkConfigError);
  });

  it.each([
    { url: 'redis://localhost' },
    { url: 'rediss://user:p%40ss@[::1]:6380/3' },
    { url: 'redis://h', keyPrefix: 'x', connectTimeoutMs: 1, commandTimeoutMs: 1 },
    { client: new Redis({ lazyConnect: true }), commandTimeoutMs: 1 },
  ])('takes it right, %#', (options) => {
    expect(problems(options)).toEqual([]);
  });

  it('reveal no password', () => {
    for (const url of ['http://user:secret@host/', 'redis://user:secret@host/x?password=secret']) {
      expect(JSON.stringify(problems({ url }))).not.toContain('secret');
    }
  });

  it('are invalid without REDIS_URL', () => {
    vi.stubEnv('REDIS_URL', undefined);
    onTestFinished(() => void vi.unstubAllEnvs());
    expect(redisIdempotencyStoreFromEnv().validate('store')).toMatchObject([
      { name: 'store.url', expected: expect.stringContaining('REDIS_URL') as string, given: 'undefined' },
    ]);
  });
});
