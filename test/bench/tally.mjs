import { firstNumber } from './order.mjs';

/** Who was handled in a round, and when the first and the last of them. */
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

  /** For handlers that take their time: the round begins with the first of them, not with its end. */
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

  /** Milliseconds from the first to the last; throws where not every message was handled exactly once. */
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
