import { withTimeout } from '../runtime/with-timeout.js';
import { sleep, systemClock, type CancelTimer, type StorkClock } from '../runtime/clock.js';
import { StoreUnavailableError } from '../runtime/errors.js';
import {
  validateDuration,
  validateKeyAndOwner,
  type BeginOutcome,
  type IdempotencyStore,
  type StoredReply,
} from './idempotency-store.js';
import { printable } from '../message/text.js';

export interface LeaseSettings {
  readonly store: IdempotencyStore;
  readonly key: string;
  /** A new id for each message that is handled. */
  readonly owner: string;
  /** How long the key stays leased when this process crashes during the work, in milliseconds. */
  readonly leaseMs: number;
  /** How long a completed key is remembered, in milliseconds. */
  readonly ttlMs: number;
  /**
   * Time limit for each of begin, complete and release, with all tries, in milliseconds. @defaultValue 5
   * 000
   */
  readonly storeTimeoutMs?: number;
  readonly clock?: StorkClock;
  /**
   * Whether the same owner will call `begin` again after a call without an answer. If so, a lease that the
   * store grants late is kept for that call; else it is released. @defaultValue false
   */
  readonly willRetry?: () => boolean;
}

/** The store's answer to `complete` or `release`, or the error of the last try. */
export type StoreWrite = { readonly applied: boolean } | { readonly error: unknown };

const defaultStoreTimeoutMs = 5_000;
/** Wait before the second try of `complete` or `release`. It doubles. */
const initialRetryDelayMs = 50;
/** Fraction of the store's time limit that is reserved for the last try. */
const lastTryFraction = 0.1;

/**
 * One owner's lease on a key. Every method settles within a time limit, even if the store never answers.
 */
export class Lease {
  readonly #settings: LeaseSettings;
  readonly #clock: StorkClock;
  readonly #storeTimeoutMs: number;
  #isStopped = false;
  #cancelRenewal: CancelTimer = () => {};
  #pendingRenewal: Promise<void> | undefined;
  #wasLost = false;

  /** @throws StorkConfigError for an invalid key, owner or duration */
  constructor(settings: LeaseSettings) {
    const { key, owner, leaseMs, ttlMs, storeTimeoutMs = defaultStoreTimeoutMs } = settings;
    validateKeyAndOwner(key, owner);
    validateDuration('leaseMs', leaseMs);
    validateDuration('ttlMs', ttlMs);
    validateDuration('storeTimeoutMs', storeTimeoutMs);
    this.#settings = settings;
    this.#clock = settings.clock ?? systemClock;
    this.#storeTimeoutMs = storeTimeoutMs;
  }

  /** True if the lease expired for a while: another owner may have worked at the same time. */
  get wasLost(): boolean {
    return this.#wasLost;
  }

  /**
   * Rejects when the store does not answer. An acquired lease is renewed until it is completed or released.
   */
  async begin(): Promise<BeginOutcome> {
    const { store, key, owner } = this.#settings;
    const response = this.#begin();
    let outcome: BeginOutcome;
    try {
      outcome = await this.#withStoreTimeout(this.#storeTimeoutMs, () => response);
    } catch (error) {
      // A lease that is granted after the time limit has no running owner: it would block the key until it
      // expires.
      const isUnused = (): boolean => this.#settings.willRetry?.() !== true;
      response
        .then(({ state }) => (state === 'acquired' && isUnused() ? store.release(key, owner) : undefined))
        .catch(() => {});
      throw error;
    }
    if (outcome.state === 'acquired') this.#scheduleRenewal(this.#clock.now());
    return outcome;
  }

  /**
   * For work that outlives the process's shutdown: its lease expires, and another consumer can take the
   * key.
   */
  stopRenewing(): void {
    this.#isStopped = true;
    this.#cancelRenewal();
  }

  async complete(reply: StoredReply | undefined): Promise<StoreWrite> {
    const { store, key, owner, ttlMs } = this.#settings;
    const write = await this.#writeWithRetry(() => store.complete(key, owner, ttlMs, reply));
    if ('applied' in write && !write.applied) this.#wasLost = true;
    return write;
  }

  async release(): Promise<StoreWrite> {
    const { store, key, owner } = this.#settings;
    return this.#writeWithRetry(() => store.release(key, owner));
  }

  async #begin(): Promise<BeginOutcome> {
    const { store, key, owner, leaseMs } = this.#settings;
    const outcome: BeginOutcome | undefined = await store.begin(key, owner, leaseMs);
    switch (outcome?.state) {
      case 'acquired':
      case 'in-progress':
      case 'done':
        return outcome;
      default:
        throw new StoreUnavailableError(`the idempotency store answered begin with ${printable(outcome)}`);
    }
  }

  /** Renews the lease each time a third of it has passed. */
  #scheduleRenewal(sinceMs: number): void {
    const periodMs = this.#settings.leaseMs / 3;
    const now = this.#clock.now();
    // Due times are a fixed period apart, so that a slow store does not delay the next renewal. A due time
    // in the past becomes now, so that a process that was suspended renews once and not many times.
    const dueAtMs = Math.max(sinceMs + periodMs, now);
    this.#cancelRenewal = this.#clock.setTimer(dueAtMs - now, () => {
      this.#pendingRenewal = this.#renew(periodMs).then((isHeld) => {
        if (isHeld && !this.#isStopped) this.#scheduleRenewal(dueAtMs);
      });
    });
  }

  /** Resolves to false when another owner has the key: there is no lease to renew any more. */
  async #renew(periodMs: number): Promise<boolean> {
    const { store, key, owner, leaseMs } = this.#settings;
    const limitMs = Math.min(periodMs, this.#storeTimeoutMs);
    try {
      if (await this.#withStoreTimeout(limitMs, () => store.renew(key, owner, leaseMs))) return true;
      this.#wasLost = true;
      // The store may have lost the lease, e.g. in a restart: a new one keeps other owners out for the rest
      // of the work.
      const { state } = await this.#withStoreTimeout(limitMs, () => this.#begin());
      return state === 'acquired';
    } catch {
      // The lease may still be valid. The next renewal tries again, and `complete` detects a lost lease.
      return true;
    }
  }

  /**
   * Retries until the store answers or the time limit passes: only this process knows the outcome of the
   * work.
   */
  async #writeWithRetry(write: () => Promise<boolean>): Promise<StoreWrite> {
    this.stopRenewing();
    await this.#pendingRenewal;
    const deadlineMs = this.#clock.now() + this.#storeTimeoutMs;
    const lastTryMs = this.#storeTimeoutMs * lastTryFraction;
    for (let delayMs = initialRetryDelayMs; ; delayMs *= 2) {
      try {
        return {
          applied: await this.#withStoreTimeout(Math.max(1, deadlineMs - this.#clock.now()), write),
        };
      } catch (error) {
        const leftMs = deadlineMs - this.#clock.now() - lastTryMs;
        if (leftMs <= 0) return { error };
        await sleep(this.#clock, Math.min(delayMs, leftMs));
      }
    }
  }

  #withStoreTimeout<T>(limitMs: number, call: () => Promise<T>): Promise<T> {
    const timeoutError = () =>
      new StoreUnavailableError(`the idempotency store did not answer within ${Math.ceil(limitMs)} ms`);
    return withTimeout(call, { clock: this.#clock, limitMs, timeoutError });
  }
}
