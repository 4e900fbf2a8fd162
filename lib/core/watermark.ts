/**
 * The contiguous settled prefix of a numbered sequence whose members settle in any order: everything below `next` is settled, so a
 * restart from there repeats only what was not, or what had overtaken it.
 */
export class Watermark {
  #next: number;
  /** Settled numbers above the first unsettled one. */
  readonly #ahead = new Set<number>();

  constructor(first: number) {
    this.#next = first;
  }

  /** The first number that is not settled. */
  get next(): number {
    return this.#next;
  }

  /** True if the prefix grew. Settling twice, or what lies below the prefix, changes nothing. */
  settle(number: number): boolean {
    if (number < this.#next) return false;
    if (number > this.#next) {
      this.#ahead.add(number);
      return false;
    }
    this.#next++;
    while (this.#ahead.delete(this.#next)) this.#next++;
    return true;
  }
}
