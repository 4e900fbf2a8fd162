import type { HandlerAttempt } from '../consume/handler-attempt.js';
import type { IdempotencyStore, IdempotencyStoreDefinition } from './idempotency-store.js';
import { mergeLayers } from '../runtime/merge-options.js';

/** Settings of idempotency that the module, a transport and a handler can each set. @publicApi */
export interface IdempotencyTimes {
  /** How long a completed message is remembered, in milliseconds. @defaultValue 86 400 000, a day */
  readonly ttlMs?: number | undefined;
  /**
   * How long the key stays leased when the process crashes while it handles the message, in milliseconds.
   * The lease is renewed while the handler runs, however long that takes. At least 100. @defaultValue 60
   * 000
   */
  readonly leaseMs?: number | undefined;
  /**
   * What happens while the store is unavailable. `fail`: the message waits until the store answers, without a
   * concurrency slot; later messages of its key wait for it. `process`: the handler is called, at the risk
   * that it handles a message twice. @defaultValue 'fail'
   */
  readonly onStoreError?: 'fail' | 'process' | undefined;
}

/**
 * Defaults for idempotent handlers. They do not make a handler idempotent: `@Idempotent()` does.
 *
 * @publicApi
 */
export interface IdempotencyOptions extends IdempotencyTimes {
  /**
   * Where completed messages are remembered. Processes detect each other's duplicates only if they share a
   * store. `redisIdempotencyStore()`, `memoryIdempotencyStore()` or a definition of your own: the application
   * makes the store and closes it. A store of your own, an object with `begin`, `renew`, `complete` and
   * `release`, is used as it is and not closed.
   * @defaultValue a `memoryIdempotencyStore()`, with a warning at boot
   */
  readonly store?: IdempotencyStoreDefinition | IdempotencyStore | undefined;
}

/** The options with every default filled in. */
export interface IdempotencyPolicy {
  readonly store: IdempotencyStore;
  readonly ttlMs: number;
  readonly leaseMs: number;
  readonly onStoreError: 'fail' | 'process';
  /**
   * The user's key function, which may throw or return any value. Undefined: the key is the message's id.
   */
  readonly keyOf: ((attempt: HandlerAttempt) => unknown) | undefined;
}

const defaults = {
  ttlMs: 24 * 60 * 60 * 1_000,
  leaseMs: 60_000,
  onStoreError: 'fail',
} as const satisfies IdempotencyTimes;

/** Merges field by field; a later layer overrides an earlier one. */
export function resolveIdempotency(
  { store, keyOf }: Pick<IdempotencyPolicy, 'store' | 'keyOf'>,
  ...layers: readonly (IdempotencyTimes | undefined)[]
): IdempotencyPolicy {
  const { ttlMs, leaseMs, onStoreError } = mergeLayers(defaults, ...layers) as Omit<
    IdempotencyPolicy,
    'store' | 'keyOf'
  >;
  return { store, keyOf, ttlMs, leaseMs, onStoreError };
}
