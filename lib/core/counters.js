/** Counts since the start of the process. */
export class Counters {
  #counts = new Map();
  add(name, count = 1) {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + count);
  }
  get(name) {
    return this.#counts.get(name) ?? 0;
  }
  snapshot() {
    return Object.fromEntries(this.#counts);
  }
}
