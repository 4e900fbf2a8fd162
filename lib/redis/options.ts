import { Allow } from 'class-validator';
import type { ConfigProblem } from '../core/runtime/errors.js';
import { printable } from '../core/message/text.js';
import { checkOptions, Integer, OptionalMatching, Text } from '../nest/validation/validate-options.js';
import { addressOf } from './errors.js';

/** What is needed of a client of `ioredis`: its `Redis` and its `Cluster` fit. @publicApi */
export interface RedisClient {
  readonly status: string;
  callBuffer(command: string, ...args: (string | Buffer | number)[]): Promise<unknown>;
}

/** Options of `redisIdempotencyStore()`; either `url` or `client`. @publicApi */
export interface RedisIdempotencyStoreOptions {
  /** `redis://user:password@host:6379/0`, or `rediss://…` over TLS. */
  readonly url?: string | undefined;
  /** A client of `ioredis` that stays yours, e.g. for a cluster, sentinels or certificates: neither connected nor closed here. */
  readonly client?: RedisClient;
  /** What every key begins with. Applications that share a Redis and must not share keys need different ones. @defaultValue 'stork:idempotency:' */
  readonly keyPrefix?: string;
  /** How long a connection may take until it can be used; with `url` only. @defaultValue 2 000 */
  readonly connectTimeoutMs?: number;
  /** How long an answer may take. A connection of ours that is too slow is opened anew. @defaultValue 2 000 */
  readonly commandTimeoutMs?: number;
}

class RedisIdempotencyStoreSchema {
  @Allow()
  url?: unknown;
  @OptionalMatching(
    'a client of ioredis',
    (value) => typeof (value as { callBuffer?: unknown } | null)?.callBuffer === 'function',
  )
  client?: unknown;
  @Text()
  keyPrefix?: unknown;
  @Integer(1)
  connectTimeoutMs?: unknown;
  @Integer(1)
  commandTimeoutMs?: unknown;
}

export function validateRedisOptions(options: unknown, path: string): readonly ConfigProblem[] {
  const problems = checkOptions(RedisIdempotencyStoreSchema, options, path);
  if (typeof options !== 'object' || options === null) return problems;
  const { url, client, connectTimeoutMs } = options as Partial<Record<string, unknown>>;
  const add = (name: string, expected: string, given: string): void => {
    problems.push({ name: `${path}.${name}`, expected, given });
  };
  if (client === undefined) {
    const given = typeof url === 'string' ? printable(addressOf(url)) : printable(url);
    if (!isRedisUrl(url)) add('url', 'redis://… or rediss://…, with a database number or none', given);
    return problems;
  }
  if (url !== undefined) add('url', 'nothing: client says where to connect', 'one');
  if (connectTimeoutMs !== undefined) {
    add('connectTimeoutMs', 'nothing: client connects by its own options', printable(connectTimeoutMs));
  }
  return problems;
}

function isRedisUrl(url: unknown): boolean {
  if (typeof url !== 'string' || !/^rediss?:\/\/./.test(url) || !URL.canParse(url)) return false;
  return /^\/?\d*$/.test(new URL(url).pathname);
}
