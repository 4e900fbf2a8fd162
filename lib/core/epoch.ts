/**
 * One unbroken spell of owning a source: from a channel's opening to its loss, from a partition's assignment to its revocation.
 * What was delivered in an epoch can only be settled in it.
 */
export class Epoch {
  #abort: AbortController | undefined;
  #ended = false;

  /** False once the channel or the partition is gone. */
  get live(): boolean {
    return !this.#ended;
  }

  /** Aborts when the epoch ends. Made on first use: most deliveries never ask. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#ended) this.#abort.abort();
    return this.#abort.signal;
  }

  end(): void {
    this.#ended = true;
    this.#abort?.abort();
  }
}
