import type { CancelTimer, StorkClock } from '../runtime/clock.js';
import type { Counters } from '../runtime/counters.js';
import { RequestTimeoutError, StorkConfigError, TooManyPendingError } from '../runtime/errors.js';
import type { InboundReply } from '../port/message.js';

/** Whoever waits for the answer to one request. `reply` may be called many times, `fail` ends it. */
export interface Waiter {
  reply(reply: InboundReply): void;
  fail(error: Error): void;
}

interface Pending {
  readonly waiter: Waiter;
  readonly timeoutMs: number;
  readonly describe: () => string;
  dueAt: number;
}

/** Of so many requests that were given up a late answer is recognised. */
const maxCancelledIds = 10_000;

/** Requests without a full answer, by their id. One timer serves all of them: most requests never see it fire. */
export class PendingRequests {
  readonly #pending = new Map<string, Pending>();
  readonly #maxPending: number;
  readonly #clock: StorkClock;
  readonly #counters: Counters;
  /** Ids whose answer would come too late, oldest first. */
  readonly #givenUp = new Set<string>();
  #timer: { readonly dueAt: number; readonly cancel: CancelTimer } | undefined;

  constructor(maxPending: number, clock: StorkClock, counters: Counters) {
    this.#maxPending = maxPending;
    this.#clock = clock;
    this.#counters = counters;
  }

  get size(): number {
    return this.#pending.size;
  }

  /**
   * To be called before the request's bytes leave, or a fast answer finds nobody.
   *
   * @throws TooManyPendingError, or StorkConfigError where the id is already waiting
   */
  register(id: string, waiter: Waiter, timeoutMs: number, describe: () => string): void {
    if (this.#pending.has(id)) {
      throw new StorkConfigError(
        `a request with the correlation id ${JSON.stringify(id)} is already waiting for its reply`,
      );
    }
    if (this.#pending.size >= this.#maxPending) {
      throw new TooManyPendingError(
        `${this.#pending.size} requests wait for a reply, maxPending allows no more`,
      );
    }
    const dueAt = this.#clock.now() + timeoutMs;
    this.#pending.set(id, { waiter, timeoutMs, describe, dueAt });
    this.#arm(dueAt);
  }

  /** Forgets a request whose caller lost interest; another one with the same id stays. */
  forget(id: string, waiter: Waiter): void {
    if (this.#pending.get(id)?.waiter !== waiter) return;
    this.#remove(id);
    this.#rememberCancelled(id);
  }

  settle(reply: InboundReply): void {
    const pending = this.#pending.get(reply.correlationId);
    if (pending === undefined) {
      // On a shared reply topic most of what we never asked for is somebody else's answer.
      if (this.#givenUp.has(reply.correlationId)) this.#counters.add('late-replies');
      return;
    }
    if (reply.kind === 'item') {
      // A stream lives as long as its items keep coming.
      pending.dueAt = this.#clock.now() + pending.timeoutMs;
    } else {
      this.#remove(reply.correlationId);
    }
    pending.waiter.reply(reply);
  }

  failAll(error: Error): void {
    const all = [...this.#pending.values()];
    this.#pending.clear();
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const { waiter } of all) waiter.fail(error);
  }

  #rememberCancelled(id: string): void {
    this.#givenUp.add(id);
    if (this.#givenUp.size <= maxCancelledIds) return;
    for (const oldest of this.#givenUp) return void this.#givenUp.delete(oldest);
  }

  /** Without anybody waiting no timer may keep the process alive. */
  #remove(id: string): void {
    this.#pending.delete(id);
    if (this.#pending.size > 0) return;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(dueAt: number): void {
    if (this.#timer !== undefined && this.#timer.dueAt <= dueAt) return;
    this.#timer?.cancel();
    const cancel = this.#clock.setTimer(dueAt - this.#clock.now(), () => this.#sweep());
    this.#timer = { dueAt, cancel };
  }

  #sweep(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    let nextDueAt = Infinity;
    for (const [id, pending] of this.#pending) {
      if (pending.dueAt <= now) {
        this.#pending.delete(id);
        this.#rememberCancelled(id);
        pending.waiter.fail(new RequestTimeoutError(pending.describe()));
      } else {
        nextDueAt = Math.min(nextDueAt, pending.dueAt);
      }
    }
    if (nextDueAt !== Infinity) this.#arm(nextDueAt);
  }
}
