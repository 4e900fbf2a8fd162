import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { onTestFinished } from 'vitest';
import { redisIdempotencyStore, type RedisIdempotencyStoreOptions } from 'nestjs-stork/redis';
import type { IdempotencyStore } from 'nestjs-stork';
import { systemClock } from '../../../lib/core/runtime/clock.js';

export const isSkipped = process.env['STORK_SKIP_BROKERS'] === '1';
export const long = 600_000;

/** Long enough that no call times out unless a test sets a shorter timeout. */
export const longTimeouts = { connectTimeoutMs: 30_000, commandTimeoutMs: 30_000 };

/** Closed when the test ends. */
export function openStore(options: RedisIdempotencyStoreOptions): IdempotencyStore {
  const store = redisIdempotencyStore({ ...longTimeouts, ...options }).createStore({ clock: systemClock });
  onTestFinished(() => store.close?.());
  return store;
}

/** A client for inspecting the server; closed when the test ends. */
export function openClient(url: string): Redis {
  const client = new Redis(url);
  // The test kills the server.
  client.on('error', () => {});
  onTestFinished(() => client.disconnect());
  return client;
}

export function newIds() {
  return { key: randomUUID(), a: `a-${randomUUID()}`, b: `b-${randomUUID()}` };
}

/** The error of the rejected call, and the milliseconds until it. */
export async function failureOf(call: unknown): Promise<{ error: Error; tookMs: number }> {
  const startedAt = performance.now();
  try {
    await call;
  } catch (error) {
    return { error: error as Error, tookMs: performance.now() - startedAt };
  }
  throw new Error('it did not reject');
}
