import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Watermark } from '../../../lib/core/watermark.js';

/** All settled numbers, and the prefix found by counting up from the first. */
class NaiveWatermark {
  readonly #first: number;
  readonly #settled = new Set<number>();

  constructor(first: number) {
    this.#first = first;
  }

  settle(number: number): void {
    this.#settled.add(number);
  }

  get next(): number {
    let next = this.#first;
    while (this.#settled.has(next)) next++;
    return next;
  }
}

describe('Watermark', () => {
  it('begins at its first number', () => {
    expect(new Watermark(7).next).toBe(7);
  });

  it('grows with numbers that settle in order and says so', () => {
    const watermark = new Watermark(5);
    expect([watermark.settle(5), watermark.settle(6)]).toEqual([true, true]);
    expect(watermark.next).toBe(7);
  });

  it('waits for the gap and then takes in everything that had overtaken it', () => {
    const watermark = new Watermark(0);
    expect([watermark.settle(2), watermark.settle(1)]).toEqual([false, false]);
    expect(watermark.next).toBe(0);
    expect(watermark.settle(0)).toBe(true);
    expect(watermark.next).toBe(3);
  });

  it('changes nothing when a number settles twice, ahead of the prefix or within it', () => {
    const watermark = new Watermark(0);
    watermark.settle(1);
    expect(watermark.settle(1)).toBe(false);
    watermark.settle(0);
    expect([watermark.settle(0), watermark.settle(1)]).toEqual([false, false]);
    expect(watermark.next).toBe(2);
  });

  it('changes nothing for what lies below its first number', () => {
    const watermark = new Watermark(10);
    expect(watermark.settle(9)).toBe(false);
    expect(watermark.settle(0)).toBe(false);
    expect(watermark.next).toBe(10);
  });

  it('agrees with counting, whatever settles in whichever order, and says exactly when it grew', () => {
    fc.assert(
      fc.property(fc.nat(20), fc.array(fc.nat(40), { maxLength: 80 }), (first, numbers) => {
        const watermark = new Watermark(first);
        const naive = new NaiveWatermark(first);
        for (const number of numbers) {
          const before = naive.next;
          naive.settle(number);
          expect(watermark.settle(number)).toBe(naive.next > before);
          expect(watermark.next).toBe(naive.next);
        }
      }),
    );
  });

  it('has passed everything once all have settled, in any order', () => {
    const orders = fc
      .integer({ min: 0, max: 60 })
      .chain((count) => fc.shuffledSubarray([...Array(count).keys()], { minLength: count }));
    fc.assert(
      fc.property(orders, (order) => {
        const watermark = new Watermark(0);
        for (const number of order) watermark.settle(number);
        expect(watermark.next).toBe(order.length);
      }),
    );
  });
});
