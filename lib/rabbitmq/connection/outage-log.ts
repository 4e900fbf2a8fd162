import type { StorkClock } from '../../core/runtime/clock.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';

const repeatAfterMs = 60_000;

export interface OutageLogFields {
  readonly logger: StorkLogger;
  readonly clock: StorkClock;
}

/**
 * Logs why a connection or channel is lost: at first, when the reason changes, once a minute while it lasts,
 * and its recovery. An operator sees a changed password behind a broker that was restarted, and no line for
 * each attempt.
 */
export class OutageLog {
  readonly #fields: OutageLogFields;
  /** When each reason of this outage was last logged: of several addresses each may have its own. */
  readonly #loggedAt = new Map<string, number>();
  #isLost = false;

  constructor(fields: OutageLogFields) {
    this.#fields = fields;
  }

  failed(reason: string): void {
    const now = this.#fields.clock.now();
    for (const [logged, at] of this.#loggedAt) if (now - at >= repeatAfterMs) this.#loggedAt.delete(logged);
    this.#isLost = true;
    if (this.#loggedAt.has(reason)) return;
    this.#loggedAt.set(reason, now);
    this.#fields.logger.warn(reason);
  }

  /** Logs `line` if there was a failure since the last recovery. */
  recovered(line: string): void {
    if (!this.#isLost) return;
    this.#isLost = false;
    this.#loggedAt.clear();
    this.#fields.logger.log(line);
  }
}
