import type { CancelTimer, StorkClock } from '../runtime/clock.js';
import type { Counters } from '../runtime/reporting.js';
import { RequestTimeoutError, StorkConfigError, TooManyPendingError } from '../runtime/errors.js';
import type { InboundReply } from '../port/message.js';

/**
 * Receives the reply to one request. `reply` is called once for each reply message; after `fail` no more
 * calls follow.
 */
export interface ReplyReceiver {
  reply(reply: InboundReply): void;
  fail(error: Error): void;
}

interface PendingRequest {
  readonly receiver: ReplyReceiver;
  readonly timeoutMs: number;
  readonly describe: () => string;
  dueAt: number;
}

/** Number of cancelled and timed-out requests whose late replies are counted as `late-replies`. */
const maxCancelledIds = 10_000;

/**
 * Requests whose reply is not complete, by their id. They share one timer, because most replies arrive
 * before it fires.
 */
export class PendingRequests {
  readonly #pending = new Map<string, PendingRequest>();
  readonly #maxPending: number;
  readonly #clock: StorkClock;
  readonly #counters: Counters;
  /** Ids of cancelled and timed-out requests, oldest first. */
  readonly #cancelledIds = new Set<string>();
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
   * Called before the request is sent: a fast reply would be dropped otherwise.
   *
   * @throws TooManyPendingError, or StorkConfigError if a pending request has the same id
   */
  register(id: string, receiver: ReplyReceiver, timeoutMs: number, describe: () => string): void {
    if (this.#pending.has(id)) {
      throw new StorkConfigError(`a request with the id ${JSON.stringify(id)} is already pending`);
    }
    if (this.#pending.size >= this.#maxPending) {
      throw new TooManyPendingError(`${this.#pending.size} requests are pending, maxPending allows no more`);
    }
    const dueAt = this.#clock.now() + timeoutMs;
    this.#pending.set(id, { receiver: receiver, timeoutMs, describe, dueAt });
    this.#arm(dueAt);
  }

  /** Removes a request that its caller has cancelled. A newer request with the same id stays. */
  cancel(id: string, receiver: ReplyReceiver): void {
    if (this.#pending.get(id)?.receiver !== receiver) return;
    this.#remove(id);
    this.#rememberCancelled(id);
  }

  handleReply(reply: InboundReply): void {
    const pending = this.#pending.get(reply.correlationId);
    if (pending === undefined) {
      // A reply to an unknown id is not an error: clients that share a reply topic receive each other's
      // replies.
      if (this.#cancelledIds.has(reply.correlationId)) this.#counters.add('late-replies');
      return;
    }
    if (reply.kind === 'item') {
      // Each item of a stream restarts the time-out.
      pending.dueAt = this.#clock.now() + pending.timeoutMs;
    } else {
      this.#remove(reply.correlationId);
    }
    pending.receiver.reply(reply);
  }

  failAll(error: Error): void {
    const all = [...this.#pending.values()];
    this.#pending.clear();
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const { receiver } of all) receiver.fail(error);
  }

  #rememberCancelled(id: string): void {
    this.#cancelledIds.add(id);
    if (this.#cancelledIds.size <= maxCancelledIds) return;
    for (const oldest of this.#cancelledIds) return void this.#cancelledIds.delete(oldest);
  }

  /** Without a pending request no timer may keep the process alive. */
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
        pending.receiver.fail(new RequestTimeoutError(pending.describe()));
      } else {
        nextDueAt = Math.min(nextDueAt, pending.dueAt);
      }
    }
    if (nextDueAt !== Infinity) this.#arm(nextDueAt);
  }
}
