import * as fc from 'fast-check';
import { Partitioners } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import { StorkConfigError } from '../../../../lib/core/runtime/errors.js';
import { partitionBy, partitionOfKey, type Partitioner } from '../../../../lib/kafka/produce/partitioner.js';

describe('partitionOfKey', () => {
  it('chooses the same partition as the Java client', () => {
    // Hashes from the Java client's own test; negative ones lose their sign bit, they are not negated.
    const hashes = { '21': -973932308, foobar: -790332482, 'a-little-bit-long-string': -985981536 };
    for (const [key, hash] of Object.entries(hashes)) {
      expect(partitionOfKey(key, 1_000)).toBe((hash & 0x7fffffff) % 1_000);
    }
    expect(partitionOfKey('abc', 7)).toBe(479470107 % 7);
  });

  it('chooses the same partition as kafkajs for any key, strings and buffers alike', () => {
    const theirs = Partitioners.DefaultPartitioner();
    const place = (key: Buffer | string, partitions: number): number =>
      theirs({
        topic: 't',
        partitionMetadata: Array.from({ length: partitions }, (_, partitionId) => ({
          partitionErrorCode: 0,
          partitionId,
          leader: 1,
          replicas: [1],
          isr: [1],
        })),
        message: { key, value: null },
      });
    const keys = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    );
    fc.assert(
      fc.property(keys, fc.integer({ min: 1, max: 50 }), (key, partitions) => {
        expect(partitionOfKey(key, partitions)).toBe(place(key, partitions));
      }),
      // kafkajs's partitioner is slow.
      { numRuns: 30 },
    );
  });
});

describe('partitionBy', () => {
  const message = { topic: 't', key: 'k', partitions: 3 };

  it('returns what the partitioner returns for topic, key and partition count', () => {
    expect(
      partitionBy(
        ({ topic, key, partitions }) => (topic === 't' && key === 'k' ? partitions - 1 : 0),
        message,
      ),
    ).toBe(2);
  });

  it.each([
    [3, '3'],
    [-1, '-1'],
    [0.5, '0.5'],
    [Number.NaN, 'NaN'],
    ['1', 'string'],
    [undefined, 'undefined'],
    [Promise.resolve(1), 'a promise'],
  ])('refuses %s with a config error', (chosen, given) => {
    const partitioner = (() => chosen) as unknown as Partitioner;
    expect(() => partitionBy(partitioner, message)).toThrow(
      new StorkConfigError([
        { name: 'partitioner, for a message to "t"', expected: 'an integer from 0 to 2', given },
      ]),
    );
  });

  it('reports that the partitioner threw', () => {
    const cause = new Error('no such tenant');
    const partitioner = (): number => {
      throw cause;
    };
    expect(() => partitionBy(partitioner, message)).toThrow(
      expect.objectContaining({
        code: 'CONFIG',
        message: 'the partitioner threw for a message to "t": no such tenant',
        cause,
      }),
    );
  });
});
