import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { Idempotent } from 'nestjs-stork';
import { redisIdempotencyStore } from 'nestjs-stork/redis';
import { openOnMemory } from '../memory-orders.mjs';

/** Keys expire soon after the bench, even if it crashes. */
const ttlMs = 600_000;

export async function open(options) {
  const { url } = options;
  const keyPrefix = `stork-bench:${randomUUID()}:`;
  // Each application has a store of its own, on one connection.
  const client = new Redis(url);
  const subject = await openOnMemory(options, {
    on: [Idempotent()],
    module: () => ({ idempotency: { store: redisIdempotencyStore({ client, keyPrefix }), ttlMs } }),
  });
  return {
    ...subject,
    async close() {
      await subject.close();
      for await (const keys of client.scanStream({ match: `${keyPrefix}*`, count: 1_000 }))
        if (keys.length > 0) await client.del(keys);
      client.disconnect();
    },
  };
}
