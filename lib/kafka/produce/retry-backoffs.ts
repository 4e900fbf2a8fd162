import {
  backoffMs,
  type BackoffOptions,
  type CancelTimer,
  type StorkClock,
} from '../../core/runtime/clock.js';
import type { ConnectionStateCell } from '../../core/port/connection-state.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';

export interface RetryBackoffsFields {
  /** Moved to `backoff` with the first failing target, and to `ready` when the last one has recovered. */
  readonly state: ConnectionStateCell;
  /** Prefix of log lines. */
  readonly name: string;
  readonly reconnect: BackoffOptions;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
}

interface RetryBackoff {
  attempt: number;
  cancelTimer: CancelTimer;
}

/**
 * One back-off per failing target: a partition, the metadata of a topic, the opening of a producer. They
 * are independent, because one partition leader can be unavailable while the others accept requests.
 */
export class RetryBackoffs {
  readonly #fields: RetryBackoffsFields;
  readonly #backoffs = new Map<object, RetryBackoff>();

  constructor(fields: RetryBackoffsFields) {
    this.#fields = fields;
  }

  get isActive(): boolean {
    return this.#backoffs.size > 0;
  }

  /** Calls `retry` after a delay that grows with each failure of `target`. */
  schedule(target: object, error: Error, retry: () => void): void {
    const { state, name, reconnect, clock, random, logger } = this.#fields;
    const attempt = (this.#backoffs.get(target)?.attempt ?? 0) + 1;
    const delayMs = backoffMs(attempt, reconnect, random);
    // One line per outage, not one per retry.
    if (this.#backoffs.size === 0) logger.warn(`${name}: ${error.message}; retrying`);
    this.#backoffs.set(target, { attempt, cancelTimer: clock.setTimer(delayMs, retry) });
    state.move({ value: 'backoff', attempt, delayMs, error });
  }

  /** `target` has recovered. */
  clear(target: object): void {
    if (this.forget(target)) this.#fields.logger.log(`${this.#fields.name}: recovered`);
  }

  /** `target` has nothing left to send. Returns true if it was the last one with a back-off. */
  forget(target: object): boolean {
    const backoff = this.#backoffs.get(target);
    if (backoff === undefined) return false;
    backoff.cancelTimer();
    this.#backoffs.delete(target);
    if (this.#backoffs.size > 0) return false;
    this.#fields.state.move({ value: 'ready' });
    return true;
  }

  /** Cancels all retries. */
  cancelAll(): void {
    for (const { cancelTimer } of this.#backoffs.values()) cancelTimer();
    this.#backoffs.clear();
  }
}
