import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { withResolvers } from '../../../lib/core/runtime/with-timeout.js';
import { throwAway, type ThrowAway } from '../../support/brokers/index.mjs';
import { startStallingProxy } from '../rabbitmq/stalling-proxy.js';
import { startMutingProxy } from './muting-proxy.js';
import { failureOf, isSkipped, long, newIds, openClient, openStore } from './support.js';

/** Shorter than the default of 30 s in these tests. */
const quickMs = 20_000;
const unavailable = { code: 'STORE_UNAVAILABLE', name: 'StoreUnavailableError' };

describe.skipIf(isSkipped)('redisIdempotencyStore, while its Redis', () => {
  let redis: ThrowAway<'redis'>;

  beforeAll(async () => {
    redis = await throwAway('redis', { config: ['--appendfsync', 'always'] });
  }, 120_000);
  afterAll(() => redis?.remove());

  it('is down at the start: rejects at once with a named error, then recovers by itself', async () => {
    await redis.stop();
    const store = openStore({ url: redis.url });
    const { key, a } = newIds();
    for (let call = 0; call < 3; call++) {
      const { error, tookMs } = await failureOf(store.begin(key, a, long));
      expect(error).toMatchObject(unavailable);
      expect(error.message).toMatch(/^Redis at redis:\/\/127\.0\.0\.1:\d+: connect ECONNREFUSED/);
      expect(tookMs).toBeLessThan(quickMs);
    }
    await redis.start();
    await expect.poll(() => store.begin(key, a, long)).toMatchObject({ state: 'acquired' });
  });

  it('is killed and started again: rejects with a named error meanwhile, queues no command, keeps stored keys', async () => {
    const store = openStore({ url: redis.url });
    const { key, a, b } = newIds();
    await store.begin(key, a, long);
    await store.complete(key, a, long, { body: Buffer.from('reply'), contentType: 'text/plain' });
    await redis.kill();
    const started = performance.now();
    const failures = await Promise.all(
      Array.from({ length: 1_000 }, (_, i) => failureOf(store.begin(`${key}.${i}`, a, long))),
    );
    expect(performance.now() - started).toBeLessThan(10_000);
    for (const { error } of failures) expect(error).toMatchObject(unavailable);
    await redis.start();
    await expect.poll(() => store.begin(`${key}.probe`, a, long)).toMatchObject({ state: 'acquired' });
    expect(await store.begin(key, b, long)).toEqual({
      state: 'done',
      reply: { body: Buffer.from('reply'), contentType: 'text/plain' },
    });
    expect((await store.begin(`${key}.0`, b, long)).state, 'what was refused was not done').toBe('acquired');
  });

  it('loses a connection during a command: rejects with a named error', async () => {
    const proxy = await startStallingProxy(redis.url);
    onTestFinished(() => proxy.close());
    const store = openStore({ url: proxy.url });
    const { key, a } = newIds();
    await store.begin(key, a, long);
    proxy.stall();
    const call = failureOf(store.renew(key, a, long));
    proxy.cut();
    const { error, tookMs } = await call;
    expect(error).toMatchObject(unavailable);
    expect(error.message).toMatch(/the connection was lost|ECONNRESET/);
    expect(tookMs).toBeLessThan(quickMs);
    proxy.resume();
    await expect.poll(() => store.renew(key, a, long)).toBe(true);
  });

  it('does not respond: rejects in time with a named error, and continues on a new connection', async () => {
    const proxy = await startMutingProxy(redis.url);
    onTestFinished(() => proxy.close());
    const store = openStore({ url: proxy.url, commandTimeoutMs: 5_000 });
    const { key, a } = newIds();
    await store.begin(key, a, long);
    proxy.muteOld();
    const { error, tookMs } = await failureOf(store.renew(key, a, long));
    expect(error).toMatchObject(unavailable);
    expect(error.message).toContain('no answer within 5000 ms');
    expect(tookMs).toBeLessThan(quickMs);
    await expect.poll(() => store.renew(key, a, long)).toBe(true);
    expect(proxy.taken).toBeGreaterThan(1);
    expect(proxy.taken).toBeLessThan(10);
  });

  it('accepts the connection and does not respond: rejects in time with a named error, and connects again', async () => {
    const proxy = await startMutingProxy(redis.url);
    onTestFinished(() => proxy.close());
    proxy.muteNew(true);
    const store = openStore({ url: proxy.url, connectTimeoutMs: 2_000 });
    const { key, a } = newIds();
    const { error, tookMs } = await failureOf(store.begin(key, a, long));
    expect(error).toMatchObject(unavailable);
    expect(error.message).toContain('no connection within 2000 ms');
    expect(tookMs).toBeLessThan(quickMs);
    proxy.muteNew(false);
    await expect.poll(() => store.begin(key, a, long)).toMatchObject({ state: 'acquired' });
  });

  it('refuses connections: no command waits for the next attempt to connect', async () => {
    // The longest back-off each time: 100 ms, 200, 400, 800, and 1 s after the fifth attempt.
    vi.spyOn(Math, 'random').mockReturnValue(1);
    onTestFinished(() => void vi.restoreAllMocks());
    const fifth = withResolvers<void>();
    let tries = 0;
    const server = createServer((socket) => {
      socket.resetAndDestroy();
      if (++tries === 5) fifth.resolve();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const store = openStore({ url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}` });
    const { key, a } = newIds();
    await failureOf(store.begin(key, a, long));
    await fifth.promise;
    // The first may still fail by the end of the fifth attempt.
    await failureOf(store.begin(key, a, long));
    const { error, tookMs } = await failureOf(store.begin(key, a, long));
    expect(error).toMatchObject(unavailable);
    expect(tookMs).toBeLessThan(900);
  });

  it('is stalled: closes in time', async () => {
    const proxy = await startStallingProxy(redis.url);
    onTestFinished(() => proxy.close());
    const store = openStore({ url: proxy.url, commandTimeoutMs: 5_000 });
    const { key, a } = newIds();
    await store.begin(key, a, long);
    proxy.stall();
    const started = performance.now();
    await store.close?.();
    expect(performance.now() - started).toBeLessThan(quickMs);
  });

  it('is a replica: rejects with a named error, and recovers when it is the master again', async () => {
    const proxy = await startMutingProxy(redis.url);
    onTestFinished(() => proxy.close());
    const client = openClient(redis.url);
    const store = openStore({ url: proxy.url });
    const { key, a } = newIds();
    await store.begin(key, a, long);
    await client.replicaof('127.0.0.1', 1);
    onTestFinished(() => void client.replicaof('NO', 'ONE').catch(() => {}));
    const { error } = await failureOf(store.renew(key, a, long));
    expect(error).toMatchObject(unavailable);
    expect(error.message).toContain('READONLY');
    await client.replicaof('NO', 'ONE');
    await expect.poll(() => store.renew(key, a, long)).toBe(true);
    expect(proxy.taken, 'over a new connection: the name may lead to another server by now').toBeGreaterThan(
      1,
    );
  });
});

describe.skipIf(isSkipped)('redisIdempotencyStore on a Redis', () => {
  it('that is out of memory: rejects with a named error, writes nothing, and still renews and releases', async () => {
    const redis = await throwAway('redis', { config: ['--maxmemory-policy', 'noeviction'] });
    onTestFinished(() => redis.remove());
    const store = openStore({ url: redis.url });
    const client = openClient(redis.url);
    const { key, a, b } = newIds();
    await store.begin(key, a, long);
    await client.config('SET', 'maxmemory', '1');
    const full = { code: 'STORE_FULL', name: 'StoreFullError' };
    await expect(store.begin(`${key}.other`, a, long)).rejects.toMatchObject(full);
    await expect(store.complete(key, a, long)).rejects.toMatchObject(full);
    expect(await store.renew(key, a, long)).toBe(true);
    expect(await store.release(key, a)).toBe(true);
    await client.config('SET', 'maxmemory', '0');
    expect((await store.begin(`${key}.other`, b, long)).state).toBe('acquired');
    expect((await store.begin(key, b, long)).state).toBe('acquired');
  });

  it('with a password: works with the right one, and reveals no wrong one', async () => {
    const redis = await throwAway('redis', { config: ['--requirepass', 'right-secret'] });
    onTestFinished(() => redis.remove());
    const withPassword = (password: string) => redis.url.replace('//', `//:${password}@`);
    const { key, a } = newIds();
    for (const url of [redis.url, withPassword('wrong-secret')]) {
      const store = openStore({ url });
      for (let call = 0; call < 3; call++) {
        const { error } = await failureOf(store.begin(key, a, long));
        expect(error).toMatchObject(unavailable);
        expect(error.message).toMatch(/NOAUTH|WRONGPASS/);
        expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('secret');
      }
    }
    const store = openStore({ url: withPassword('right-secret') });
    expect((await store.begin(key, a, long)).state).toBe('acquired');
  });
});
