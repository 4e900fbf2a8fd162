import { StorkConfigError, type ConfigProblem } from '../runtime/errors.js';
import { printable } from '../message/text.js';

/** What a request was answered with, so that its duplicate gets the same bytes. @publicApi */
export interface StoredReply {
  readonly body: Buffer;
  /** What the body is written in, e.g. `application/json`. */
  readonly contentType: string;
}

/**
 * Whether a run may begin. `acquired`: the caller holds the lease and works. `in-progress`: another owner does; come again later.
 * `done`: the work was completed; `reply` is what it answered, undefined where it answered nothing.
 *
 * @publicApi
 */
export type BeginOutcome =
  | { readonly state: 'acquired' }
  | { readonly state: 'in-progress' }
  | { readonly state: 'done'; readonly reply?: StoredReply | undefined };

/**
 * Remembers which work was done, and lets one owner at a time do it. A key is free, leased to one owner, or done. A lease that has
 * run out is a free key, and so is a done one after its time.
 *
 * An owner is one run, not a process: a new id for each, never used again. A store is fenced: who has lost the lease to another
 * changes nothing any more. Each call is atomic, whoever else calls at the same time, and safe to repeat when its answer was lost.
 * Durations are whole milliseconds from 1 up, by the store's own clock. Calls reject with `StorkConfigError` for an empty key or
 * owner and for any other duration, and with an error of the store's where it cannot answer; what was asked may then have been
 * done or not.
 *
 * `idempotencyStoreSuite()` of `nestjs-stork/testing` checks an implementation.
 *
 * @publicApi
 */
export interface IdempotencyStore {
  /** Takes a free key for `leaseMs`. An owner whose lease still runs acquires it again, for `leaseMs` from now. */
  begin(key: string, owner: string, leaseMs: number): Promise<BeginOutcome>;
  /** Lets the owner's lease run for `leaseMs` from now. False: it has none any more; nothing was written. */
  renew(key: string, owner: string, leaseMs: number): Promise<boolean>;
  /**
   * Makes the key done for `ttlMs`. True also where the owner's lease had run out and nobody took the key: the work is done all the
   * same. Repeated by the owner that completed it, it is true and changes nothing. False: the lease was lost to another owner,
   * or another has completed; nothing was written.
   */
  complete(key: string, owner: string, ttlMs: number, reply?: StoredReply): Promise<boolean>;
  /** Frees the key, for a run that failed. False: the owner has no lease; nothing was written. */
  release(key: string, owner: string): Promise<boolean>;
  /** What is wrong with the store's options, for one report at start; `path` is where they stand. No I/O. */
  validate?(path: string): readonly ConfigProblem[];
  /** Lets go of what the store has opened itself. Called once, when the application ends. */
  close?(): Promise<void>;
}

/** @throws StorkConfigError that names what is wrong */
export function checkHolder(key: string, owner: string): void {
  if (typeof key !== 'string' || key === '') refuse('key', 'text that is not empty', key);
  if (typeof owner !== 'string' || owner === '') refuse('owner', 'text that is not empty', owner);
}

/** @throws StorkConfigError that names what is wrong */
export function checkDuration(name: string, durationMs: number): void {
  if (!Number.isSafeInteger(durationMs) || durationMs < 1) refuse(name, 'an integer from 1 up', durationMs);
}

function refuse(name: string, expected: string, given: unknown): never {
  throw new StorkConfigError([{ name, expected, given: printable(given) }]);
}
