import { RequestTimeoutError, StorkConfigError, TooManyPendingError } from './errors.js';
/** Of so many requests that were given up a late answer is recognised. */
const mostGivenUp = 10_000;
/** Requests without a full answer, by their id. One timer serves all of them: most requests never see it fire. */
export class PendingRequests {
  #pending = new Map();
  #maxPending;
  #clock;
  #counters;
  /** Ids whose answer would come too late, oldest first. */
  #givenUp = new Set();
  #timer;
  constructor(maxPending, clock, counters) {
    this.#maxPending = maxPending;
    this.#clock = clock;
    this.#counters = counters;
  }
  get size() {
    return this.#pending.size;
  }
  /**
   * To be called before the request's bytes leave, or a fast answer finds nobody.
   *
   * @throws TooManyPendingError, or StorkConfigError where the id is already waiting
   */
  register(id, waiter, timeoutMs, describe) {
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
  forget(id, waiter) {
    if (this.#pending.get(id)?.waiter !== waiter) return;
    this.#remove(id);
    this.#noteGivenUp(id);
  }
  settle(reply) {
    const pending = this.#pending.get(reply.correlationId);
    if (pending === undefined) {
      // On a shared reply topic most of what we never asked for is somebody else's answer.
      if (this.#givenUp.has(reply.correlationId)) this.#counters.add('reply-late');
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
  failAll(error) {
    const all = [...this.#pending.values()];
    this.#pending.clear();
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const { waiter } of all) waiter.fail(error);
  }
  #noteGivenUp(id) {
    this.#givenUp.add(id);
    if (this.#givenUp.size <= mostGivenUp) return;
    for (const oldest of this.#givenUp) return void this.#givenUp.delete(oldest);
  }
  /** Without anybody waiting no timer may keep the process alive. */
  #remove(id) {
    this.#pending.delete(id);
    if (this.#pending.size > 0) return;
    this.#timer?.cancel();
    this.#timer = undefined;
  }
  #arm(dueAt) {
    if (this.#timer !== undefined && this.#timer.dueAt <= dueAt) return;
    this.#timer?.cancel();
    const cancel = this.#clock.setTimer(dueAt - this.#clock.now(), () => this.#sweep());
    this.#timer = { dueAt, cancel };
  }
  #sweep() {
    this.#timer = undefined;
    const now = this.#clock.now();
    let nextDueAt = Infinity;
    for (const [id, pending] of this.#pending) {
      if (pending.dueAt <= now) {
        this.#pending.delete(id);
        this.#noteGivenUp(id);
        pending.waiter.fail(new RequestTimeoutError(pending.describe()));
      } else {
        nextDueAt = Math.min(nextDueAt, pending.dueAt);
      }
    }
    if (nextDueAt !== Infinity) this.#arm(nextDueAt);
  }
}
