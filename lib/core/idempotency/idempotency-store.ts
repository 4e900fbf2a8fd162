import { StorkConfigError, type ConfigProblem } from '../runtime/errors.js';
import type { StorkClock } from '../runtime/clock.js';
import { printable } from '../message/text.js';

/** The reply to a request, stored so that a duplicate gets the same bytes. @publicApi */
export interface StoredReply {
  readonly body: Buffer;
  /** Content type of the body, e.g. `application/json`. */
  readonly contentType: string;
}

/**
 * Whether the work may begin. `acquired`: the caller holds the lease and does the work. `in-progress`:
 * another owner holds the lease; the caller tries again later. `done`: the work was completed; `reply` is
 * its reply, undefined if it had none.
 *
 * @publicApi
 */
export type BeginOutcome =
  | { readonly state: 'acquired' }
  | { readonly state: 'in-progress' }
  | { readonly state: 'done'; readonly reply?: StoredReply | undefined };

/**
 * Remembers which work is completed and leases a key to one owner at a time. A key is free, leased to one
 * owner, or done. A lease that has expired leaves the key free, and so does a completed key after its time
 * to live.
 *
 * An owner is one execution of the work, not a process: each execution uses a new id. The store fences
 * owners: an owner whose lease went to another owner can no longer change the key. Each call is atomic
 * under concurrent calls, and safe to repeat when its answer was lost. Durations are whole milliseconds
 * from 1 up, measured by the store's own clock. A call rejects with `StorkConfigError` for an empty key or
 * owner and for any other duration. It rejects with an error of the store when the store cannot answer;
 * whether the call took effect is then unknown. A store that can answer at once may return the answer
 * instead of a promise, and throw instead of rejecting.
 *
 * `idempotencyStoreSuite()` of `nestjs-stork/testing` checks an implementation.
 *
 * @publicApi
 */
export interface IdempotencyStore {
  /**
   * Leases a free key for `leaseMs`. An owner that already holds the lease acquires it again, for `leaseMs`
   * from now.
   */
  begin(key: string, owner: string, leaseMs: number): BeginOutcome | Promise<BeginOutcome>;
  /**
   * Extends the owner's lease to `leaseMs` from now. False: the owner has no lease; nothing was written.
   */
  renew(key: string, owner: string, leaseMs: number): boolean | Promise<boolean>;
  /**
   * Marks the key as done for `ttlMs`. Resolves to true also if the owner's lease had expired and no other
   * owner took the key: the work is completed nevertheless. A repeated call of the owner that completed the
   * key resolves to true and changes nothing. False: another owner took the lease or completed the key;
   * nothing was written.
   */
  complete(key: string, owner: string, ttlMs: number, reply?: StoredReply): boolean | Promise<boolean>;
  /** Frees the key, for work that failed. False: the owner has no lease; nothing was written. */
  release(key: string, owner: string): boolean | Promise<boolean>;
  /**
   * Closes what the store itself has opened. Called once, when the application closes, and only if the
   * application has made the store: of a definition, not of an object in its options.
   */
  close?(): Promise<void>;
}

/** What the application provides to an idempotency store. @publicApi */
export interface IdempotencyStoreEnvironment {
  /** The application's clock. */
  readonly clock: StorkClock;
}

/**
 * An idempotency store as `redisIdempotencyStore()` and `memoryIdempotencyStore()` describe it. Each
 * application makes a store of its own from it and closes that store with its connections, so that
 * applications from one module class do not share a store's life.
 *
 * @publicApi
 */
export interface IdempotencyStoreDefinition {
  /**
   * Returns every problem of the options; each name starts with `path`, the store's path in the module's
   * options. Does no I/O.
   */
  validate(path: string): readonly ConfigProblem[];
  /**
   * Called once for each application with idempotent handlers that use it, after `validate` returned no
   * problem. Does no I/O.
   *
   * @throws StorkConfigError if the options are invalid
   */
  createStore(environment: IdempotencyStoreEnvironment): IdempotencyStore;
}

export function isIdempotencyStoreDefinition(value: unknown): value is IdempotencyStoreDefinition {
  return typeof value === 'object' && value !== null && 'createStore' in value && 'validate' in value;
}

export function isIdempotencyStore(value: unknown): value is IdempotencyStore {
  if (typeof value !== 'object' || value === null) return false;
  const { begin, renew, complete, release } = value as Record<keyof IdempotencyStore, unknown>;
  return [begin, renew, complete, release].every((method) => typeof method === 'function');
}

/** @throws StorkConfigError that names the empty argument */
export function validateKeyAndOwner(key: string, owner: string): void {
  if (typeof key !== 'string' || key === '') throwInvalid('key', 'a non-empty string', key);
  if (typeof owner !== 'string' || owner === '') throwInvalid('owner', 'a non-empty string', owner);
}

/** @throws StorkConfigError that names the duration */
export function validateDuration(name: string, durationMs: number): void {
  if (!Number.isSafeInteger(durationMs) || durationMs < 1) {
    throwInvalid(name, 'an integer from 1 up', durationMs);
  }
}

function throwInvalid(name: string, expected: string, given: unknown): never {
  throw new StorkConfigError([{ name, expected, given: printable(given) }]);
}
