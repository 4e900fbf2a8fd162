import { withTimeout } from '../runtime/with-timeout.js';
import { sleep, systemClock, type CancelTimer, type StorkClock } from '../runtime/clock.js';
import { StoreUnavailableError } from '../runtime/errors.js';
import {
  checkDuration,
  checkHolder,
  type BeginOutcome,
  type IdempotencyStore,
  type StoredReply,
} from './idempotency-store.js';
import { printable } from '../message/text.js';

export interface LeaseSettings {
  readonly store: IdempotencyStore;
  readonly key: string;
  /** A new id for each run. */
  readonly owner: string;
  /** How long the key stays taken when this process dies while it works, in milliseconds. */
  readonly leaseMs: number;
  /** How long a completed key is remembered, in milliseconds. */
  readonly ttlMs: number;
  /** How long the store may take for one step, all tries together, in milliseconds. @defaultValue 5 000 */
  readonly storeTimeoutMs?: number;
  readonly clock?: StorkClock;
  /** Whether the owner, whose question was not answered, asks again: a lease that it has got all the same is then its own. @defaultValue false */
  readonly isAskedAgain?: () => boolean;
}

/** What the store said at the end of a run, or why it said nothing. */
export type StoreWrite = { readonly applied: boolean } | { readonly error: unknown };

const defaultStoreTimeoutMs = 5_000;
/** Wait before the end of a run is told again to a store that failed. Doubles. */
const firstPauseMs = 50;
/** Of the time that a step may take: what is left for the last try. */
const lastTryShare = 0.1;

/** The hold of one run on its key. Every step ends in time, whatever the store does. */
export class Lease {
  readonly #settings: LeaseSettings;
  readonly #clock: StorkClock;
  readonly #storeTimeoutMs: number;
  #isOver = false;
  #cancelRenewal: CancelTimer = () => {};
  #renewing: Promise<void> | undefined;
  #wasLost = false;

  /** @throws StorkConfigError for settings that no store can take */
  constructor(settings: LeaseSettings) {
    const { key, owner, leaseMs, ttlMs, storeTimeoutMs = defaultStoreTimeoutMs } = settings;
    checkHolder(key, owner);
    checkDuration('leaseMs', leaseMs);
    checkDuration('ttlMs', ttlMs);
    checkDuration('storeTimeoutMs', storeTimeoutMs);
    this.#settings = settings;
    this.#clock = settings.clock ?? systemClock;
    this.#storeTimeoutMs = storeTimeoutMs;
  }

  /** For a while the key was not ours: another owner may have worked at the same time. */
  get wasLost(): boolean {
    return this.#wasLost;
  }

  /** Rejects where the store does not answer. Once acquired, the lease is renewed until it is completed or released. */
  async begin(): Promise<BeginOutcome> {
    const { store, key, owner } = this.#settings;
    const asked = this.#begin();
    let outcome: BeginOutcome;
    try {
      outcome = await this.#within(this.#storeTimeoutMs, () => asked);
    } catch (error) {
      // An answer that comes too late must not keep the key from the next run until the lease is over.
      const isNobodys = (): boolean => this.#settings.isAskedAgain?.() !== true;
      asked
        .then(({ state }) => (state === 'acquired' && isNobodys() ? store.release(key, owner) : undefined))
        .catch(() => {});
      throw error;
    }
    if (outcome.state === 'acquired') this.#keepFrom(this.#clock.now());
    return outcome;
  }

  /** Renews it no more: what still works is on its way out of the process, and must not keep the key from who comes after. */
  stopRenewing(): void {
    this.#isOver = true;
    this.#cancelRenewal();
  }

  /** Makes the key done. */
  async complete(reply: StoredReply | undefined): Promise<StoreWrite> {
    const { store, key, owner, ttlMs } = this.#settings;
    const written = await this.#end(() => store.complete(key, owner, ttlMs, reply));
    if ('applied' in written && !written.applied) this.#wasLost = true;
    return written;
  }

  /** Frees the key. */
  async release(): Promise<StoreWrite> {
    const { store, key, owner } = this.#settings;
    return this.#end(() => store.release(key, owner));
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

  /** Renewed when a third of it is over, as long as it is kept. */
  #keepFrom(sinceMs: number): void {
    const periodMs = this.#settings.leaseMs / 3;
    const now = this.#clock.now();
    // A slow store does not make the next renewal late; a process that slept does not renew many times at once.
    const dueAtMs = Math.max(sinceMs + periodMs, now);
    this.#cancelRenewal = this.#clock.setTimer(dueAtMs - now, () => {
      this.#renewing = this.#renew(periodMs).then((shouldDeadLetter) => {
        if (shouldDeadLetter && !this.#isOver) this.#keepFrom(dueAtMs);
      });
    });
  }

  /** False: another owner has the key, and there is nothing left to keep. */
  async #renew(periodMs: number): Promise<boolean> {
    const { store, key, owner, leaseMs } = this.#settings;
    const limitMs = Math.min(periodMs, this.#storeTimeoutMs);
    try {
      if (await this.#within(limitMs, () => store.renew(key, owner, leaseMs))) return true;
      this.#wasLost = true;
      // The store has forgotten it, by a restart for example: taking it again keeps others out from here on.
      const { state } = await this.#within(limitMs, () => this.#begin());
      return state === 'acquired';
    } catch {
      // The lease may still run: tried again with the next renewal, and the end of the run tells what became of it.
      return true;
    }
  }

  /** Tells the store again until it has answered or its time is over: the work was done, and nobody but us can say so. */
  async #end(tell: () => Promise<boolean>): Promise<StoreWrite> {
    this.stopRenewing();
    await this.#renewing;
    const giveUpAtMs = this.#clock.now() + this.#storeTimeoutMs;
    const lastTryMs = this.#storeTimeoutMs * lastTryShare;
    for (let pauseMs = firstPauseMs; ; pauseMs *= 2) {
      try {
        return { applied: await this.#within(Math.max(1, giveUpAtMs - this.#clock.now()), tell) };
      } catch (error) {
        const leftMs = giveUpAtMs - this.#clock.now() - lastTryMs;
        if (leftMs <= 0) return { error };
        await sleep(this.#clock, Math.min(pauseMs, leftMs));
      }
    }
  }

  #within<T>(limitMs: number, ask: () => Promise<T>): Promise<T> {
    const timeoutError = () =>
      new StoreUnavailableError(`the idempotency store did not answer within ${Math.ceil(limitMs)} ms`);
    return withTimeout(ask, { clock: this.#clock, limitMs, timeoutError });
  }
}
