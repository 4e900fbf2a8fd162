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
  #last: { readonly reason: string; readonly at: number } | undefined;

  constructor(fields: OutageLogFields) {
    this.#fields = fields;
  }

  failed(reason: string): void {
    const now = this.#fields.clock.now();
    if (this.#last?.reason === reason && now - this.#last.at < repeatAfterMs) return;
    this.#last = { reason, at: now };
    this.#fields.logger.warn(reason);
  }

  /** Logs `line` if a failure was logged since the last recovery. */
  recovered(line: string): void {
    if (this.#last === undefined) return;
    this.#last = undefined;
    this.#fields.logger.log(line);
  }
}
