/**
 * Keeps messages in the order in which they were given to the client, although a codec may encode a later
 * one faster.
 */
export class EncodingOrder {
  /** Settles with the last message that is still being encoded. Never rejects. */
  #last: Promise<unknown> | undefined;

  /** A message that is encoded at once, while no other one is being encoded, is passed on as it is. */
  inOrder<T>(encoded: T | Promise<T>): T | Promise<T> {
    const previous = this.#last;
    if (previous === undefined && !(encoded instanceof Promise)) return encoded;
    // Of both: a message that cannot be encoded must not let later ones overtake those before it.
    const settled: Promise<unknown> = Promise.allSettled([encoded, previous]).then(() =>
      this.#forget(settled),
    );
    this.#last = settled;
    return Promise.all([encoded, previous]).then(([message]) => message);
  }

  #forget(settled: Promise<unknown>): void {
    if (this.#last === settled) this.#last = undefined;
  }
}
