import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TopicPartition } from '../../../../lib/kafka/client/client.js';
import {
  decodeOwnedPartitions,
  encodeOwnedPartitions,
} from '../../../../lib/kafka/consume/member-user-data.js';

const namesOf = (at: readonly TopicPartition[]): string[] =>
  at.map(({ topic, partition }) => `${topic}/${partition}`);

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

describe('encodeOwnedPartitions and decodeOwnedPartitions', () => {
  const partitions = fc.array(
    fc.record({
      topic: fc.constantFrom('a', 'b.c', '7', '__proto__', 'ü"', 'constructor'),
      partition: fc.nat(5000),
    }),
  );

  it('writes compact JSON', () => {
    const owned = [0, 1].map((partition) => ({ topic: 'orders', partition }));
    expect(encodeOwnedPartitions(owned).toString()).toBe('{"orders":[0,1]}');
    expect(encodeOwnedPartitions([]).toString()).toBe('{}');
  });

  it('decodes what it has encoded, whatever the names of the topics', () => {
    fc.assert(
      fc.property(partitions, (owned) => {
        const decoded = decodeOwnedPartitions(encodeOwnedPartitions(owned));
        expect(namesOf(decoded).toSorted()).toEqual(namesOf(owned).toSorted());
      }),
    );
  });

  it.each([
    ['one topic', (n: number) => ({ topic: 'orders', partition: n })],
    ['many topics', (n: number) => ({ topic: `orders-ü-${n}`, partition: n })],
  ])('leaves out what does not fit into 64 kB, of %s', (_, at) => {
    const owned = upTo(20_000).map(at);
    const encoded = encodeOwnedPartitions(owned);
    expect(encoded.length).toBeLessThanOrEqual(64_000);
    expect(encoded.length).toBeGreaterThan(63_900);
    const decoded = decodeOwnedPartitions(encoded);
    expect(decoded).toEqual(owned.slice(0, decoded.length));
  });

  it('decodes nothing from user data of another assignor, or with any invalid part', () => {
    const texts = [
      undefined,
      '',
      '\0\0\0\u0001',
      '[]',
      'null',
      '7',
      '"orders"',
      '[[0]]',
      '{"orders":0}',
      '{"orders":{"length":1}}',
      '{"orders":["0"]}',
      '{"orders":[-1]}',
      '{"orders":[1.5]}',
      '{"orders":[1e300]}',
      '{"orders":[null]}',
      '{"orders":[0],"payments":null}',
      '{"orders":[0]',
      `{"orders":[${'0,'.repeat(40_000)}0]}`,
      '['.repeat(60_000),
    ];
    for (const text of texts) {
      const userData = text === undefined ? undefined : Buffer.from(text);
      expect(decodeOwnedPartitions(userData), text?.slice(0, 40)).toEqual([]);
    }
  });

  it('never throws and decodes only valid partition numbers, whatever the bytes', () => {
    const hostile = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.json().map((text) => Buffer.from(text)),
      fc
        .dictionary(
          fc.string(),
          fc.oneof(fc.array(fc.oneof(fc.nat(), fc.double(), fc.integer())), fc.jsonValue()),
        )
        .map((value) => Buffer.from(JSON.stringify(value))),
    );
    fc.assert(
      fc.property(hostile, (userData) => {
        for (const { topic, partition } of decodeOwnedPartitions(userData)) {
          expect(typeof topic).toBe('string');
          expect(Number.isSafeInteger(partition) && partition >= 0).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
