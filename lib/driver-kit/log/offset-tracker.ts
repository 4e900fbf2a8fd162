/** Numbers from `from` to `to`, both included. */
export interface OffsetRange {
  readonly from: number;
  readonly to: number;
}

const none: readonly OffsetRange[] = [];

/**
 * Where a log may be continued after a restart: everything below `next` is settled. Numbers are taken in rising order, with gaps where the
 * log has none for us; they settle in any order.
 */
export class OffsetTracker {
  #next: number;
  #reached: number;
  /** Taken, in order; those before `#head` are settled. */
  #taken: number[] = [];
  #head = 0;
  readonly #unsettled = new Set<number>();
  /** Settled before a restart and not yet passed again, in order. */
  #settledBefore: readonly OffsetRange[];

  /**
   * @param first where to continue if nothing is taken
   * @param settledBefore what need not be taken again, from `first` on, as `settledAbove` tells it
   */
  constructor(first: number, settledBefore: readonly OffsetRange[] = []) {
    this.#next = first;
    this.#reached = first;
    this.#settledBefore = settledBefore;
  }

  /** The first number that is taken and not settled; without one, the number after the last that was passed. */
  get committable(): number {
    return this.#next;
  }

  /** The number after the last that was taken or passed. */
  get position(): number {
    return this.#reached;
  }

  /** Numbers between the first that is unsettled and the last that was passed, both included. */
  get gap(): number {
    return this.#reached - this.#next;
  }

  get unsettledCount(): number {
    return this.#unsettled.size;
  }

  /** False, and nothing is taken, for what was settled before a restart. */
  track(number: number): boolean {
    if (this.#wasSettled(number)) {
      this.skipTo(number + 1);
      return false;
    }
    this.#taken.push(number);
    this.#unsettled.add(number);
    if (this.#unsettled.size === 1) this.#next = number;
    this.#reached = number + 1;
    return true;
  }

  /** Notes that the log has nothing for us below `reached` but what was taken. */
  skipTo(reached: number): void {
    if (reached <= this.#reached) return;
    this.#reached = reached;
    if (this.#unsettled.size === 0) this.#next = reached;
  }

  /** True if `next` moved. Settling twice, or what was never taken, changes nothing. */
  complete(number: number): boolean {
    if (!this.#unsettled.delete(number) || number !== this.#next) return false;
    while (this.#head < this.#taken.length && !this.#unsettled.has(this.#taken[this.#head]!)) this.#head++;
    this.#next = this.#taken[this.#head] ?? this.#reached;
    if (this.#head * 2 > this.#taken.length) {
      this.#taken = this.#taken.slice(this.#head);
      this.#head = 0;
    }
    return true;
  }

  /** What from `next` on need not be taken again: settled, or not there. In rising order; no two touch. */
  completedRanges(): readonly OffsetRange[] {
    // The common case: everything settles in its order.
    if (this.gap === this.#unsettled.size && this.#settledBefore.length === 0) return none;
    const ranges: OffsetRange[] = [];
    let from = this.#next;
    const close = (end: number): void => {
      if (end > from) ranges.push({ from, to: end - 1 });
      from = end + 1;
    };
    for (let i = this.#head; i < this.#taken.length; i++) {
      if (this.#unsettled.has(this.#taken[i]!)) close(this.#taken[i]!);
    }
    const ahead = this.#settledBefore.filter(({ to }) => to >= this.#reached);
    // What was settled before a restart may go on from here, or be passed in part: one range, or it would be told twice.
    const goesOn = ahead[0] !== undefined && ahead[0].from <= this.#reached ? ahead.shift() : undefined;
    close(goesOn === undefined ? this.#reached : goesOn.to + 1);
    return [...ranges, ...ahead];
  }

  #wasSettled(number: number): boolean {
    let [range] = this.#settledBefore;
    while (range !== undefined && range.to < number) {
      this.#settledBefore = this.#settledBefore.slice(1);
      [range] = this.#settledBefore;
    }
    return range !== undefined && range.from <= number;
  }
}
