import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OffsetTracker } from '../../../../lib/driver-kit/log/offset-tracker.js';

/** Everything that was taken and everything that was settled, searched from the beginning each time. */
class NaiveWatermark {
  readonly #taken: number[] = [];
  readonly #settled = new Set<number>();

  constructor(readonly first: number) {}

  take(number: number): void {
    this.#taken.push(number);
  }

  settle(number: number): void {
    if (this.#taken.includes(number)) this.#settled.add(number);
  }

  get next(): number {
    const last = this.#taken.at(-1);
    if (last === undefined) return this.first;
    return this.#taken.find((number) => !this.#settled.has(number)) ?? last + 1;
  }
}

function newWatermark(first: number, ...taken: readonly number[]): OffsetTracker {
  const watermark = new OffsetTracker(first);
  for (const number of taken) watermark.track(number);
  return watermark;
}

describe('OffsetTracker', () => {
  it('commits its first offset while nothing is tracked', () => {
    expect(new OffsetTracker(7).committable).toBe(7);
  });

  it('commits the first tracked offset, even beyond a gap', () => {
    const watermark = newWatermark(7, 9);
    expect(watermark.committable).toBe(9);
    watermark.track(12);
    expect(watermark.committable).toBe(9);
  });

  it('advances with offsets that complete in order, and returns true', () => {
    const watermark = newWatermark(5, 5, 6);
    expect([watermark.complete(5), watermark.complete(6)]).toEqual([true, true]);
    expect(watermark.committable).toBe(7);
  });

  it('stops at an incomplete offset, and then advances over all that completed after it', () => {
    const watermark = newWatermark(0, 0, 1, 2, 8);
    expect([watermark.complete(2), watermark.complete(1)]).toEqual([false, false]);
    expect(watermark.committable).toBe(0);
    expect(watermark.complete(0)).toBe(true);
    expect(watermark.committable).toBe(8);
  });

  it('advances over gaps: after the last offset it is one beyond it, until another is tracked', () => {
    const watermark = newWatermark(0, 3, 10);
    expect([watermark.complete(3), watermark.committable]).toEqual([true, 10]);
    expect([watermark.complete(10), watermark.committable]).toEqual([true, 11]);
    watermark.track(20);
    expect([watermark.committable, watermark.complete(20), watermark.committable]).toEqual([20, true, 21]);
  });

  it('ignores an offset that completes twice, in or out of order', () => {
    const watermark = newWatermark(0, 0, 1);
    watermark.complete(1);
    expect(watermark.complete(1)).toBe(false);
    watermark.complete(0);
    expect([watermark.complete(0), watermark.complete(1)]).toEqual([false, false]);
    expect(watermark.committable).toBe(2);
  });

  it('ignores an offset that was never tracked: below, in a gap, or above', () => {
    const watermark = newWatermark(10, 12, 15);
    expect([0, 10, 13, 16].map((number) => watermark.complete(number))).toEqual([false, false, false, false]);
    expect(watermark.committable).toBe(12);
    expect(new OffsetTracker(3).complete(3)).toBe(false);
  });

  it('ignores a completion that comes before the offset is tracked', () => {
    const watermark = newWatermark(0, 1);
    watermark.complete(2);
    watermark.track(2);
    watermark.complete(1);
    expect(watermark.committable).toBe(2);
  });

  it('equals a search from the beginning, with any gaps and any order of completion', () => {
    const step = fc.oneof(
      fc.record({ take: fc.integer({ min: 1, max: 4 }) }),
      // Of those that are taken, counted from the last.
      fc.record({ settle: fc.nat(30) }),
    );
    fc.assert(
      fc.property(fc.nat(20), fc.array(step, { maxLength: 200 }), (first, steps) => {
        const watermark = new OffsetTracker(first);
        const naive = new NaiveWatermark(first);
        const taken: number[] = [];
        for (const next of steps) {
          if ('take' in next) {
            const number = (taken.at(-1) ?? first - 1) + next.take;
            taken.push(number);
            watermark.track(number);
            naive.take(number);
          } else {
            const number = taken.at(-1 - next.settle);
            if (number === undefined) continue;
            const before = naive.next;
            naive.settle(number);
            expect(watermark.complete(number)).toBe(naive.next > before);
          }
          expect(watermark.committable).toBe(naive.next);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('is at the end once all offsets are completed, in any order', () => {
    const orders = fc
      .uniqueArray(fc.nat(500), { minLength: 1, maxLength: 60 })
      .map((numbers) => ({ taken: numbers.toSorted((a, b) => a - b), order: numbers }));
    fc.assert(
      fc.property(orders, ({ taken, order }) => {
        const watermark = newWatermark(0, ...taken);
        for (const number of order) watermark.complete(number);
        expect(watermark.committable).toBe(taken.at(-1)! + 1);
      }),
    );
  });
});
