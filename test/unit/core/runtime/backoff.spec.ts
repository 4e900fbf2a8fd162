import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backoffMs } from '../../../../lib/core/runtime/clock.js';

const options = { delayMs: 100, maxDelayMs: 5_000 };
const almostOne = (): number => 1 - Number.EPSILON;

describe('backoffMs', () => {
  it('doubles its bound with each attempt, up to maxDelayMs', () => {
    const waits = [1, 2, 3, 4, 5, 6, 7, 8].map((attempt) => backoffMs(attempt, options, almostOne));
    expect(waits).toEqual([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
  });

  it('is an integer between 0 and its bound, after any number of attempts', () => {
    const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000_000 }), chance, (attempt, random) => {
        const wait = backoffMs(attempt, options, () => random);
        expect(Number.isInteger(wait)).toBe(true);
        expect(wait).toBeGreaterThanOrEqual(0);
        expect(wait).toBeLessThanOrEqual(backoffMs(attempt, options, almostOne));
        expect(wait).toBeLessThanOrEqual(5_000);
      }),
    );
  });

  it('spreads from 0 to its bound', () => {
    expect([0, 0.25, 0.5].map((random) => backoffMs(3, options, () => random))).toEqual([0, 100, 200]);
  });

  it('does not exceed maxDelayMs if that is shorter than delayMs', () => {
    expect(backoffMs(1, { delayMs: 1_000, maxDelayMs: 10 }, almostOne)).toBe(10);
  });
});
