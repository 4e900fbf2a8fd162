import { Allow } from 'class-validator';
import type { ConfigProblem } from '../core/runtime/errors.js';
import { printable, shownAddress } from '../core/message/text.js';
import { validateOptions, Integer, OptionalMatching, Text } from '../nest/validation/validate-options.js';

/** The part of an `ioredis` client that the store uses: a `Redis` or a `Cluster`. @publicApi */
export interface RedisClient {
  readonly status: string;
  callBuffer(command: string, ...args: (string | Buffer | number)[]): Promise<unknown>;
}

/** Options of `redisIdempotencyStore()`; either `url` or `client`. @publicApi */
export interface RedisIdempotencyStoreOptions {
  /** `redis://user:password@host:6379/0`, or `rediss://…` over TLS. */
  readonly url?: string | undefined;
  /**
   * Your own `ioredis` client, e.g. for a cluster, Sentinel or certificates. The store neither connects nor
   * closes it.
   */
  readonly client?: RedisClient;
  /**
   * Prefix of all keys. Applications that share a Redis but not their keys need different prefixes.
   * @defaultValue 'stork:idempotency:'
   */
  readonly keyPrefix?: string;
  /** Time limit for connecting, in milliseconds; with `url` only. @defaultValue 2 000 */
  readonly connectTimeoutMs?: number;
  /**
   * Time limit for a command, in milliseconds. With `url`, the store then reconnects. @defaultValue 2 000
   */
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
  const problems = validateOptions(RedisIdempotencyStoreSchema, options, path);
  if (typeof options !== 'object' || options === null) return problems;
  const { url, client, connectTimeoutMs } = options as Partial<Record<string, unknown>>;
  const add = (name: string, expected: string, given: string): void => {
    problems.push({ name: `${path}.${name}`, expected, given });
  };
  if (client === undefined) {
    const given = typeof url === 'string' ? printable(shownAddress(url)) : printable(url);
    if (!isRedisUrl(url)) add('url', 'redis://… or rediss://…, with a database number or none', given);
    return problems;
  }
  if (url !== undefined) add('url', 'nothing: client has its own address', 'a URL');
  if (connectTimeoutMs !== undefined) {
    add('connectTimeoutMs', 'nothing: client connects by its own options', printable(connectTimeoutMs));
  }
  return problems;
}

function isRedisUrl(url: unknown): boolean {
  if (typeof url !== 'string' || !/^rediss?:\/\/./.test(url) || !URL.canParse(url)) return false;
  return /^\/?\d*$/.test(new URL(url).pathname);
}
