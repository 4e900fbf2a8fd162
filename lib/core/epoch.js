/**
 * One unbroken spell of owning a source: from a channel's opening to its loss, from a partition's assignment to its revocation.
 * What was delivered in an epoch can only be settled in it.
 */
export class Epoch {
  #listeners = new Set();
  #ended = false;
  /** False once the channel or the partition is gone. */
  get live() {
    return !this.#ended;
  }
  /** Calls `listener` when the epoch ends, at once if it has. */
  onEnd(listener) {
    if (this.#ended) return listener();
    this.#listeners.add(listener);
  }
  end() {
    if (this.#ended) return;
    this.#ended = true;
    for (const listener of this.#listeners) listener();
    this.#listeners.clear();
  }
}
