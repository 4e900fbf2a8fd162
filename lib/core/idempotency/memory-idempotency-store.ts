import { systemClock, type StorkClock } from '../runtime/clock.js';
import { StorkConfigError, StoreFullError, type ConfigProblem } from '../runtime/errors.js';
import {
  validateDuration,
  validateKeyAndOwner,
  type BeginOutcome,
  type IdempotencyStore,
  type StoredReply,
} from './idempotency-store.js';
import { printable } from '../message/text.js';

/** Options of `memoryIdempotencyStore()`. @publicApi */
export interface MemoryIdempotencyStoreOptions {
  /**
   * Maximum number of keys, an integer from 1 up. At the limit the store evicts the key that was completed
   * first, so that a later duplicate of it is handled again. Active leases are never evicted. A key counts
   * once, whatever the size of its reply.
   * @defaultValue 100 000
   */
  readonly maxKeys?: number;
  /** @defaultValue the system clock */
  readonly clock?: StorkClock;
}

/**
 * An idempotency store in the memory of one process: its keys are lost when the process ends, and other
 * processes do not see them.
 *
 * @publicApi
 */
export function memoryIdempotencyStore(options: MemoryIdempotencyStoreOptions = {}): IdempotencyStore {
  return new MemoryIdempotencyStore(options);
}

interface LeaseEntry {
  readonly owner: string;
  readonly expiresAtMs: number;
}

interface CompletedEntry extends LeaseEntry {
  readonly reply: StoredReply | undefined;
}

const defaultMaxKeys = 100_000;

class MemoryIdempotencyStore implements IdempotencyStore {
  readonly #options: MemoryIdempotencyStoreOptions;
  readonly #maxKeys: number;
  readonly #clock: StorkClock;
  readonly #leases = new Map<string, LeaseEntry>();
  /** In order of completion, the oldest first. */
  readonly #completed = new Map<string, CompletedEntry>();

  constructor(options: MemoryIdempotencyStoreOptions) {
    this.#options = options;
    this.#maxKeys = options.maxKeys ?? defaultMaxKeys;
    this.#clock = options.clock ?? systemClock;
  }

  validate(path: string): readonly ConfigProblem[] {
    const { maxKeys = defaultMaxKeys } = this.#options;
    if (Number.isSafeInteger(maxKeys) && maxKeys >= 1) return [];
    return [{ name: `${path}.maxKeys`, expected: 'an integer from 1 up', given: printable(maxKeys) }];
  }

  // Each call is atomic because it awaits nothing.
  async begin(key: string, owner: string, leaseMs: number): Promise<BeginOutcome> {
    this.#validateCall(key, owner);
    validateDuration('leaseMs', leaseMs);
    this.#removeExpired();
    const done = this.#getLive(this.#completed, key);
    if (done !== undefined) return { state: 'done', reply: cloneReply(done.reply) };
    const lease = this.#getLive(this.#leases, key);
    if (lease !== undefined && lease.owner !== owner) return { state: 'in-progress' };
    if (lease === undefined) this.#evictIfFull();
    this.#lease(key, owner, leaseMs);
    return { state: 'acquired' };
  }

  async renew(key: string, owner: string, leaseMs: number): Promise<boolean> {
    this.#validateCall(key, owner);
    validateDuration('leaseMs', leaseMs);
    if (this.#getLive(this.#leases, key)?.owner !== owner) return false;
    this.#lease(key, owner, leaseMs);
    return true;
  }

  async complete(key: string, owner: string, ttlMs: number, reply?: StoredReply): Promise<boolean> {
    this.#validateCall(key, owner);
    validateDuration('ttlMs', ttlMs);
    const done = this.#getLive(this.#completed, key);
    if (done !== undefined) return done.owner === owner;
    const lease = this.#getLive(this.#leases, key);
    if (lease !== undefined && lease.owner !== owner) return false;
    if (lease === undefined) this.#evictIfFull();
    this.#leases.delete(key);
    this.#completed.set(key, { owner, expiresAtMs: this.#clock.now() + ttlMs, reply: cloneReply(reply) });
    return true;
  }

  async release(key: string, owner: string): Promise<boolean> {
    this.#validateCall(key, owner);
    if (this.#getLive(this.#leases, key)?.owner !== owner) return false;
    return this.#leases.delete(key);
  }

  #validateCall(key: string, owner: string): void {
    const problems = this.validate('memoryIdempotencyStore');
    if (problems.length > 0) throw new StorkConfigError(problems);
    validateKeyAndOwner(key, owner);
  }

  #lease(key: string, owner: string, leaseMs: number): void {
    // Reinserted at the end, so that the map stays in order of expiry.
    this.#leases.delete(key);
    this.#leases.set(key, { owner, expiresAtMs: this.#clock.now() + leaseMs });
  }

  /** An expired entry counts as absent. */
  #getLive<Entry extends LeaseEntry>(entries: Map<string, Entry>, key: string): Entry | undefined {
    const entry = entries.get(key);
    if (entry === undefined || entry.expiresAtMs > this.#clock.now()) return entry;
    entries.delete(key);
    return undefined;
  }

  /** Checks from the oldest entry up to the first that is not expired, so that `begin` stays cheap. */
  #removeExpired(): void {
    const now = this.#clock.now();
    for (const entries of [this.#completed, this.#leases]) {
      for (const [key, { expiresAtMs }] of entries) {
        if (expiresAtMs > now) break;
        entries.delete(key);
      }
    }
  }

  #evictIfFull(): void {
    if (this.#leases.size + this.#completed.size < this.#maxKeys) return;
    const [oldest] = this.#completed.keys();
    if (oldest !== undefined) {
      this.#completed.delete(oldest);
      return;
    }
    const now = this.#clock.now();
    for (const [key, { expiresAtMs }] of this.#leases) if (expiresAtMs <= now) this.#leases.delete(key);
    if (this.#leases.size < this.#maxKeys) return;
    throw new StoreFullError(
      `memoryIdempotencyStore: ${this.#leases.size} leases are active, maxKeys is ${this.#maxKeys}`,
    );
  }
}

/**
 * The stored reply is separate from the buffers of its writer and its readers, which may overwrite them.
 */
function cloneReply(reply: StoredReply | undefined): StoredReply | undefined {
  return reply && { body: Buffer.from(reply.body), contentType: reply.contentType };
}
