export { redisIdempotencyStore, redisIdempotencyStoreFromEnv } from './idempotency-store.js';
export type { RedisClient, RedisIdempotencyStoreOptions } from './options.js';
