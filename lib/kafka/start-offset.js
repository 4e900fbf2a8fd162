import { decodeCommit } from './commit-metadata.js';
/** The client's own choice loses messages: after a restart before the first commit, in partitions added later, behind retention. */
export function chooseStart(question) {
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
function fromCommit(mine, { low, high }, knownPartitions) {
  if (mine.offset >= low && mine.offset <= high) {
    return { offset: mine.offset, metadata: mine.metadata, knownPartitions, lost: 0 };
  }
  // Behind the log's beginning: retention was faster. Beyond its end: another log under the same name.
  return { offset: low, metadata: null, knownPartitions, lost: Math.max(0, low - mine.offset) };
}
function knownPartitionsOf(committed) {
  const known = committed
    .filter(({ offset }) => offset >= 0)
    .map(({ metadata, offset }) => decodeCommit(metadata, offset).partitions)
    .filter((partitions) => partitions !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}
