import type { OffsetRange } from '../../driver-kit/log/offset-tracker.js';

/**
 * The metadata of a committed offset, as text: fields `name=value` joined by `;`. A reader ignores fields
 * that it does not know. For example `stork=39;offset=120;partitions=12;settled=2:10,1`: the topic had 12
 * partitions at the first commit, and of this partition the offsets 122–131 and 133 are settled already. A
 * range is the number of offsets that it skips and, if it covers more than one, the number that it covers.
 *
 * Two fields guard the others, because wrong ranges would skip records. `stork` is the length of the rest,
 * so that a truncated text is rejected. `offset` repeats the committed offset: tools that copy a group to
 * another cluster translate the offset and copy the metadata unchanged.
 */

/** The broker's default `offset.metadata.max.bytes` is 4 096. */
const maxBytes = 4_000;

/** Room for the length field, which is written last and has at most four digits. */
const guardBytes = 'stork=0000;'.length;

export interface CommitToEncode {
  readonly offset: number;
  /** Settled ranges from `offset` on, in rising order, without overlap. */
  readonly settled: readonly OffsetRange[];
  /** Partitions that the topic had when the group first committed. */
  readonly partitions: number | undefined;
}

export interface EncodedCommit {
  readonly metadata: string;
  /** Settled offsets up to this one are in the text; `Infinity` when all are. */
  readonly covered: number;
}

export interface DecodedCommit {
  readonly settled: OffsetRange[];
  readonly partitions: number | undefined;
}

/** At most 4 000 bytes, all of them ASCII: the lowest ranges, as many as fit. */
export function encodeCommit({ offset, settled, partitions }: CommitToEncode): EncodedCommit {
  let fields = `offset=${offset}`;
  if (partitions !== undefined) fields += `;partitions=${partitions}`;
  let next = offset;
  for (const { from, to } of settled) {
    const range = `${next === offset ? ';settled=' : ','}${from - next}${to > from ? `:${to - from + 1}` : ''}`;
    if (guardBytes + fields.length + range.length > maxBytes)
      return { metadata: withLength(fields), covered: from - 1 };
    fields += range;
    next = to + 1;
  }
  return { metadata: withLength(fields), covered: Infinity };
}

/**
 * The metadata of a commit at `offset`. Empty if another client wrote it, if it belongs to another
 * offset, and if it is truncated or malformed.
 */
export function decodeCommit(metadata: string | null, offset: number): DecodedCommit {
  const nothing: DecodedCommit = { settled: [], partitions: undefined };
  const fields = fieldsOf(metadata ?? '');
  if (fields === undefined || wholeNumber(fields.get('offset')) !== offset) return nothing;
  const settled = decodeRanges(fields.get('settled'), offset);
  const partitions = fields.has('partitions') ? wholeNumber(fields.get('partitions')) : undefined;
  if (settled === undefined || (partitions !== undefined && !(partitions > 0))) return nothing;
  return { settled, partitions };
}

function withLength(fields: string): string {
  return `stork=${fields.length};${fields}`;
}

/** Undefined if the length does not match. */
function fieldsOf(metadata: string): ReadonlyMap<string, string | undefined> | undefined {
  const [, length, fields] = /^stork=(\d+);(.*)$/s.exec(metadata) ?? [];
  if (fields === undefined || fields.length !== Number(length)) return undefined;
  return new Map(fields.split(';').map((field) => split(field, '=')));
}

/** Undefined if one range is malformed: then the others cannot be trusted either. */
function decodeRanges(value: string | undefined, offset: number): OffsetRange[] | undefined {
  const ranges: OffsetRange[] = [];
  if (value === undefined) return ranges;
  let next = offset;
  for (const range of value.split(',')) {
    const [skipped, covered] = split(range, ':');
    const from = next + wholeNumber(skipped);
    const count = covered === undefined ? 1 : wholeNumber(covered);
    next = from + count;
    // Rejects NaN too. A range below the previous one cannot be expressed, as digits have no sign.
    if (!(count > 0) || !Number.isSafeInteger(next)) return undefined;
    ranges.push({ from, to: next - 1 });
  }
  return ranges;
}

/** The text before and after the first separator. */
function split(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

/** NaN unless the text is plain digits of a safe integer. */
function wholeNumber(text: string | undefined): number {
  const number = /^\d+$/.test(text ?? '') ? Number(text) : NaN;
  return Number.isSafeInteger(number) ? number : NaN;
}
