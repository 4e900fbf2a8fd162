import {
  backoffMs,
  type BackoffOptions,
  type CancelTimer,
  type StorkClock,
} from '../../core/runtime/clock.js';
import type { ConnectionStateCell } from '../../core/port/connection-state.js';
import type { StorkLogger } from '../../core/runtime/logger.js';

export interface RetryBackoffsFields {
  /** `backoff` while anything is away, `ready` when all of it is back. */
  readonly state: ConnectionStateCell;
  /** Shown before each line of the log. */
  readonly name: string;
  readonly reconnect: BackoffOptions;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
}

interface RetryBackoff {
  attempt: number;
  cancel: CancelTimer;
}

/** What cannot be reached for now, each tried again with a back-off of its own: one leader may be away while the others are there. */
export class RetryBackoffs {
  readonly #fields: RetryBackoffsFields;
  readonly #retryBackoffs = new Map<object, RetryBackoff>();

  constructor(fields: RetryBackoffsFields) {
    this.#fields = fields;
  }

  /** Calls `again` when `what` may be tried once more. */
  backOff(what: object, error: Error, again: () => void): void {
    const { state, name, reconnect, clock, random, logger } = this.#fields;
    const attempt = (this.#retryBackoffs.get(what)?.attempt ?? 0) + 1;
    const delayMs = backoffMs(attempt, reconnect, random);
    // Once for a trouble, not once for each try.
    if (this.#retryBackoffs.size === 0) logger.warn(`${name}: ${error.message}; trying again`);
    this.#retryBackoffs.set(what, { attempt, cancel: clock.setTimer(delayMs, again) });
    state.move({ value: 'backoff', attempt, delayMs, error });
  }

  /** `what` is back, or nobody needs it any more. */
  over(what: object): void {
    const outage = this.#retryBackoffs.get(what);
    if (outage === undefined) return;
    outage.cancel();
    this.#retryBackoffs.delete(what);
    if (this.#retryBackoffs.size > 0) return;
    this.#fields.logger.log(`${this.#fields.name}: works again`);
    this.#fields.state.move({ value: 'ready' });
  }

  get any(): boolean {
    return this.#retryBackoffs.size > 0;
  }

  /** Tries nothing any more. */
  end(): void {
    for (const { cancel } of this.#retryBackoffs.values()) cancel();
    this.#retryBackoffs.clear();
  }
}
