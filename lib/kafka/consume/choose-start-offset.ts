import type { CommittedOffset, PartitionOffsets } from '../client/client.js';
import { decodeCommit } from './commit-metadata.js';

export interface StartOffset {
  readonly offset: number;
  /** Metadata of the committed offset; null if the offset was chosen and is yet to be committed. */
  readonly metadata: string | null;
  /** Partitions that the topic had when the group first committed. Higher ones were added later. */
  readonly partitionsAtFirstCommit: number;
  /** Records that retention deleted before the group read them. */
  readonly lost: number;
}

export interface StartOffsetInput {
  readonly partition: number;
  readonly ends: PartitionOffsets;
  /** Committed offsets of all partitions of the topic. */
  readonly committed: readonly CommittedOffset[];
  /** Partitions that the topic has now. */
  readonly partitions: number;
  readonly fromBeginning: boolean;
  /** True for a topic that was created after this consumer started: all of its records are new. */
  readonly createdAfterStart: boolean;
}

/**
 * The offset from which a newly assigned partition is read. kafkajs's own choice would skip records: after
 * a restart before the first commit, in partitions added later, and where retention deleted the offset.
 */
export function chooseStartOffset(input: StartOffsetInput): StartOffset {
  const { partition, ends, committed, partitions } = input;
  const own = committed.find((one) => one.partition === partition);
  const known = partitionsAtFirstCommitOf(committed);
  const partitionsAtFirstCommit = known ?? partitions;
  if (own !== undefined && own.offset >= 0) return fromCommit(own, ends, partitionsAtFirstCommit);
  const isAdded = known !== undefined && partition >= known;
  // Below −1 is a special offset: kafkajs commits −2 for "from the beginning".
  const wasReset = own !== undefined && own.offset < -1;
  const isEarliest = input.fromBeginning || input.createdAfterStart || isAdded || wasReset;
  const offset = isEarliest ? ends.low : ends.high;
  return { offset, metadata: null, partitionsAtFirstCommit, lost: 0 };
}

function fromCommit(
  { offset, metadata }: CommittedOffset,
  { low, high }: PartitionOffsets,
  partitionsAtFirstCommit: number,
): StartOffset {
  if (offset >= low && offset <= high) return { offset, metadata, partitionsAtFirstCommit, lost: 0 };
  // Below the beginning: retention deleted the offset. Beyond the end: the topic was created again.
  return { offset: low, metadata: null, partitionsAtFirstCommit, lost: Math.max(0, low - offset) };
}

function partitionsAtFirstCommitOf(committed: readonly CommittedOffset[]): number | undefined {
  const known = committed
    .filter(({ offset }) => offset >= 0)
    .map(({ metadata, offset }) => decodeCommit(metadata, offset).partitions)
    .filter((partitions) => partitions !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}
