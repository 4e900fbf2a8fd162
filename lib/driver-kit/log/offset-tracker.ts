/** Offsets from `from` to `to`, both included. */
export interface OffsetRange {
  readonly from: number;
  readonly to: number;
}

const none: readonly OffsetRange[] = [];

/**
 * Tracks which offset of a partition can be committed: all records below `committable` are completed.
 * Offsets are tracked in ascending order, with gaps where the log has no records for the consumer (e.g.
 * after compaction); they complete in any order.
 */
export class OffsetTracker {
  #committable: number;
  #position: number;
  /** Tracked offsets in order; those before `#head` are completed. */
  #tracked: number[] = [];
  #head = 0;
  readonly #unsettled = new Set<number>();
  /** Completed before a restart and still ahead of `#position`, in order. */
  #completedBefore: readonly OffsetRange[];

  /**
   * @param first the committed offset
   * @param completedBefore ranges from `first` on that are completed already, as `completedRanges` returned
   * them
   */
  constructor(first: number, completedBefore: readonly OffsetRange[] = []) {
    this.#committable = first;
    this.#position = first;
    this.#completedBefore = completedBefore;
  }

  /** The offset to commit: the first that is tracked and not completed, else `position`. */
  get committable(): number {
    return this.#committable;
  }

  /** The offset after the last that was tracked or skipped. */
  get position(): number {
    return this.#position;
  }

  /** Distance between `committable` and `position`. */
  get gap(): number {
    return this.#position - this.#committable;
  }

  get unsettledCount(): number {
    return this.#unsettled.size;
  }

  /** False, without tracking the offset, if it was completed before a restart. */
  track(offset: number): boolean {
    if (this.#wasCompletedBefore(offset)) {
      this.skipTo(offset + 1);
      return false;
    }
    this.#tracked.push(offset);
    this.#unsettled.add(offset);
    if (this.#unsettled.size === 1) this.#committable = offset;
    this.#position = offset + 1;
    return true;
  }

  /** Moves `position` over offsets at which the log has no records for the consumer. */
  skipTo(position: number): void {
    if (position <= this.#position) return;
    this.#position = position;
    if (this.#unsettled.size === 0) this.#committable = position;
  }

  /**
   * True if `committable` moved. Completing an offset twice, or one that was never tracked, has no effect.
   */
  complete(offset: number): boolean {
    if (!this.#unsettled.delete(offset) || offset !== this.#committable) return false;
    while (this.#head < this.#tracked.length && !this.#unsettled.has(this.#tracked[this.#head]!))
      this.#head++;
    this.#committable = this.#tracked[this.#head] ?? this.#position;
    if (this.#head * 2 > this.#tracked.length) {
      this.#tracked = this.#tracked.slice(this.#head);
      this.#head = 0;
    }
    return true;
  }

  /**
   * Ranges from `committable` on that are completed or have no records. In ascending order; adjacent ranges
   * are merged.
   */
  completedRanges(): readonly OffsetRange[] {
    // The common case: records complete in order.
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
    // A range from before the restart that begins at or before `position` continues the last range: they
    // are merged.
    const continuation =
      ahead[0] !== undefined && ahead[0].from <= this.#position ? ahead.shift() : undefined;
    close(continuation === undefined ? this.#position : continuation.to + 1);
    return [...ranges, ...ahead];
  }

  #wasCompletedBefore(offset: number): boolean {
    let [range] = this.#completedBefore;
    while (range !== undefined && range.to < offset) {
      this.#completedBefore = this.#completedBefore.slice(1);
      [range] = this.#completedBefore;
    }
    return range !== undefined && range.from <= offset;
  }
}
