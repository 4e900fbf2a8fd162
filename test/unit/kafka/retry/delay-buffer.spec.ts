import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { FetchedRecord } from '../../../../lib/kafka/client/client.js';
import { DelayBuffer } from '../../../../lib/kafka/retry/delay-buffer.js';

const now = Date.UTC(2026, 0, 1);
const delayMs = 5_000;
const dayMs = 24 * 60 * 60 * 1_000;

interface RecordFields {
  readonly offset?: number;
  readonly dueAt?: number | string | undefined;
  readonly timestamp?: number;
  readonly bytes?: number;
}

function record({ offset = 0, dueAt, timestamp = now, bytes = 0 }: RecordFields): FetchedRecord {
  const text = typeof dueAt === 'number' ? new Date(dueAt).toISOString() : dueAt;
  return {
    offset: String(offset),
    timestamp: String(timestamp),
    key: null,
    value: bytes === 0 ? null : Buffer.alloc(bytes),
    headers: text === undefined ? {} : { 'stork-due-at': Buffer.from(text) },
  };
}

function bufferOf(records: readonly RecordFields[], at = now, clockSkewMs = 0): DelayBuffer {
  const buffer = new DelayBuffer({ delayMs, clockSkewMs });
  records.forEach((one, offset) => buffer.push(record({ offset, ...one }), at));
  return buffer;
}

/** Offsets of all records that are eligible at a time. */
function takeAll(buffer: DelayBuffer, at: number): string[] {
  const taken: string[] = [];
  for (let one = buffer.take(at); one !== undefined; one = buffer.take(at)) taken.push(one.offset);
  return taken;
}

it('releases a record when it is due, and not a millisecond before', () => {
  const buffer = bufferOf([{ dueAt: now + 3_000 }]);
  expect(buffer.waitMs(now)).toBe(3_000);
  expect(buffer.take(now + 2_999)).toBeUndefined();
  expect(buffer.take(now + 3_000)?.offset).toBe('0');
  expect(buffer.waitMs(now)).toBeUndefined();
});

it('lets all records wait for the head', () => {
  const buffer = bufferOf([{ dueAt: now + 3_000 }, { dueAt: now + 1_000 }, { dueAt: now + 4_000 }]);
  expect(takeAll(buffer, now + 2_000)).toEqual([]);
  expect(takeAll(buffer, now + 3_000)).toEqual(['0', '1']);
  expect(buffer.waitMs(now + 3_000)).toBe(1_000);
});

it.each<[string, RecordFields, number]>([
  ['no due time', {}, delayMs],
  ['no due time, produced two seconds ago', { timestamp: now - 2_000 }, delayMs - 2_000],
  ['no due time and no timestamp', { timestamp: -1 }, delayMs],
  ['no due time and a timestamp in the far future', { timestamp: now + 9 * dayMs }, delayMs],
  ['a due time in the year 9999', { dueAt: '9999-12-31T23:59:59.999Z' }, delayMs],
  ['a due time that is no date', { dueAt: 'soon' }, delayMs],
  ['a due time long past', { dueAt: 0 }, -now],
  ['a due time beyond the delay: one more hop', { dueAt: now + dayMs }, delayMs],
])('holds a record at most for the delay of its topic: %s', (_what, fields, waitMs) => {
  expect(bufferOf([fields]).waitMs(now)).toBe(waitMs);
});

it('allows for a producer whose clock is ahead, up to the clock skew', () => {
  const ahead = { timestamp: now + 400, dueAt: now + 400 + delayMs };
  expect(bufferOf([ahead], now, 500).waitMs(now)).toBe(delayMs + 400);
  expect(bufferOf([ahead], now, 300).waitMs(now)).toBe(delayMs + 300);
});

it('releases records of the topic without a delay at once', () => {
  const buffer = new DelayBuffer({ delayMs: 0, clockSkewMs: 0 });
  buffer.push(record({ dueAt: now + dayMs, timestamp: now + dayMs }), now);
  expect(buffer.take(now)?.offset).toBe('0');
});

it('is full by records or by bytes, until they are taken', () => {
  const buffer = bufferOf([{ bytes: 5_000 }, { bytes: 5_000 }]);
  expect(buffer.isFull({ records: 2, bytes: 1_000_000 })).toBe(true);
  expect(buffer.isFull({ records: 3, bytes: 1_000_000 })).toBe(false);
  expect(buffer.isFull({ records: 3, bytes: 10_000 })).toBe(true);
  expect(takeAll(buffer, now + delayMs)).toEqual(['0', '1']);
  expect(buffer.isFull({ records: 1, bytes: 1 })).toBe(false);
  const cleared = bufferOf([{ bytes: 5_000 }]);
  cleared.clear();
  expect([cleared.size, cleared.firstOffset, cleared.isFull({ records: 1, bytes: 1 })]).toEqual([
    0,
    undefined,
    false,
  ]);
});

const arbitraryRecord = fc.record({
  dueIn: fc.option(fc.integer({ min: -dayMs, max: 3 * dayMs }), { nil: undefined }),
  writtenIn: fc.integer({ min: -dayMs, max: dayMs }),
  bytes: fc.nat(100),
  afterMs: fc.nat(2_000),
});

it('releases every record once, in order, never early and at most the delay after its fetch', () => {
  fc.assert(
    fc.property(fc.array(arbitraryRecord, { maxLength: 30 }), fc.nat(5_000), (all, clockSkewMs) => {
      const buffer = new DelayBuffer({ delayMs, clockSkewMs });
      let at = now;
      const fetchedAt: number[] = [];
      const taken: [offset: number, at: number][] = [];
      const takeUntil = (end: number): void => {
        for (let wait = buffer.waitMs(at); wait !== undefined && at + wait <= end; wait = buffer.waitMs(at)) {
          if (wait > 0) expect(buffer.take(at + wait - 1)).toBeUndefined();
          at = Math.max(at, at + wait);
          taken.push([Number(buffer.take(at)!.offset), at]);
        }
        at = end;
      };
      all.forEach(({ dueIn, writtenIn, bytes, afterMs }, offset) => {
        takeUntil(at + afterMs);
        const dueAt = dueIn === undefined ? undefined : at + dueIn;
        buffer.push(record({ offset, dueAt, timestamp: at + writtenIn, bytes }), at);
        fetchedAt.push(at);
      });
      expect(buffer.size).toBe(all.length - taken.length);
      expect(buffer.firstOffset).toBe(taken.length === all.length ? undefined : String(taken.length));
      takeUntil(Infinity);
      expect(taken.map(([offset]) => offset)).toEqual(all.map((_, offset) => offset));
      expect(buffer.isFull({ records: 1, bytes: 1 })).toBe(false);
      taken.forEach(([offset, takenAt], i) => {
        const { dueIn, writtenIn } = all[offset]!;
        const fetched = fetchedAt[offset]!;
        // Each record waits for those before it.
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
