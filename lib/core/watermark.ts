/**
 * Where a log may be continued after a restart: everything below `next` is settled, so a restart repeats only what was not, or what had
 * overtaken it. Numbers are taken in rising order, with gaps where the log has none for us; they settle in any order.
 */
export class Watermark {
  #next: number;
  /** Taken, in order; those before `#head` are settled. */
  #taken: number[] = [];
  #head = 0;
  readonly #unsettled = new Set<number>();

  /** @param first what is taken first, if nothing is taken it is where to continue */
  constructor(first: number) {
    this.#next = first;
  }

  /** The first number that is taken and not settled; without one, the number after the last taken. */
  get next(): number {
    return this.#next;
  }

  take(number: number): void {
    this.#taken.push(number);
    this.#unsettled.add(number);
    if (this.#unsettled.size === 1) this.#next = number;
  }

  /** True if `next` moved. Settling twice, or what was never taken, changes nothing. */
  settle(number: number): boolean {
    if (!this.#unsettled.delete(number) || number !== this.#next) return false;
    while (this.#head < this.#taken.length && !this.#unsettled.has(this.#taken[this.#head]!)) this.#head++;
    this.#next = this.#taken[this.#head] ?? this.#taken.at(-1)! + 1;
    if (this.#head * 2 > this.#taken.length) {
      this.#taken = this.#taken.slice(this.#head);
      this.#head = 0;
    }
    return true;
  }
}
