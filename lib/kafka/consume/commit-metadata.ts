import type { OffsetRange } from '../../driver-kit/log/offset-tracker.js';

/**
 * What a commit says beside its offset, as text: fields `name=value` joined by `;`, of which unknown ones are ignored. For example
 * `stork=39;offset=120;partitions=12;settled=2:10,1`: of the topic's first 12 partitions this one has 122–131 and 133 settled already.
 * A range is how many numbers it leaves out, and how many it holds if that is more than one.
 *
 * Two fields guard the others. A text that is believed and wrong loses records: `stork` is the length of what follows, so that a text
 * that was cut is refused; `offset` is the committed one once more, as tools that copy a group to another cluster translate the offset
 * and copy the text as it is.
 */

/** The broker's default limit is 4 096. */
const maxBytes = 4_000;

/** The length takes its place last: it has at most this many digits. */
const guardBytes = 'stork=0000;'.length;

export interface CommitToEncode {
  readonly offset: number;
  /** What is settled from `offset` on, in rising order, without overlap. */
  readonly settled: readonly OffsetRange[];
  /** How many partitions the topic had when the group first chose where to start. */
  readonly partitions: number | undefined;
}

export interface EncodedCommit {
  readonly metadata: string;
  /** Every settled number up to this one is in the text; `Infinity` when all are. */
  readonly covered: number;
}

export interface DecodedCommit {
  readonly settled: OffsetRange[];
  readonly partitions: number | undefined;
}

/** In at most 4 000 bytes, all of them ASCII: the lowest ranges, as many as fit. */
export function encodeCommit({ offset, settled, partitions }: CommitToEncode): EncodedCommit {
  let fields = `offset=${offset}`;
  if (partitions !== undefined) fields += `;partitions=${partitions}`;
  let next = offset;
  for (const { from, to } of settled) {
    const range = `${next === offset ? ';settled=' : ','}${from - next}${to > from ? `:${to - from + 1}` : ''}`;
    if (guardBytes + fields.length + range.length > maxBytes)
      return { metadata: guard(fields), covered: from - 1 };
    fields += range;
    next = to + 1;
  }
  return { metadata: guard(fields), covered: Infinity };
}

/** What the text says of a commit at `offset`; nothing where it is another's, belongs to another offset, or is not whole and sound. */
export function decodeCommit(metadata: string | null, offset: number): DecodedCommit {
  const nothing: DecodedCommit = { settled: [], partitions: undefined };
  const fields = unguard(metadata ?? '');
  if (fields === undefined || wholeNumber(fields.get('offset')) !== offset) return nothing;
  const settled = decodeRanges(fields.get('settled'), offset);
  const partitions = fields.has('partitions') ? wholeNumber(fields.get('partitions')) : undefined;
  if (settled === undefined || (partitions !== undefined && !(partitions > 0))) return nothing;
  return { settled, partitions };
}

function guard(fields: string): string {
  return `stork=${fields.length};${fields}`;
}

function unguard(metadata: string): ReadonlyMap<string, string | undefined> | undefined {
  const [, length, fields] = /^stork=(\d+);(.*)$/s.exec(metadata) ?? [];
  if (fields === undefined || fields.length !== Number(length)) return undefined;
  return new Map(fields.split(';').map((field) => split(field, '=')));
}

/** Undefined if one of them is unsound: then none can be trusted. */
function decodeRanges(value: string | undefined, offset: number): OffsetRange[] | undefined {
  const ranges: OffsetRange[] = [];
  if (value === undefined) return ranges;
  let next = offset;
  for (const range of value.split(',')) {
    const [left, held] = split(range, ':');
    const from = next + wholeNumber(left);
    const count = held === undefined ? 1 : wholeNumber(held);
    next = from + count;
    // NaN included; a range that begins below the last one cannot be said.
    if (!(count > 0) || !Number.isSafeInteger(next)) return undefined;
    ranges.push({ from, to: next - 1 });
  }
  return ranges;
}

/** What stands before and after the first separator. */
function split(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

/** NaN for everything that is not plain digits, and for numbers that are not exact. */
function wholeNumber(text: string | undefined): number {
  const number = /^\d+$/.test(text ?? '') ? Number(text) : NaN;
  return Number.isSafeInteger(number) ? number : NaN;
}
