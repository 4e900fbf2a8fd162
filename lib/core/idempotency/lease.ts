import { andThen, isThenable, withTimeout } from '../runtime/with-timeout.js';
import { sleep, systemClock, type StorkClock } from '../runtime/clock.js';
import { StoreUnavailableError } from '../runtime/errors.js';
import {
  validateDuration,
  validateKeyAndOwner,
  type BeginOutcome,
  type IdempotencyStore,
  type StoredReply,
} from './idempotency-store.js';
import { LeaseRenewals, type Renewal } from './lease-renewals.js';
import { validateBegin, validateBoolean } from './store-answers.js';

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
  /** Shared by the leases of one handler. @defaultValue its own */
  readonly renewals?: LeaseRenewals;
  /**
   * Whether the same owner will call `begin` again after a call without an answer. If so, a lease that the
   * store grants late is kept for that call; else it is released. @defaultValue false
   */
  readonly willRetry?: () => boolean;
  /**
   * Whether the work is abandoned, e.g. by a shutdown that has not waited for it. Its lease is not renewed
   * any more, so that another consumer can take the key. @defaultValue false
   */
  readonly isAbandoned?: () => boolean;
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
  readonly #renewals: LeaseRenewals;
  /** Set while the lease is held. */
  #renewal: Renewal | undefined;
  #pendingRenewal: Promise<boolean> | undefined;
  #wasLost = false;
  #renewError: unknown;

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
    this.#renewals = settings.renewals ?? new LeaseRenewals(this.#clock, leaseMs);
  }

  /** True if the lease expired for a while: another owner may have worked at the same time. */
  get wasLost(): boolean {
    return this.#wasLost;
  }

  /** Set if the store has answered a renewal with something else than a boolean. */
  get renewError(): unknown {
    return this.#renewError;
  }

  /**
   * Throws or rejects when the store does not answer. An acquired lease is renewed until it is completed or
   * released.
   */
  begin(): BeginOutcome | Promise<BeginOutcome> {
    const { store, key, owner, leaseMs } = this.#settings;
    const response = store.begin(key, owner, leaseMs);
    return isThenable(response) ? this.#beginWithin(Promise.resolve(response)) : this.#begun(response);
  }

  async #beginWithin(response: Promise<BeginOutcome>): Promise<BeginOutcome> {
    const { store, key, owner, willRetry } = this.#settings;
    try {
      return this.#begun(await this.#withStoreTimeout(this.#storeTimeoutMs, () => response));
    } catch (error) {
      // A lease that is granted after the time limit has no running owner: it would block the key until it
      // expires.
      response
        .then((late) =>
          late?.state === 'acquired' && willRetry?.() !== true ? store.release(key, owner) : undefined,
        )
        .catch(() => {});
      throw error;
    }
  }

  #begun(answer: BeginOutcome | undefined): BeginOutcome {
    const outcome = validateBegin(answer);
    if (outcome.state === 'acquired') this.#renewal = this.#renewals.add(this);
    return outcome;
  }

  stopIfAbandoned(): void {
    if (this.#settings.isAbandoned?.() === true) this.#stopRenewing();
  }

  #stopRenewing(): void {
    if (this.#renewal === undefined) return;
    this.#renewals.remove(this.#renewal);
    this.#renewal = undefined;
  }

  complete(reply: StoredReply | undefined): StoreWrite | Promise<StoreWrite> {
    const { store, key, owner, ttlMs } = this.#settings;
    return andThen(
      this.#write('complete', () => store.complete(key, owner, ttlMs, reply)),
      (write) => {
        if ('applied' in write && !write.applied) this.#wasLost = true;
        return write;
      },
    );
  }

  release(): StoreWrite | Promise<StoreWrite> {
    const { store, key, owner } = this.#settings;
    return this.#write('release', () => store.release(key, owner));
  }

  /** Called by the renewals: resolves with false when another owner has the key. */
  renew(periodMs: number): Promise<boolean> {
    const renewal = this.#renew(Math.min(periodMs, this.#storeTimeoutMs)).finally(() => {
      this.#pendingRenewal = undefined;
    });
    this.#pendingRenewal = renewal;
    return renewal;
  }

  async #renew(limitMs: number): Promise<boolean> {
    const { store, key, owner, leaseMs } = this.#settings;
    try {
      const answer = await this.#withStoreTimeout(limitMs, () => store.renew(key, owner, leaseMs));
      if (this.#wasRenewed(answer)) return true;
      this.#wasLost = true;
      // The store may have lost the lease, e.g. in a restart: a new one keeps other owners out for the rest
      // of the work.
      const outcome = await this.#withStoreTimeout(limitMs, () => store.begin(key, owner, leaseMs));
      return outcome.state === 'acquired';
    } catch {
      // The lease may still be valid. The next renewal tries again, and `complete` detects a lost lease.
      return true;
    }
  }

  /** A wrong answer does not say that the lease was lost. */
  #wasRenewed(answer: unknown): boolean {
    try {
      return validateBoolean('renew', answer);
    } catch (error) {
      this.#renewError = error;
      return true;
    }
  }

  #write(
    name: 'complete' | 'release',
    call: () => boolean | PromiseLike<boolean>,
  ): StoreWrite | Promise<StoreWrite> {
    return andThen(this.#callWithRetry(call), (write) =>
      'applied' in write ? toWrite(name, write.applied) : write,
    );
  }

  #callWithRetry(call: () => boolean | PromiseLike<boolean>): StoreWrite | Promise<StoreWrite> {
    this.#stopRenewing();
    if (this.#pendingRenewal !== undefined)
      return this.#pendingRenewal.then(() => this.#writeWithRetry(call));
    try {
      const applied = call();
      return isThenable(applied) ? this.#writeWithRetry(() => applied, call) : { applied };
    } catch (error) {
      return this.#writeWithRetry(() => Promise.reject(error), call);
    }
  }

  /**
   * Retries until the store answers or the time limit passes: only this process knows the outcome of the
   * work.
   */
  async #writeWithRetry(first: () => boolean | PromiseLike<boolean>, again = first): Promise<StoreWrite> {
    const deadlineMs = this.#clock.now() + this.#storeTimeoutMs;
    const lastTryMs = this.#storeTimeoutMs * lastTryFraction;
    let call = first;
    for (let delayMs = initialRetryDelayMs; ; delayMs *= 2) {
      try {
        return { applied: await this.#withStoreTimeout(Math.max(1, deadlineMs - this.#clock.now()), call) };
      } catch (error) {
        const leftMs = deadlineMs - this.#clock.now() - lastTryMs;
        if (leftMs <= 0) return { error };
        await sleep(this.#clock, Math.min(delayMs, leftMs));
        call = again;
      }
    }
  }

  #withStoreTimeout<T>(limitMs: number, call: () => T | PromiseLike<T>): Promise<T> {
    const timeoutError = () =>
      new StoreUnavailableError(`the idempotency store did not answer within ${Math.ceil(limitMs)} ms`);
    return withTimeout(call, { clock: this.#clock, limitMs, timeoutError });
  }
}

/** A store that answers something else than a boolean would do so again: no retry. */
function toWrite(call: 'complete' | 'release', answer: unknown): StoreWrite {
  try {
    return { applied: validateBoolean(call, answer) };
  } catch (error) {
    return { error };
  }
}
