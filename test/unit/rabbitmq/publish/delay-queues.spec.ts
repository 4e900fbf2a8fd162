import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { roundDelayUp } from '../../../../lib/rabbitmq/publish/delay-queues.js';

const dayMs = 86_400_000;
/** RabbitMQ's TTL has 32 bits. */
const maxTtlMs = 2 ** 32 - 1;

function isStep(ms: number): boolean {
  return ms === dayMs || /^[125]0{2,}$/.test(String(ms));
}

describe('delays with a queue', () => {
  it('are 1, 2, 5 in each decade from 100 ms to a day', () => {
    const all = new Set<number>();
    for (let ms = 0; ms <= dayMs; ms += 50) all.add(roundDelayUp(ms));
    expect([...all]).toEqual([
      100,
      200,
      500,
      1_000,
      2_000,
      5_000,
      10_000,
      20_000,
      50_000,
      100_000,
      200_000,
      500_000,
      1_000_000,
      2_000_000,
      5_000_000,
      10_000_000,
      20_000_000,
      50_000_000,
      dayMs,
    ]);
  });

  it('are the next step, never shorter than requested up to a day, and round to themselves', () => {
    const delays = fc.oneof(fc.integer({ min: 0, max: dayMs }), fc.constantFrom(100, 101, 50_000_000, dayMs));
    fc.assert(
      fc.property(delays, (ms) => {
        const rounded = roundDelayUp(ms);
        expect(rounded).toBeGreaterThanOrEqual(ms);
        expect(isStep(rounded)).toBe(true);
        expect(roundDelayUp(rounded)).toBe(rounded);
        if (ms > 100) expect(rounded / ms).toBeLessThanOrEqual(2.5);
      }),
    );
  });

  it('are monotonic', () => {
    const delays = fc.integer({ min: 0, max: maxTtlMs });
    fc.assert(
      fc.property(delays, delays, (a, b) => {
        expect(roundDelayUp(Math.min(a, b))).toBeLessThanOrEqual(roundDelayUp(Math.max(a, b)));
      }),
    );
  });
});
