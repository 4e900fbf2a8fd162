import { firstNumber } from './order.mjs';

/** The handled messages of a round, and the times of the first and the last. */
export class Tally {
  #seen;
  #left;
  #doubles = 0;
  #strangers = 0;
  #beganAt = 0;
  #endedAt = 0;
  #complete;
  /** Resolves when every message has been handled. */
  complete = new Promise((resolve) => {
    this.#complete = resolve;
  });

  constructor(messages) {
    this.#seen = new Uint8Array(messages);
    this.#left = messages;
  }

  /** For slow handlers: the round begins when the first of them starts, not when it ends. */
  began() {
    if (this.#beganAt === 0) this.#beganAt = performance.now();
  }

  handled({ n }) {
    const i = n - firstNumber;
    this.began();
    if (this.#seen[i] === undefined) this.#strangers++;
    else if (this.#seen[i]++ > 0) this.#doubles++;
    else if (--this.#left === 0) this.#finish();
  }

  /** Milliseconds from the first to the last; throws unless every message was handled exactly once. */
  elapsed() {
    const counts = `${this.#left} not handled, ${this.#doubles} more than once, ${this.#strangers} never sent`;
    if (this.#left + this.#doubles + this.#strangers > 0) throw new Error(`counts do not add up: ${counts}`);
    return this.#endedAt - this.#beganAt;
  }

  #finish() {
    this.#endedAt = performance.now();
    this.#complete();
  }
}
