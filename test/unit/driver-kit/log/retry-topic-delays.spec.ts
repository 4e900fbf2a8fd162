import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { remainingDueAt, RetryTopicDelays } from '../../../../lib/driver-kit/log/retry-topic-delays.js';

const now = Date.UTC(2026, 0, 1);
const dayMs = 24 * 60 * 60 * 1_000;
const risingDelays = fc
  .uniqueArray(fc.integer({ min: 1, max: 28 * dayMs }), { minLength: 1, maxLength: 5 })
  .map((delays) => delays.toSorted((a, b) => a - b));

describe('a requested delay', () => {
  it('is rounded up to a declared delay, or to a multiple of the longest', () => {
    const delays = new RetryTopicDelays([1_000, 60_000]);
    expect([0, 1, 1_000, 1_001, 60_000, 60_001, 150_000].map((ms) => delays.roundUp(ms))).toEqual([
      1_000, 1_000, 1_000, 60_000, 60_000, 120_000, 180_000,
    ]);
    expect([1_000, 1_001, 120_000].map((ms) => delays.topicDelayFor(ms))).toEqual([1_000, 60_000, 60_000]);
  });

  it('is undefined if no delay is declared', () => {
    const none = new RetryTopicDelays([]);
    expect([none.roundUp(1), none.topicDelayFor(1), none.topicDelaysMs]).toEqual([undefined, undefined, [0]]);
  });

  it('is not rounded to that of messages without a handler, which has a topic of its own', () => {
    const delays = new RetryTopicDelays([60_000], 100);
    expect([delays.roundUp(50), delays.roundUp(100), delays.roundUp(90_000)]).toEqual([
      60_000, 60_000, 120_000,
    ]);
    expect([delays.topicDelayFor(100), delays.topicDelaysMs]).toEqual([100, [0, 60_000, 100]]);
    const only = new RetryTopicDelays([], 100);
    expect([only.roundUp(100), only.topicDelayFor(100), only.topicDelaysMs]).toEqual([
      undefined,
      100,
      [0, 100],
    ]);
    expect(new RetryTopicDelays([100], 100).topicDelaysMs).toEqual([0, 100]);
  });

  it('is never rounded down or twice, and has a topic that exists', () => {
    fc.assert(
      fc.property(risingDelays, fc.nat(dayMs), (declared, asked) => {
        const delays = new RetryTopicDelays(declared);
        const rounded = delays.roundUp(asked)!;
        expect(rounded).toBeGreaterThanOrEqual(asked);
        expect(delays.roundUp(rounded)).toBe(rounded);
        expect(delays.topicDelaysMs).toContain(delays.topicDelayFor(rounded));
        expect(rounded % delays.topicDelayFor(rounded)!).toBe(0);
      }),
    );
  });
});

it('an eligible record is republished until its due time, if the due time is plausible', () => {
  const laterAt = (dueAt: string | number, delayMs: number): number | undefined => {
    const text = typeof dueAt === 'number' ? new Date(dueAt).toISOString() : dueAt;
    return remainingDueAt({ headers: { 'stork-due-at': text } }, { delayMs, now });
  };
  expect(laterAt(now + 1, 5_000)).toBe(now + 1);
  expect(laterAt(now, 5_000)).toBeUndefined();
  expect(laterAt(now + dayMs + 5_000, 5_000)).toBe(now + dayMs + 5_000);
  expect(laterAt(now + dayMs + 5_001, 5_000)).toBeUndefined();
  expect(laterAt('9999-12-31T23:59:59.999Z', 5_000)).toBeUndefined();
  expect(laterAt('soon', 5_000)).toBeUndefined();
  expect(laterAt(now + 1, 0)).toBeUndefined();
  expect(remainingDueAt({ headers: {} }, { delayMs: 5_000, now })).toBeUndefined();
});
