import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PartitionBatcher, PendingRecord, sizeOf } from '../../../../lib/kafka/produce/partition-batcher.js';
import { newRecord } from '../producer-harness.js';

function newQueue(...values: readonly string[]): PartitionBatcher {
  const queue = new PartitionBatcher('t', 0);
  for (const value of values) queue.push(newPending(value));
  return queue;
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

const begin = (queue: PartitionBatcher, maxRecords = 1_000, maxBytes = 1_000_000): string[] =>
  queue.begin({ maxRecords, maxBytes }).map(({ value }) => value!.toString());
const valueOf = ({ record }: PendingRecord): string => record.value!.toString();

describe('PartitionBatcher', () => {
  it('takes as many as the limits allow, in order, and at least one', () => {
    const queue = newQueue('a', 'b', 'c', 'd');
    expect(begin(queue, 3)).toEqual(['a', 'b', 'c']);
    queue.requeueAfterDelay();
    expect(begin(queue, 3, 20)).toEqual(['a', 'b']);
    queue.requeueAfterDelay();
    expect(begin(queue, 3, 5)).toEqual(['a']);
  });

  it('keeps what is under way until it is settled, apart from what comes in between', () => {
    const queue = newQueue('a', 'b');
    begin(queue);
    queue.push(newPending('c'));
    expect(queue.takeUnsent().map(valueOf)).toEqual(['c']);
    expect(queue.takeUnderWay().map(valueOf)).toEqual(['a', 'b']);
    expect(queue.takeUnderWay()).toEqual([]);
    expect(queue.isEmpty).toBe(true);
  });

  it('gives only whole batches to who settles, in order', () => {
    const queue = newQueue('a', 'b', 'c');
    begin(queue, 2);
    expect(queue.takeUnderWay().map(valueOf)).toEqual(['a', 'b']);
    expect(begin(queue)).toEqual(['c']);
  });

  it('cuts a batch that is too large down to the records that do not fit, whichever they are', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 60 }), (fits) => {
        const queue = newQueue(...fits.map((_, i) => String(i)));
        const written: number[] = [];
        const rejected: number[] = [];
        let requests = 0;
        while (!queue.isEmpty) {
          requests++;
          const batch = begin(queue).map(Number);
          if (batch.every((i) => fits[i])) written.push(...queue.takeUnderWay().map(valueOf).map(Number));
          else {
            const alone = queue.halve();
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

  it('goes on with the pieces after a request that was not done', () => {
    const queue = newQueue('a', 'b', 'c', 'd');
    begin(queue);
    queue.halve();
    expect(begin(queue)).toEqual(['a', 'b']);
    queue.requeueAfterDelay();
    queue.push(newPending('e'));
    expect(begin(queue)).toEqual(['a', 'b']);
    queue.takeUnderWay();
    expect(begin(queue)).toEqual(['c', 'd']);
    queue.takeUnderWay();
    expect(begin(queue)).toEqual(['e']);
  });

  it('forgets the pieces of what is taken out', () => {
    const queue = newQueue('a', 'b', 'c', 'd');
    begin(queue);
    queue.halve();
    begin(queue);
    expect(queue.takeUnsent().map(valueOf)).toEqual(['c', 'd']);
    for (const value of ['e', 'f', 'g']) queue.push(newPending(value));
    expect(queue.takeUnderWay().map(valueOf)).toEqual(['a', 'b']);
    expect(begin(queue)).toEqual(['e', 'f', 'g']);
  });
});

describe('sizeOf', () => {
  it('counts the bytes of key, value and headers, and something for each', () => {
    const bare = sizeOf({ key: null, value: null, headers: {}, timestamp: 1 });
    expect(bare).toBeGreaterThanOrEqual(20);
    const sized = sizeOf({
      key: 'ä',
      value: Buffer.alloc(100),
      headers: { a: 'xyz', b: Buffer.alloc(7), c: ['1', Buffer.alloc(2)] },
      timestamp: 1,
    });
    expect(sized).toBe(bare + 2 + 100 + (1 + 3) + (1 + 7) + (1 + 1) + (1 + 2) + 4 * 10);
  });
});
