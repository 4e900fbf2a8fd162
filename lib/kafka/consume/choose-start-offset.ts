import type { CommittedOffset, PartitionEnds } from '../client/client.js';
import { decodeCommit } from './commit-metadata.js';

export interface StartOffset {
  readonly offset: number;
  /** Of the commit that it comes from; null where there was none. */
  readonly metadata: string | null;
  /** Partitions that the topic had when the group first chose where to start. Those beyond were added later. */
  readonly knownPartitions: number;
  /** Records that were deleted before they were read. */
  readonly lost: number;
}

export interface StartQuestion {
  readonly partition: number;
  readonly ends: PartitionEnds;
  /** What the group remembers of every partition of the topic. */
  readonly committed: readonly CommittedOffset[];
  readonly partitions: number;
  readonly fromBeginning: boolean;
  /** True for a topic that was made after we began: nothing in it is old. */
  readonly isNewTopic: boolean;
}

/** The client's own choice loses messages: after a restart before the first commit, in partitions added later, behind retention. */
export function chooseStart(question: StartQuestion): StartOffset {
  const { partition, ends, committed, partitions } = question;
  const mine = committed.find((one) => one.partition === partition);
  const known = knownPartitionsOf(committed);
  if (mine !== undefined && mine.offset >= 0) return fromCommit(mine, ends, known ?? partitions);
  const isAdded = known !== undefined && partition >= known;
  // Below −1 is a special offset that the client once wrote for "from the beginning".
  const wasReset = mine !== undefined && mine.offset < -1;
  const isEarliest = question.fromBeginning || question.isNewTopic || isAdded || wasReset;
  const offset = isEarliest ? ends.low : ends.high;
  return { offset, metadata: null, knownPartitions: known ?? partitions, lost: 0 };
}

function fromCommit(
  mine: CommittedOffset,
  { low, high }: PartitionEnds,
  knownPartitions: number,
): StartOffset {
  if (mine.offset >= low && mine.offset <= high) {
    return { offset: mine.offset, metadata: mine.metadata, knownPartitions, lost: 0 };
  }
  // Behind the log's beginning: retention was faster. Beyond its end: another log under the same name.
  return { offset: low, metadata: null, knownPartitions, lost: Math.max(0, low - mine.offset) };
}

function knownPartitionsOf(committed: readonly CommittedOffset[]): number | undefined {
  const known = committed
    .filter(({ offset }) => offset >= 0)
    .map(({ metadata, offset }) => decodeCommit(metadata, offset).partitions)
    .filter((partitions) => partitions !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}
