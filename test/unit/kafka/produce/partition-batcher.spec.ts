import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PartitionBatcher, PendingRecord, sizeOf } from '../../../../lib/kafka/produce/partition-batcher.js';
import { newRecord } from '../producer-harness.js';

function newBatcher(...values: readonly string[]): PartitionBatcher {
  const batcher = new PartitionBatcher('t', 0);
  for (const value of values) batcher.push(newPending(value));
  return batcher;
}

function newPending(value: string): PendingRecord {
  const record = newRecord(value);
  return new PendingRecord(
    record,
    10,
    undefined,
    () => {},
    () => {},
  );
}

const begin = (batcher: PartitionBatcher, maxRecords = 1_000, maxBytes = 1_000_000): string[] =>
  batcher.beginRequest({ maxRecords, maxBytes }).map(({ value }) => value!.toString());
const valueOf = ({ record }: PendingRecord): string => record.value!.toString();

describe('PartitionBatcher', () => {
  it('sends as many records as the limits allow, in order, and at least one', () => {
    const batcher = newBatcher('a', 'b', 'c', 'd');
    expect(begin(batcher, 3)).toEqual(['a', 'b', 'c']);
    batcher.requeueInFlight();
    expect(begin(batcher, 3, 20)).toEqual(['a', 'b']);
    batcher.requeueInFlight();
    expect(begin(batcher, 3, 5)).toEqual(['a']);
  });

  it('keeps records in flight until they are settled, separate from queued ones', () => {
    const batcher = newBatcher('a', 'b');
    begin(batcher);
    batcher.push(newPending('c'));
    expect(batcher.takeQueued().map(valueOf)).toEqual(['c']);
    expect(batcher.takeInFlight().map(valueOf)).toEqual(['a', 'b']);
    expect(batcher.takeInFlight()).toEqual([]);
    expect(batcher.isEmpty).toBe(true);
  });

  it('settles whole batches, in order', () => {
    const batcher = newBatcher('a', 'b', 'c');
    begin(batcher, 2);
    expect(batcher.takeInFlight().map(valueOf)).toEqual(['a', 'b']);
    expect(begin(batcher)).toEqual(['c']);
  });

  it('splits a too large batch down to the records that exceed the limit, whichever they are', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 60 }), (fits) => {
        const batcher = newBatcher(...fits.map((_, i) => String(i)));
        const written: number[] = [];
        const rejected: number[] = [];
        let requests = 0;
        while (!batcher.isEmpty) {
          requests++;
          const batch = begin(batcher).map(Number);
          if (batch.every((i) => fits[i])) written.push(...batcher.takeInFlight().map(valueOf).map(Number));
          else {
            const alone = batcher.splitInFlight();
            if (alone !== undefined) rejected.push(Number(valueOf(alone)));
          }
        }
        expect(written).toEqual(fits.flatMap((ok, i) => (ok ? [i] : [])));
        expect(rejected).toEqual(fits.flatMap((ok, i) => (ok ? [] : [i])));
        const levels = Math.ceil(Math.log2(fits.length));
        expect(requests).toBeLessThanOrEqual(1 + 2 * levels * rejected.length);
      }),
    );
  });

  it('keeps the split after a request that wrote nothing', () => {
    const batcher = newBatcher('a', 'b', 'c', 'd');
    begin(batcher);
    batcher.splitInFlight();
    expect(begin(batcher)).toEqual(['a', 'b']);
    batcher.requeueInFlight();
    batcher.push(newPending('e'));
    expect(begin(batcher)).toEqual(['a', 'b']);
    batcher.takeInFlight();
    expect(begin(batcher)).toEqual(['c', 'd']);
    batcher.takeInFlight();
    expect(begin(batcher)).toEqual(['e']);
  });

  it('forgets the split of queued records that are taken', () => {
    const batcher = newBatcher('a', 'b', 'c', 'd');
    begin(batcher);
    batcher.splitInFlight();
    begin(batcher);
    expect(batcher.takeQueued().map(valueOf)).toEqual(['c', 'd']);
    for (const value of ['e', 'f', 'g']) batcher.push(newPending(value));
    expect(batcher.takeInFlight().map(valueOf)).toEqual(['a', 'b']);
    expect(begin(batcher)).toEqual(['e', 'f', 'g']);
  });
});

describe('sizeOf', () => {
  it('counts the bytes of key, value and headers, and the overhead of each', () => {
    const empty = sizeOf({ key: null, value: null, headers: {}, timestamp: 1 });
    expect(empty).toBeGreaterThanOrEqual(20);
    const sized = sizeOf({
      key: 'ä',
      value: Buffer.alloc(100),
      headers: { a: 'xyz', b: Buffer.alloc(7), c: ['1', Buffer.alloc(2)] },
      timestamp: 1,
    });
    expect(sized).toBe(empty + 2 + 100 + (1 + 3) + (1 + 7) + (1 + 1) + (1 + 2) + 4 * 10);
  });
});
