import { withTimeout } from '../core/runtime/with-timeout.js';
import { systemClock } from '../core/runtime/clock.js';
import {
  ClientClosedError,
  messageOf,
  StorkConfigError,
  type ConfigProblem,
} from '../core/runtime/errors.js';
import {
  validateDuration,
  validateKeyAndOwner,
  type BeginOutcome,
  type IdempotencyStore,
  type IdempotencyStoreDefinition,
  type StoredReply,
} from '../core/idempotency/idempotency-store.js';
import { nameVariables } from '../nest/validation/environment.js';
import { ProvidedConnection, ManagedConnection, type Connection } from './connection.js';
import { toStoreError } from './errors.js';
import { validateRedisOptions, type RedisIdempotencyStoreOptions } from './options.js';
import * as scripts from './scripts.js';

/**
 * An idempotency store in Redis 6 or newer, shared by all processes that use the same Redis. Needs the
 * package `ioredis`. Each application opens a connection of its own, with the first call, and closes it; a
 * `client` of yours stays open. While Redis is unavailable, calls reject at once with
 * `StoreUnavailableError`; when Redis is out of memory, with `StoreFullError`. A key that Redis evicts, or
 * loses in a restart or failover, is free again.
 *
 * @publicApi
 */
export function redisIdempotencyStore(options: RedisIdempotencyStoreOptions): IdempotencyStoreDefinition {
  return define(() => options);
}

/**
 * Like `redisIdempotencyStore()`. If the options have neither `url` nor `client`, `url` is read from the
 * environment variable `REDIS_URL` when the application starts.
 *
 * @publicApi
 */
export function redisIdempotencyStoreFromEnv(
  options: RedisIdempotencyStoreOptions = {},
): IdempotencyStoreDefinition {
  if (options.client !== undefined || options.url !== undefined) return redisIdempotencyStore(options);
  return define(() => ({ ...options, url: process.env['REDIS_URL'] }), { url: 'REDIS_URL' });
}

function define(
  read: () => RedisIdempotencyStoreOptions,
  variables: Readonly<Record<string, string>> = {},
): IdempotencyStoreDefinition {
  const validate = (path: string): readonly ConfigProblem[] =>
    nameVariables(validateRedisOptions(read(), path), path, variables);
  return {
    validate,
    createStore() {
      const problems = validate('redisIdempotencyStore');
      if (problems.length > 0) throw new StorkConfigError(problems);
      return new RedisIdempotencyStore(read());
    },
  };
}

class RedisIdempotencyStore implements IdempotencyStore {
  readonly #options: RedisIdempotencyStoreOptions;
  readonly #keyPrefix: string;
  readonly #connectTimeoutMs: number;
  readonly #commandTimeoutMs: number;
  readonly #inFlight = new Set<Promise<unknown>>();
  #connection: Connection | undefined;
  #closing: Promise<void> | undefined;

  /** @param options validated */
  constructor(options: RedisIdempotencyStoreOptions) {
    this.#options = options;
    this.#keyPrefix = options.keyPrefix ?? 'stork:idempotency:';
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 2_000;
    this.#commandTimeoutMs = options.commandTimeoutMs ?? 2_000;
  }

  async begin(key: string, owner: string, leaseMs: number): Promise<BeginOutcome> {
    validateKeyAndOwner(key, owner);
    validateDuration('leaseMs', leaseMs);
    const response = await this.#execute(scripts.begin, key, owner, leaseMs);
    const [state, type, body] = response as [state: Buffer, type?: Buffer | null, body?: Buffer | null];
    if (state.toString() === 'acquired') return { state: 'acquired' };
    if (state.toString() === 'in-progress') return { state: 'in-progress' };
    return { state: 'done', reply: type && body ? { body, contentType: type.toString() } : undefined };
  }

  async renew(key: string, owner: string, leaseMs: number): Promise<boolean> {
    validateKeyAndOwner(key, owner);
    validateDuration('leaseMs', leaseMs);
    return (await this.#execute(scripts.renew, key, owner, leaseMs)) === 1;
  }

  async complete(key: string, owner: string, ttlMs: number, reply?: StoredReply): Promise<boolean> {
    validateKeyAndOwner(key, owner);
    validateDuration('ttlMs', ttlMs);
    const storedReply = reply === undefined ? [] : [reply.contentType, reply.body];
    return (await this.#execute(scripts.complete, key, owner, ttlMs, ...storedReply)) === 1;
  }

  async release(key: string, owner: string): Promise<boolean> {
    validateKeyAndOwner(key, owner);
    return (await this.#execute(scripts.release, key, owner)) === 1;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Waits for the calls in flight, each of which has a time limit. */
  async #close(): Promise<void> {
    await Promise.allSettled(this.#inFlight);
    await this.#connection?.close();
  }

  async #execute(
    script: scripts.Script,
    key: string,
    ...args: (string | Buffer | number)[]
  ): Promise<unknown> {
    const connection = this.#getConnection();
    const call = this.#callInTime(connection, () =>
      evaluateScript(connection, script, this.#keyPrefix + key, args),
    );
    this.#inFlight.add(call);
    try {
      return await call;
    } catch (error) {
      throw toStoreError(connection.description, error);
    } finally {
      this.#inFlight.delete(call);
    }
  }

  async #callInTime(connection: Connection, evaluate: () => Promise<unknown>): Promise<unknown> {
    await connection.whenReady();
    const limitMs = this.#commandTimeoutMs;
    const timeoutError = (): Error => {
      connection.reset();
      return new Error(`no answer within ${limitMs} ms`);
    };
    return withTimeout(evaluate, { clock: systemClock, limitMs, timeoutError });
  }

  #getConnection(): Connection {
    if (this.#closing !== undefined) throw new ClientClosedError('the idempotency store was closed');
    this.#connection ??= this.#createConnection();
    return this.#connection;
  }

  #createConnection(): Connection {
    const { client, url } = this.#options;
    if (client !== undefined) return new ProvidedConnection(client);
    return new ManagedConnection({
      // Validated: without `client` there is a `url`.
      url: url!,
      connectTimeoutMs: this.#connectTimeoutMs,
      commandTimeoutMs: this.#commandTimeoutMs,
    });
  }
}

/** Redis caches a script once it was executed, until it restarts. */
async function evaluateScript(
  { client }: Connection,
  { sha, source }: scripts.Script,
  key: string,
  args: readonly (string | Buffer | number)[],
): Promise<unknown> {
  try {
    return await client.callBuffer('evalsha', sha, 1, key, ...args);
  } catch (error) {
    if (!messageOf(error).startsWith('NOSCRIPT')) throw error;
    return client.callBuffer('eval', source, 1, key, ...args);
  }
}
