import { backoffMs } from '../core/backoff.js';
/** What cannot be reached for now, each tried again with a back-off of its own: one leader may be away while the others are there. */
export class Outages {
  #fields;
  #outages = new Map();
  constructor(fields) {
    this.#fields = fields;
  }
  /** Calls `again` when `what` may be tried once more. */
  backOff(what, error, again) {
    const { state, name, reconnect, clock, random, logger } = this.#fields;
    const attempt = (this.#outages.get(what)?.attempt ?? 0) + 1;
    const delayMs = backoffMs(attempt, reconnect, random);
    // Once for a trouble, not once for each try.
    if (this.#outages.size === 0) logger.warn(`${name}: ${error.message}; trying again`);
    this.#outages.set(what, { attempt, cancel: clock.setTimer(delayMs, again) });
    state.move({ value: 'backoff', attempt, delayMs, error });
  }
  /** `what` is back, or nobody needs it any more. */
  over(what) {
    const outage = this.#outages.get(what);
    if (outage === undefined) return;
    outage.cancel();
    this.#outages.delete(what);
    if (this.#outages.size > 0) return;
    this.#fields.logger.log(`${this.#fields.name}: works again`);
    this.#fields.state.move({ value: 'ready' });
  }
  get any() {
    return this.#outages.size > 0;
  }
  /** Tries nothing any more. */
  end() {
    for (const { cancel } of this.#outages.values()) cancel();
    this.#outages.clear();
  }
}
