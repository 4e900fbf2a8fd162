import type { CancelTimer, StorkClock } from '../runtime/clock.js';
import { Fifo } from '../runtime/fifo.js';

/** A lease that is renewed while its work runs. */
interface Renewable {
  readonly isStopped: boolean;
  stopIfAbandoned(): void;
  /** Resolves with false if there is no lease to renew any more. Never rejects. */
  renew(limitMs: number): Promise<boolean>;
}

interface Due {
  readonly lease: Renewable;
  readonly atMs: number;
}

/**
 * Renews the leases of one handler, each time a third of its duration has passed. All have the same
 * duration, so the one that began first is due first, and one timer serves them all.
 */
export class LeaseRenewals {
  readonly #clock: StorkClock;
  readonly #periodMs: number;
  #due = new Fifo<Due>();
  #live = 0;
  #cancelTimer: CancelTimer | undefined;

  constructor(clock: StorkClock, leaseMs: number) {
    this.#clock = clock;
    this.#periodMs = leaseMs / 3;
  }

  add(lease: Renewable): void {
    this.#live++;
    this.#schedule(lease, this.#clock.now() + this.#periodMs);
  }

  /** Called once for each lease that was added, when it has stopped. */
  remove(): void {
    this.#live--;
    if (this.#live > 0) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#due = new Fifo();
  }

  #schedule(lease: Renewable, atMs: number): void {
    this.#due.push({ lease, atMs });
    if (this.#cancelTimer === undefined) this.#arm();
  }

  #arm(): void {
    while (this.#due.first?.lease.isStopped) this.#due.shift();
    const next = this.#due.first;
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
      next.lease.stopIfAbandoned();
      if (!next.lease.isStopped) this.#renew(next);
    }
    this.#arm();
  }

  #renew({ lease, atMs }: Due): void {
    void lease.renew(this.#periodMs).then((isHeld) => {
      if (!isHeld || lease.isStopped) return;
      // Due times are a fixed period apart, so that a slow store does not delay the next renewal. One in the
      // past becomes now, so that a process that was suspended renews once and not many times.
      this.#schedule(lease, Math.max(atMs + this.#periodMs, this.#clock.now()));
    });
  }
}
