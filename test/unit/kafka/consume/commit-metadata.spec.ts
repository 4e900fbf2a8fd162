import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OffsetTracker, type OffsetRange } from '../../../../lib/driver-kit/log/offset-tracker.js';
import { decodeCommit, encodeCommit } from '../../../../lib/kafka/consume/commit-metadata.js';

const nothing = { settled: [], partitions: undefined };

/** Ranges as `OffsetTracker.completedRanges` returns them: in order, and no two touch. */
function rangesFrom(offset: number, steps: readonly { skip: number; count: number }[]): OffsetRange[] {
  const ranges: OffsetRange[] = [];
  let next = offset;
  for (const { skip, count } of steps) {
    const from = next + skip + (next === offset ? 0 : 1);
    ranges.push({ from, to: from + count - 1 });
    next = from + count;
  }
  return ranges;
}

function commitsOf(maxRanges: number) {
  return fc
    .record({
      offset: fc.oneof(fc.nat(1000), fc.integer({ min: 0, max: 2 ** 45 })),
      steps: fc.array(
        fc.record({
          skip: fc.oneof(fc.nat(5), fc.nat(1e6)),
          count: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 1e6 })),
        }),
        { maxLength: maxRanges, size: 'max' },
      ),
      partitions: fc.option(fc.integer({ min: 1, max: 100_000 }), { nil: undefined }),
    })
    .map(({ offset, steps, partitions }) => ({ offset, settled: rangesFrom(offset, steps), partitions }));
}

/** The text with a matching length, so that the fields themselves are decoded. */
function guarded(fields: string): string {
  return `stork=${fields.length};${fields}`;
}

function isOrdered(ranges: readonly OffsetRange[], offset: number): boolean {
  let next = offset;
  return ranges.every(({ from, to }) => {
    const isValid = Number.isSafeInteger(from) && Number.isSafeInteger(to) && from >= next && to >= from;
    next = to + 1;
    return isValid;
  });
}

describe('encodeCommit', () => {
  it('writes ranges as the offsets they skip and cover, and the number of partitions', () => {
    const settled = [
      { from: 122, to: 131 },
      { from: 133, to: 133 },
    ];
    expect(encodeCommit({ offset: 120, settled, partitions: 12 })).toEqual({
      metadata: 'stork=39;offset=120;partitions=12;settled=2:10,1',
      covered: Infinity,
    });
  });

  it('writes no field for an unknown number of partitions or no range', () => {
    expect(encodeCommit({ offset: 0, settled: [], partitions: undefined }).metadata).toBe('stork=8;offset=0');
  });

  it('leaves out the highest ranges beyond 4 000 bytes and returns the highest offset that is covered', () => {
    const settled = rangesFrom(
      5,
      Array.from({ length: 3000 }, () => ({ skip: 0, count: 1 })),
    );
    const { metadata, covered } = encodeCommit({ offset: 5, settled, partitions: 3 });
    expect(metadata.length).toBeLessThanOrEqual(4000);
    expect(metadata.length).toBeGreaterThan(3990);
    const written = decodeCommit(metadata, 5).settled;
    expect(written.length).toBeGreaterThan(1900);
    expect(written).toEqual(settled.filter(({ to }) => to <= covered));
    expect(settled[written.length]!.from).toBe(covered + 1);
  });
});

describe('decodeCommit', () => {
  it('decodes what was encoded', () => {
    fc.assert(
      fc.property(commitsOf(60), (commit) => {
        const { metadata, covered } = encodeCommit(commit);
        expect(covered).toBe(Infinity);
        expect(decodeCommit(metadata, commit.offset)).toEqual({
          settled: commit.settled,
          partitions: commit.partitions,
        });
      }),
      { numRuns: 500 },
    );
  });

  it('decodes the lowest ranges, and all up to `covered`, where not all of them fit', () => {
    let cut = 0;
    fc.assert(
      fc.property(commitsOf(1500), (commit) => {
        const { metadata, covered } = encodeCommit(commit);
        const { settled, partitions } = decodeCommit(metadata, commit.offset);
        expect(Buffer.byteLength(metadata)).toBeLessThanOrEqual(4000);
        expect(partitions).toBe(commit.partitions);
        expect(settled).toEqual(commit.settled.slice(0, settled.length));
        expect(settled).toEqual(commit.settled.filter(({ from }) => from <= covered));
        if (settled.length < commit.settled.length) cut++;
        else expect(covered).toBe(Infinity);
      }),
      // Shrinking a counterexample of this length would take minutes.
      { numRuns: 100, endOnFailure: true },
    );
    expect(cut).toBeGreaterThan(0);
  });

  it('continues an offset tracker that skips settled offsets', () => {
    const tracker = new OffsetTracker(100);
    for (const number of [100, 101, 104, 105, 109]) tracker.track(number);
    for (const number of [101, 105, 109]) tracker.complete(number);
    const { metadata } = encodeCommit({
      offset: tracker.committable,
      settled: tracker.completedRanges(),
      partitions: 1,
    });
    const continued = new OffsetTracker(100, decodeCommit(metadata, 100).settled);
    expect([100, 101, 104, 105, 109].filter((number) => continued.track(number))).toEqual([100, 104]);
  });

  it('ignores unknown fields', () => {
    const fields = 'offset=7;attempts=8:2,9:1;settled=1;later;partitions=4;x=y=z';
    expect(decodeCommit(guarded(fields), 7)).toEqual({ settled: [{ from: 8, to: 8 }], partitions: 4 });
  });

  it('decodes nothing from the metadata of another offset', () => {
    const { metadata } = encodeCommit({ offset: 10, settled: [{ from: 12, to: 13 }], partitions: 2 });
    expect(decodeCommit(metadata, 9)).toEqual(nothing);
    expect(decodeCommit(metadata, 11)).toEqual(nothing);
    expect(decodeCommit(guarded('offset=-1;settled=0'), -1)).toEqual(nothing);
    expect(decodeCommit(guarded('offset=NaN;settled=0'), NaN)).toEqual(nothing);
  });

  it('decodes nothing from the metadata of other clients', () => {
    for (const metadata of [
      null,
      '',
      'settled=1',
      'offset=3',
      'consumer-1@host',
      '{"offset":3}',
      'AAAAAQ==',
      'stork=',
    ]) {
      expect(decodeCommit(metadata, 3), String(metadata)).toEqual(nothing);
    }
  });

  it('decodes nothing from truncated metadata', () => {
    fc.assert(
      fc.property(commitsOf(10), (commit) => {
        const { metadata } = encodeCommit(commit);
        const texts = Array.from(metadata, (_, length) => metadata.slice(0, length));
        expect(texts.filter((text) => decodeCommit(text, commit.offset).settled.length > 0)).toEqual([]);
        expect(texts.filter((text) => decodeCommit(text, commit.offset).partitions !== undefined)).toEqual(
          [],
        );
      }),
    );
  });

  it.each([
    'settled=',
    'settled=1,',
    'settled=,1',
    'settled=1,-1',
    'settled=-1',
    'settled=1:0',
    'settled=1:-5',
    'settled=1:',
    'settled=NaN',
    'settled=1:Infinity',
    'settled=1.5',
    'settled=0x10',
    'settled=1e3',
    'settled= 1',
    'settled=١',
    'settled=9007199254740992',
    'settled=9007199254740991',
    'settled=1:9007199254740991',
    `settled=${'9'.repeat(30)}`,
    'settled=1,1,x,1',
    'partitions=0',
    'partitions=-3',
    'partitions=2.5',
    'partitions=',
    'partitions=9007199254740993',
  ])('rejects all of the metadata with %s', (field) => {
    const other = field.startsWith('settled') ? 'partitions=3' : 'settled=1';
    expect(decodeCommit(guarded(`offset=5;${other};${field}`), 5)).toEqual(nothing);
    expect(decodeCommit(guarded(`offset=5;${field};${other}`), 5)).toEqual(nothing);
    expect(decodeCommit(guarded(`offset=5;${other}`), 5), 'without the field').not.toEqual(nothing);
  });

  it('never throws, and never returns ranges out of order or below the offset, whatever the text', () => {
    const piece = fc.oneof(
      fc.constantFrom(...'stork= offset= partitions= settled= ; , : - = 0 \n NaN 1e9'.split(' ')),
      fc.nat(20).map(String),
      fc.maxSafeNat().map(String),
      fc.string({ unit: 'binary', maxLength: 3 }),
    );
    const settled = fc.array(piece, { maxLength: 20 }).map((pieces) => pieces.join(''));
    const texts = fc.oneof(
      fc.string({ unit: 'binary' }),
      settled,
      settled.map((text) => guarded(`offset=5;settled=${text}`)),
      // Mostly valid, so that the test covers more than rejections.
      fc
        .array(fc.constantFrom('0', '1', '2:3', '7:1', '0:9', '3:0', '9007199254740980', '1:-1'), {
          maxLength: 6,
        })
        .map((ranges) => guarded(`offset=5;settled=${ranges.join(',')}`)),
    );
    let decodedTexts = 0;
    fc.assert(
      fc.property(texts, (metadata) => {
        const decoded = decodeCommit(metadata, 5);
        expect(isOrdered(decoded.settled, 5) && (decoded.partitions ?? 1) > 0).toBe(true);
        if (decoded.settled.length > 0) decodedTexts++;
      }),
      { numRuns: 3000 },
    );
    expect(decodedTexts).toBeGreaterThan(100);
  });
});
