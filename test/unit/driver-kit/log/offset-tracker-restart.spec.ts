import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OffsetTracker, type OffsetRange } from '../../../../lib/driver-kit/log/offset-tracker.js';

/** Consumes a log, records which offsets are completed, and restarts from the committed state of its tracker. */
class Reader {
  tracker: OffsetTracker;
  /** Offset of the next record to consume. */
  #position: number;
  /** Offsets that the tracker was given as completed at the last restart. */
  #remembered = new Set<number>();
  readonly #running = new Set<number>();
  readonly #settled = new Set<number>();
  #started: number;
  #reached: number;

  constructor(readonly log: readonly number[]) {
    this.#started = log[0]!;
    this.#position = this.#started;
    this.#reached = this.#started;
    this.tracker = new OffsetTracker(this.#started);
  }

  get end(): number {
    return this.log.at(-1)! + 1;
  }

  get running(): readonly number[] {
    return [...this.#running];
  }

  get settled(): ReadonlySet<number> {
    return this.#settled;
  }

  /** False at the end of the log. */
  take(): boolean {
    const record = this.log.find((number) => number >= this.#position);
    if (record === undefined) return false;
    const wanted = !this.#remembered.has(record);
    if (wanted) this.#running.add(record);
    expect(this.tracker.track(record)).toBe(wanted);
    this.#position = record + 1;
    this.#reached = record + 1;
    return true;
  }

  /** The log reports a gap up to its next record, or to an offset before it. */
  pass(atMost: number): void {
    const record = this.log.find((number) => number >= this.#position) ?? this.end;
    const reached = Math.min(record, this.#position + atMost);
    this.tracker.skipTo(reached);
    this.#reached = Math.max(this.#reached, reached);
  }

  settle(number: number): void {
    const before = this.#next;
    const ran = this.#running.delete(number);
    if (ran) this.#settled.add(number);
    expect(this.tracker.complete(number)).toBe(ran && this.#next > before);
  }

  restart(keptRanges: number): void {
    const kept = this.tracker.completedRanges().slice(0, keptRanges);
    const next = this.tracker.committable;
    this.tracker = new OffsetTracker(next, kept);
    this.#remembered = new Set(numbersOf(kept));
    this.#running.clear();
    this.#started = next;
    this.#position = next;
    this.#reached = next;
  }

  check(): void {
    const { tracker } = this;
    expect([tracker.committable, tracker.position, tracker.gap, tracker.unsettledCount]).toEqual([
      this.#next,
      this.#reached,
      this.#reached - this.#next,
      this.#running.size,
    ]);
    expect(this.log.filter((number) => number < tracker.committable && !this.#settled.has(number))).toEqual(
      [],
    );
    this.#checkRanges(tracker.completedRanges());
  }

  #checkRanges(ranges: readonly OffsetRange[]): void {
    let last = trackerFloor(this.tracker);
    const apart = ranges.every(({ from, to }) => {
      const beyond = from > last && to >= from;
      // Two that touch would be one.
      last = to + 1;
      return beyond;
    });
    if (!apart) expect.fail(`not in order, or not apart: ${JSON.stringify(ranges)}`);
    const told = new Set(numbersOf(ranges));
    const above = this.log.filter((number) => number >= this.tracker.committable);
    expect(above.filter((number) => told.has(number))).toEqual(above.filter((number) => this.#known(number)));
  }

  /** Whether this life knows that the record is settled: told when it began, or settled in it. */
  #known(number: number): boolean {
    if (this.#remembered.has(number)) return true;
    return number >= this.#started && number < this.#position && !this.#running.has(number);
  }

  get #next(): number {
    return Math.min(this.#reached, ...this.#running);
  }
}

/** A range may begin at `next` itself: where nothing runs, and what comes next was settled before the restart. */
function trackerFloor(tracker: OffsetTracker): number {
  return tracker.unsettledCount === 0 ? tracker.committable - 1 : tracker.committable;
}

function numbersOf(ranges: readonly OffsetRange[]): number[] {
  return ranges.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
}

/** Numbers in rising order; holes are transaction markers and what compaction took. */
const logs = fc
  .tuple(
    fc.nat(50),
    fc.array(fc.oneof({ weight: 4, arbitrary: fc.constant(1) }, fc.integer({ min: 2, max: 5 })), {
      maxLength: 40,
    }),
  )
  .map(([first, steps]) => steps.reduce((log, step) => [...log, log.at(-1)! + step], [first]));

const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('take' as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('pass' as const), atMost: fc.nat(4) }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('settle' as const), which: fc.nat(30) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('settle again' as const), number: fc.nat(100) }) },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant('restart' as const),
        kept: fc.oneof(fc.nat(4), fc.constant(1000)),
      }),
    },
  ),
  { maxLength: 120 },
);

type Step = (typeof steps extends fc.Arbitrary<infer Steps extends readonly unknown[]>
  ? Steps
  : never)[number];

function perform(reader: Reader, step: Step): void {
  switch (step.do) {
    case 'take':
      reader.take();
      break;
    case 'pass':
      reader.pass(step.atMost);
      break;
    case 'settle':
      if (reader.running.length > 0) reader.settle(reader.running[step.which % reader.running.length]!);
      break;
    case 'settle again':
      if (!reader.running.includes(step.number)) reader.settle(step.number);
      break;
    case 'restart':
      reader.restart(step.kept);
      break;
  }
}

describe('OffsetTracker across restarts', () => {
  it('skips no record that is not completed, and tracks no record again that it knows as completed', () => {
    fc.assert(
      fc.property(logs, steps, (log, schedule) => {
        const reader = new Reader(log);
        for (const step of schedule) {
          perform(reader, step);
          reader.check();
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('has every record completed in the end, wherever it was restarted', () => {
    fc.assert(
      fc.property(logs, steps, (log, schedule) => {
        const reader = new Reader(log);
        for (const step of schedule) perform(reader, step);
        reader.restart(1000);
        while (reader.take());
        for (const number of reader.running) reader.settle(number);
        expect([...reader.settled].toSorted((a, b) => a - b)).toEqual(log);
        expect([reader.tracker.committable, reader.tracker.completedRanges()]).toEqual([reader.end, []]);
      }),
      { numRuns: 1000 },
    );
  });

  it('merges a range from before the restart that is partly behind its position', () => {
    const tracker = new OffsetTracker(0, [{ from: 2, to: 9 }]);
    expect([tracker.track(0), tracker.track(2), tracker.track(3)]).toEqual([true, false, false]);
    expect(tracker.completedRanges()).toEqual([{ from: 1, to: 9 }]);
    tracker.complete(0);
    expect([tracker.committable, tracker.completedRanges()]).toEqual([4, [{ from: 4, to: 9 }]]);
  });

  it('returns the ranges between running records, gaps included, and those ahead', () => {
    const tracker = new OffsetTracker(0, [{ from: 20, to: 22 }]);
    for (const number of [0, 1, 5, 6]) tracker.track(number);
    tracker.skipTo(9);
    tracker.complete(1);
    tracker.complete(6);
    expect(tracker.completedRanges()).toEqual([
      { from: 1, to: 4 },
      { from: 6, to: 8 },
      { from: 20, to: 22 },
    ]);
  });
});
