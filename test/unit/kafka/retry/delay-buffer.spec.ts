import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { FetchedRecord } from '../../../../lib/kafka/client/client.js';
import { DelayBuffer } from '../../../../lib/kafka/retry/delay-buffer.js';

const now = Date.UTC(2026, 0, 1);
const delayMs = 5_000;
const dayMs = 24 * 60 * 60 * 1_000;

interface Given {
  readonly offset?: number;
  readonly dueAt?: number | string | undefined;
  readonly timestamp?: number;
  readonly bytes?: number;
}

function record({ offset = 0, dueAt, timestamp = now, bytes = 0 }: Given): FetchedRecord {
  const text = typeof dueAt === 'number' ? new Date(dueAt).toISOString() : dueAt;
  return {
    offset: String(offset),
    timestamp: String(timestamp),
    key: null,
    value: bytes === 0 ? null : Buffer.alloc(bytes),
    headers: text === undefined ? {} : { 'stork-due-at': Buffer.from(text) },
  };
}

function holding(given: readonly Given[], at = now, clockSkewMs = 0): DelayBuffer {
  const due = new DelayBuffer({ delayMs, clockSkewMs });
  given.forEach((one, offset) => due.push(record({ offset, ...one }), at));
  return due;
}

/** Everything that is given out at a time. */
function takeAll(due: DelayBuffer, at: number): string[] {
  const taken: string[] = [];
  for (let one = due.take(at); one !== undefined; one = due.take(at)) taken.push(one.offset);
  return taken;
}

it('gives a record out when it is due, and not a millisecond before', () => {
  const due = holding([{ dueAt: now + 3_000 }]);
  expect(due.waitMs(now)).toBe(3_000);
  expect(due.take(now + 2_999)).toBeUndefined();
  expect(due.take(now + 3_000)?.offset).toBe('0');
  expect(due.waitMs(now)).toBeUndefined();
});

it('has all others wait for the first', () => {
  const due = holding([{ dueAt: now + 3_000 }, { dueAt: now + 1_000 }, { dueAt: now + 4_000 }]);
  expect(takeAll(due, now + 2_000)).toEqual([]);
  expect(takeAll(due, now + 3_000)).toEqual(['0', '1']);
  expect(due.waitMs(now + 3_000)).toBe(1_000);
});

it.each<[string, Given, number]>([
  ['none', {}, delayMs],
  ['none, written a while ago', { timestamp: now - 2_000 }, delayMs - 2_000],
  ['none, written at no time', { timestamp: -1 }, delayMs],
  ['none, written in a far future', { timestamp: now + 9 * dayMs }, delayMs],
  ['the year 9999', { dueAt: '9999-12-31T23:59:59.999Z' }, delayMs],
  ['no date', { dueAt: 'soon' }, delayMs],
  ['a date of long ago', { dueAt: 0 }, -now],
  ['beyond its topic: it goes round', { dueAt: now + dayMs }, delayMs],
])('waits as long as its topic says at most: %s', (_what, given, waitMs) => {
  expect(holding([given]).waitMs(now)).toBe(waitMs);
});

it('of a writer whose clock is ahead, within what is allowed, waits by the time that it says', () => {
  const ahead = { timestamp: now + 400, dueAt: now + 400 + delayMs };
  expect(holding([ahead], now, 500).waitMs(now)).toBe(delayMs + 400);
  expect(holding([ahead], now, 300).waitMs(now)).toBe(delayMs + 300);
});

it('where its topic is never waited in, waits for nothing', () => {
  const due = new DelayBuffer({ delayMs: 0, clockSkewMs: 0 });
  due.push(record({ dueAt: now + dayMs, timestamp: now + dayMs }), now);
  expect(due.take(now)?.offset).toBe('0');
});

it('is full by records or by bytes, and not any more once they are gone', () => {
  const due = holding([{ bytes: 5_000 }, { bytes: 5_000 }]);
  expect(due.reaches({ records: 2, bytes: 1_000_000 })).toBe(true);
  expect(due.reaches({ records: 3, bytes: 1_000_000 })).toBe(false);
  expect(due.reaches({ records: 3, bytes: 10_000 })).toBe(true);
  expect(takeAll(due, now + delayMs)).toEqual(['0', '1']);
  expect(due.reaches({ records: 1, bytes: 1 })).toBe(false);
  const cleared = holding([{ bytes: 5_000 }]);
  cleared.clear();
  expect([cleared.size, cleared.firstOffset, cleared.reaches({ records: 1, bytes: 1 })]).toEqual([
    0,
    undefined,
    false,
  ]);
});

const given = fc.record({
  dueIn: fc.option(fc.integer({ min: -dayMs, max: 3 * dayMs }), { nil: undefined }),
  writtenIn: fc.integer({ min: -dayMs, max: dayMs }),
  bytes: fc.nat(100),
  afterMs: fc.nat(2_000),
});

it('gives out everything, once, in order, never early and never later than the topic says after it was fetched', () => {
  fc.assert(
    fc.property(fc.array(given, { maxLength: 30 }), fc.nat(5_000), (all, clockSkewMs) => {
      const due = new DelayBuffer({ delayMs, clockSkewMs });
      let at = now;
      const fetchedAt: number[] = [];
      const taken: [offset: number, at: number][] = [];
      const takeUntil = (end: number): void => {
        for (let wait = due.waitMs(at); wait !== undefined && at + wait <= end; wait = due.waitMs(at)) {
          if (wait > 0) expect(due.take(at + wait - 1)).toBeUndefined();
          at = Math.max(at, at + wait);
          taken.push([Number(due.take(at)!.offset), at]);
        }
        at = end;
      };
      all.forEach(({ dueIn, writtenIn, bytes, afterMs }, offset) => {
        takeUntil(at + afterMs);
        const dueAt = dueIn === undefined ? undefined : at + dueIn;
        due.push(record({ offset, dueAt, timestamp: at + writtenIn, bytes }), at);
        fetchedAt.push(at);
      });
      expect(due.size).toBe(all.length - taken.length);
      expect(due.firstOffset).toBe(taken.length === all.length ? undefined : String(taken.length));
      takeUntil(Infinity);
      expect(taken.map(([offset]) => offset)).toEqual(all.map((_, offset) => offset));
      expect(due.reaches({ records: 1, bytes: 1 })).toBe(false);
      taken.forEach(([offset, takenAt], i) => {
        const { dueIn, writtenIn } = all[offset]!;
        const fetched = fetchedAt[offset]!;
        // The first of those that wait decides for the others.
        const before = i === 0 ? -Infinity : taken[i - 1]![1];
        const latest = fetched + clockSkewMs + delayMs;
        expect(takenAt).toBeLessThanOrEqual(Math.max(latest, before));
        const isSane = dueIn !== undefined && dueIn <= dayMs + delayMs;
        const dueAt = isSane ? fetched + dueIn : Infinity;
        const longest = Math.min(fetched + writtenIn, fetched + clockSkewMs) + delayMs;
        expect(takenAt).toBeGreaterThanOrEqual(Math.min(dueAt, longest));
      });
    }),
  );
});
