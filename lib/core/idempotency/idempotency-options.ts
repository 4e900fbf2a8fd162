import type { HandlerAttempt } from '../consume/handler-attempt.js';
import type { IdempotencyStore } from './idempotency-store.js';
import { mergeLayers } from '../runtime/merge-options.js';

/** What of idempotency can be said at every place. */
export interface IdempotencyTimes {
  /** How long a message that is done is remembered, in milliseconds. @defaultValue 86 400 000, a day */
  readonly ttlMs?: number | undefined;
  /**
   * How long the key stays taken when the process dies while it works, in milliseconds. Renewed while the handler runs, however long that
   * is. At least 100. @defaultValue 60 000
   */
  readonly leaseMs?: number | undefined;
  /**
   * When the store cannot be asked. `fail`: the message waits until it can. `process`: the handler runs, at the risk that it does so a
   * second time. @defaultValue 'fail'
   */
  readonly onStoreError?: 'fail' | 'process' | undefined;
}

/**
 * Defaults for the handlers that are idempotent: they make none so, `@Idempotent()` does.
 *
 * @publicApi
 */
export interface IdempotencyOptions extends IdempotencyTimes {
  /**
   * Remembers what was done. One that several processes share knows the duplicates of each other. @defaultValue a
   * `memoryIdempotencyStore()`, with a warning at boot
   */
  readonly store?: IdempotencyStore | undefined;
}

/** Every default filled in. */
export interface IdempotencyPolicy {
  readonly store: IdempotencyStore;
  readonly ttlMs: number;
  readonly leaseMs: number;
  readonly onStoreError: 'fail' | 'process';
  /** The user's own function, which may throw and give anything. Undefined: the message's id is its key. */
  readonly keyOf: ((run: HandlerAttempt) => unknown) | undefined;
}

const defaults = {
  ttlMs: 24 * 60 * 60 * 1_000,
  leaseMs: 60_000,
  onStoreError: 'fail',
} as const satisfies IdempotencyTimes;

/** Merges field by field; the later layer wins where it says anything. */
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
