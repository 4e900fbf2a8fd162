import type { CancelTimer, StorkClock } from '../runtime/clock.js';
import { Fifo } from '../runtime/fifo.js';

/** A lease that is renewed while its work runs. */
interface Renewable {
  stopIfAbandoned(): void;
  /** Resolves with false if there is no lease to renew any more. Never rejects. */
  renew(limitMs: number): Promise<boolean>;
}

/** A scheduled renewal. */
export interface Renewal {
  /**
   * Undefined when the lease has stopped: the renewal stays scheduled for up to a third of the lease's
   * duration, and must not keep the message in memory.
   */
  lease: Renewable | undefined;
  atMs: number;
}

/**
 * Renews the leases of one handler, each time a third of its duration has passed. All have the same
 * duration, so the one that began first is due first, and one timer serves them all.
 */
export class LeaseRenewals {
  readonly #clock: StorkClock;
  readonly #periodMs: number;
  #due = new Fifo<Renewal>();
  #live = 0;
  #cancelTimer: CancelTimer | undefined;

  constructor(clock: StorkClock, leaseMs: number) {
    this.#clock = clock;
    this.#periodMs = leaseMs / 3;
  }

  add(lease: Renewable): Renewal {
    this.#live++;
    const renewal = { lease, atMs: this.#clock.now() + this.#periodMs };
    this.#schedule(renewal);
    return renewal;
  }

  /** Called once for each lease that was added, when it has stopped. */
  remove(renewal: Renewal): void {
    renewal.lease = undefined;
    this.#live--;
    if (this.#live > 0) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#due = new Fifo();
  }

  #schedule(renewal: Renewal): void {
    this.#due.push(renewal);
    if (this.#cancelTimer === undefined) this.#arm();
  }

  #arm(): void {
    let next = this.#due.first;
    for (; next !== undefined && next.lease === undefined; next = this.#due.first) this.#due.shift();
    if (next === undefined) return;
    this.#cancelTimer = this.#clock.setTimer(Math.max(0, next.atMs - this.#clock.now()), () =>
      this.#renewDue(),
    );
  }

  #renewDue(): void {
    this.#cancelTimer = undefined;
    const now = this.#clock.now();
    for (let next = this.#due.first; next !== undefined && next.atMs <= now; next = this.#due.first) {
      this.#due.shift();
      next.lease?.stopIfAbandoned();
      this.#renew(next);
    }
    this.#arm();
  }

  #renew(renewal: Renewal): void {
    void renewal.lease?.renew(this.#periodMs).then((isHeld) => {
      if (!isHeld || renewal.lease === undefined) return;
      // Due times are a fixed period apart, so that a slow store does not delay the next renewal. One in the
      // past becomes now, so that a process that was suspended renews once and not many times.
      renewal.atMs = Math.max(renewal.atMs + this.#periodMs, this.#clock.now());
      this.#schedule(renewal);
    });
  }
}
