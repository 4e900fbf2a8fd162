import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { onTestFinished } from 'vitest';
import { redisIdempotencyStore, type RedisIdempotencyStoreOptions } from 'nestjs-stork/redis';
import type { IdempotencyStore } from 'nestjs-stork';

export const isSkipped = process.env['STORK_SKIP_BROKERS'] === '1';
export const long = 600_000;

/** No limit is what ends a call where a test does not say so. */
export const patience = { connectTimeoutMs: 30_000, commandTimeoutMs: 30_000 };

/** Closed when the test ends. */
export function openStore(options: RedisIdempotencyStoreOptions): IdempotencyStore {
  const store = redisIdempotencyStore({ ...patience, ...options });
  onTestFinished(() => store.close?.());
  return store;
}

/** Looks at the server beside the store; closed when the test ends. */
export function openClient(url: string): Redis {
  const client = new Redis(url);
  // A server that is killed is what the test is about.
  client.on('error', () => {});
  onTestFinished(() => client.disconnect());
  return client;
}

export function newIds() {
  return { key: randomUUID(), a: `a-${randomUUID()}`, b: `b-${randomUUID()}` };
}

/** What it rejects with, and after how many milliseconds. */
export async function failureOf(call: Promise<unknown>): Promise<{ error: Error; tookMs: number }> {
  const startedAt = performance.now();
  try {
    await call;
  } catch (error) {
    return { error: error as Error, tookMs: performance.now() - startedAt };
  }
  throw new Error('it did not reject');
}
