import { Fifo } from '../runtime/fifo.js';
import type { StorkClock } from '../runtime/clock.js';
import { StorkConfigError, StoreFullError, type ConfigProblem } from '../runtime/errors.js';
import {
  validateDuration,
  validateKeyAndOwner,
  type BeginOutcome,
  type IdempotencyStore,
  type IdempotencyStoreDefinition,
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
  /** @defaultValue the application's clock */
  readonly clock?: StorkClock;
}

/**
 * An idempotency store in the memory of one application: its keys are lost when the application closes, and
 * other applications and processes do not see them.
 *
 * @publicApi
 */
export function memoryIdempotencyStore(
  options: MemoryIdempotencyStoreOptions = {},
): IdempotencyStoreDefinition {
  const { maxKeys = defaultMaxKeys } = options;
  const validate = (path: string): readonly ConfigProblem[] =>
    Number.isSafeInteger(maxKeys) && maxKeys >= 1
      ? []
      : [{ name: `${path}.maxKeys`, expected: 'an integer from 1 up', given: printable(maxKeys) }];
  return {
    validate,
    createStore({ clock }) {
      const problems = validate('memoryIdempotencyStore');
      if (problems.length > 0) throw new StorkConfigError(problems);
      return new MemoryIdempotencyStore(maxKeys, options.clock ?? clock);
    },
  };
}

interface Entry {
  readonly key: string;
  readonly owner: string;
  readonly expiresAtMs: number;
  readonly isCompleted: boolean;
  readonly reply: StoredReply | undefined;
}

const defaultMaxKeys = 100_000;

class MemoryIdempotencyStore implements IdempotencyStore {
  readonly #maxKeys: number;
  readonly #clock: StorkClock;
  readonly #entries = new Map<string, Entry>();
  /**
   * Every entry in the order in which it was written, replaced and removed ones included. A `Map` is slow as
   * a queue: deleted entries stay in its table until it is rebuilt.
   */
  readonly #leases = new Fifo<Entry>();
  readonly #completed = new Fifo<Entry>();

  constructor(maxKeys: number, clock: StorkClock) {
    this.#maxKeys = maxKeys;
    this.#clock = clock;
  }

  begin(key: string, owner: string, leaseMs: number): BeginOutcome {
    validateKeyAndOwner(key, owner);
    validateDuration('leaseMs', leaseMs);
    const entry = this.#getLive(key);
    if (entry?.isCompleted) return { state: 'done', reply: cloneReply(entry.reply) };
    if (entry !== undefined && entry.owner !== owner) return { state: 'in-progress' };
    if (entry === undefined) this.#makeRoom();
    this.#lease(key, owner, leaseMs);
    return acquired;
  }

  renew(key: string, owner: string, leaseMs: number): boolean {
    validateKeyAndOwner(key, owner);
    validateDuration('leaseMs', leaseMs);
    if (!this.#isLeasedTo(owner, this.#getLive(key))) return false;
    this.#lease(key, owner, leaseMs);
    return true;
  }

  complete(key: string, owner: string, ttlMs: number, reply?: StoredReply): boolean {
    validateKeyAndOwner(key, owner);
    validateDuration('ttlMs', ttlMs);
    const entry = this.#getLive(key);
    if (entry !== undefined && entry.owner !== owner) return false;
    if (entry?.isCompleted) return true;
    if (entry === undefined) this.#makeRoom();
    const expiresAtMs = this.#clock.now() + ttlMs;
    this.#write({ key, owner, expiresAtMs, isCompleted: true, reply: cloneReply(reply) }, this.#completed);
    return true;
  }

  release(key: string, owner: string): boolean {
    validateKeyAndOwner(key, owner);
    return this.#isLeasedTo(owner, this.#getLive(key)) && this.#entries.delete(key);
  }

  #isLeasedTo(owner: string, entry: Entry | undefined): boolean {
    return entry !== undefined && !entry.isCompleted && entry.owner === owner;
  }

  #lease(key: string, owner: string, leaseMs: number): void {
    const expiresAtMs = this.#clock.now() + leaseMs;
    this.#write({ key, owner, expiresAtMs, isCompleted: false, reply: undefined }, this.#leases);
  }

  #write(entry: Entry, order: Fifo<Entry>): void {
    this.#entries.set(entry.key, entry);
    order.push(entry);
    this.#dropObsolete(this.#leases);
    this.#dropObsolete(this.#completed);
  }

  /** An expired entry counts as absent. */
  #getLive(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.expiresAtMs > this.#clock.now()) return entry;
    this.#entries.delete(key);
    return undefined;
  }

  /** Drops what has expired or was replaced from the head of the order, up to the first entry that counts. */
  #dropObsolete(order: Fifo<Entry>): void {
    const now = this.#clock.now();
    for (let first = order.first; first !== undefined; first = order.first) {
      const isCurrent = this.#entries.get(first.key) === first;
      if (isCurrent && first.expiresAtMs > now) return;
      if (isCurrent) this.#entries.delete(first.key);
      order.shift();
    }
  }

  #makeRoom(): void {
    if (this.#entries.size < this.#maxKeys) return;
    this.#dropObsolete(this.#completed);
    const oldest = this.#completed.shift();
    if (oldest !== undefined) {
      this.#entries.delete(oldest.key);
      return;
    }
    const now = this.#clock.now();
    for (const { key, expiresAtMs } of this.#entries.values())
      if (expiresAtMs <= now) this.#entries.delete(key);
    if (this.#entries.size < this.#maxKeys) return;
    throw new StoreFullError(
      `memoryIdempotencyStore: ${this.#entries.size} leases are active, maxKeys is ${this.#maxKeys}`,
    );
  }
}

const acquired: BeginOutcome = { state: 'acquired' };

/**
 * The stored reply is separate from the buffers of its writer and its readers, which may overwrite them.
 */
function cloneReply(reply: StoredReply | undefined): StoredReply | undefined {
  return reply && { body: Buffer.from(reply.body), contentType: reply.contentType };
}
