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
  #committable: number;
  #position: number;
  /** Taken, in order; those before `#head` are settled. */
  #tracked: number[] = [];
  #head = 0;
  readonly #unsettled = new Set<number>();
  /** Settled before a restart and not yet passed again, in order. */
  #completedBefore: readonly OffsetRange[];

  /**
   * @param first where to continue if nothing is taken
   * @param completedBefore what need not be taken again, from `first` on, as `settledAbove` tells it
   */
  constructor(first: number, completedBefore: readonly OffsetRange[] = []) {
    this.#committable = first;
    this.#position = first;
    this.#completedBefore = completedBefore;
  }

  /** The first number that is taken and not settled; without one, the number after the last that was passed. */
  get committable(): number {
    return this.#committable;
  }

  /** The number after the last that was taken or passed. */
  get position(): number {
    return this.#position;
  }

  /** Numbers between the first that is unsettled and the last that was passed, both included. */
  get gap(): number {
    return this.#position - this.#committable;
  }

  get unsettledCount(): number {
    return this.#unsettled.size;
  }

  /** False, and nothing is taken, for what was settled before a restart. */
  track(number: number): boolean {
    if (this.#wasCompletedBefore(number)) {
      this.skipTo(number + 1);
      return false;
    }
    this.#tracked.push(number);
    this.#unsettled.add(number);
    if (this.#unsettled.size === 1) this.#committable = number;
    this.#position = number + 1;
    return true;
  }

  /** Notes that the log has nothing for us below `reached` but what was taken. */
  skipTo(reached: number): void {
    if (reached <= this.#position) return;
    this.#position = reached;
    if (this.#unsettled.size === 0) this.#committable = reached;
  }

  /** True if `next` moved. Settling twice, or what was never taken, changes nothing. */
  complete(number: number): boolean {
    if (!this.#unsettled.delete(number) || number !== this.#committable) return false;
    while (this.#head < this.#tracked.length && !this.#unsettled.has(this.#tracked[this.#head]!)) this.#head++;
    this.#committable = this.#tracked[this.#head] ?? this.#position;
    if (this.#head * 2 > this.#tracked.length) {
      this.#tracked = this.#tracked.slice(this.#head);
      this.#head = 0;
    }
    return true;
  }

  /** What from `next` on need not be taken again: settled, or not there. In rising order; no two touch. */
  completedRanges(): readonly OffsetRange[] {
    // The common case: everything settles in its order.
    if (this.gap === this.#unsettled.size && this.#completedBefore.length === 0) return none;
    const ranges: OffsetRange[] = [];
    let from = this.#committable;
    const close = (end: number): void => {
      if (end > from) ranges.push({ from, to: end - 1 });
      from = end + 1;
    };
    for (let i = this.#head; i < this.#tracked.length; i++) {
      if (this.#unsettled.has(this.#tracked[i]!)) close(this.#tracked[i]!);
    }
    const ahead = this.#completedBefore.filter(({ to }) => to >= this.#position);
    // What was settled before a restart may go on from here, or be passed in part: one range, or it would be told twice.
    const goesOn = ahead[0] !== undefined && ahead[0].from <= this.#position ? ahead.shift() : undefined;
    close(goesOn === undefined ? this.#position : goesOn.to + 1);
    return [...ranges, ...ahead];
  }

  #wasCompletedBefore(number: number): boolean {
    let [range] = this.#completedBefore;
    while (range !== undefined && range.to < number) {
      this.#completedBefore = this.#completedBefore.slice(1);
      [range] = this.#completedBefore;
    }
    return range !== undefined && range.from <= number;
  }
}
