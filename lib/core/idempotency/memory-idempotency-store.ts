import { systemClock, type StorkClock } from '../runtime/clock.js';
import { StorkConfigError, StoreFullError, type ConfigProblem } from '../runtime/errors.js';
import {
  checkDuration,
  checkHolder,
  type BeginOutcome,
  type IdempotencyStore,
  type StoredReply,
} from './idempotency-store.js';
import { printable } from '../message/text.js';

/** Options of `memoryIdempotencyStore()`. @publicApi */
export interface MemoryIdempotencyStoreOptions {
  /**
   * Keys held at most, an integer from 1 up. At the bound the key that was done longest ago is forgotten, so its duplicate would run
   * again; a running lease never is. Replies count as one key each, whatever their size. @defaultValue 100 000
   */
  readonly maxKeys?: number;
  /** Where time comes from. @defaultValue the system's clock */
  readonly clock?: StorkClock;
}

/**
 * An idempotency store for one process: what it remembers ends with it, and other processes do not see it.
 *
 * @publicApi
 */
export function memoryIdempotencyStore(options: MemoryIdempotencyStoreOptions = {}): IdempotencyStore {
  return new MemoryIdempotencyStore(options);
}

interface DeferredSettlement {
  readonly owner: string;
  readonly endsAtMs: number;
}

interface Done extends DeferredSettlement {
  readonly reply: StoredReply | undefined;
}

const defaultMaxKeys = 100_000;

class MemoryIdempotencyStore implements IdempotencyStore {
  readonly #options: MemoryIdempotencyStoreOptions;
  readonly #maxKeys: number;
  readonly #clock: StorkClock;
  readonly #leases = new Map<string, DeferredSettlement>();
  /** In order of completion: the oldest is the first. */
  readonly #done = new Map<string, Done>();

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

  // Without an await inside, each call is atomic.
  async begin(key: string, owner: string, leaseMs: number): Promise<BeginOutcome> {
    this.#check(key, owner);
    checkDuration('leaseMs', leaseMs);
    this.#forgetOutlived();
    const done = this.#read(this.#done, key);
    if (done !== undefined) return { state: 'done', reply: copyOf(done.reply) };
    const lease = this.#read(this.#leases, key);
    if (lease !== undefined && lease.owner !== owner) return { state: 'in-progress' };
    if (lease === undefined) this.#makeRoom();
    this.#lease(key, owner, leaseMs);
    return { state: 'acquired' };
  }

  async renew(key: string, owner: string, leaseMs: number): Promise<boolean> {
    this.#check(key, owner);
    checkDuration('leaseMs', leaseMs);
    if (this.#read(this.#leases, key)?.owner !== owner) return false;
    this.#lease(key, owner, leaseMs);
    return true;
  }

  async complete(key: string, owner: string, ttlMs: number, reply?: StoredReply): Promise<boolean> {
    this.#check(key, owner);
    checkDuration('ttlMs', ttlMs);
    const done = this.#read(this.#done, key);
    if (done !== undefined) return done.owner === owner;
    const lease = this.#read(this.#leases, key);
    if (lease !== undefined && lease.owner !== owner) return false;
    if (lease === undefined) this.#makeRoom();
    this.#leases.delete(key);
    this.#done.set(key, { owner, endsAtMs: this.#clock.now() + ttlMs, reply: copyOf(reply) });
    return true;
  }

  async release(key: string, owner: string): Promise<boolean> {
    this.#check(key, owner);
    if (this.#read(this.#leases, key)?.owner !== owner) return false;
    return this.#leases.delete(key);
  }

  #check(key: string, owner: string): void {
    const problems = this.validate('memoryIdempotencyStore');
    if (problems.length > 0) throw new StorkConfigError(problems);
    checkHolder(key, owner);
  }

  #lease(key: string, owner: string, leaseMs: number): void {
    // To the end of the order, so that those that were not renewed for long stand first.
    this.#leases.delete(key);
    this.#leases.set(key, { owner, endsAtMs: this.#clock.now() + leaseMs });
  }

  /** What has run out is not there. */
  #read<Entry extends DeferredSettlement>(entries: Map<string, Entry>, key: string): Entry | undefined {
    const entry = entries.get(key);
    if (entry === undefined || entry.endsAtMs > this.#clock.now()) return entry;
    entries.delete(key);
    return undefined;
  }

  /** Only from the front, where with equal durations everything that has run out stands: a begin stays cheap. */
  #forgetOutlived(): void {
    const now = this.#clock.now();
    for (const entries of [this.#done, this.#leases]) {
      for (const [key, { endsAtMs }] of entries) {
        if (endsAtMs > now) break;
        entries.delete(key);
      }
    }
  }

  #makeRoom(): void {
    if (this.#leases.size + this.#done.size < this.#maxKeys) return;
    const [oldest] = this.#done.keys();
    if (oldest !== undefined) {
      this.#done.delete(oldest);
      return;
    }
    const now = this.#clock.now();
    for (const [key, { endsAtMs }] of this.#leases) if (endsAtMs <= now) this.#leases.delete(key);
    if (this.#leases.size < this.#maxKeys) return;
    throw new StoreFullError(
      `memoryIdempotencyStore: ${this.#leases.size} leases run at once, maxKeys is ${this.#maxKeys}`,
    );
  }
}

/** Neither the one who stores it nor the one who reads it may change what the next one gets. */
function copyOf(reply: StoredReply | undefined): StoredReply | undefined {
  return reply && { body: Buffer.from(reply.body), contentType: reply.contentType };
}
