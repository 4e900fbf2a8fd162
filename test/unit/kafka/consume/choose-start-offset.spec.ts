import { expect, it } from 'vitest';
import { encodeCommit } from '../../../../lib/kafka/consume/commit-metadata.js';
import { chooseStart, type StartQuestion } from '../../../../lib/kafka/consume/choose-start-offset.js';

const topic = 't';
const fresh: StartQuestion = {
  partition: 0,
  ends: { partition: 0, low: 20, high: 52 },
  committed: [],
  partitions: 3,
  fromBeginning: false,
  isNewTopic: false,
};
const commit = (partition: number, offset: number, partitions?: number) => {
  const { metadata } = encodeCommit({ offset, settled: [], partitions });
  return { topic, partition, offset, metadata };
};
const start = (question: Partial<StartQuestion>) => chooseStart({ ...fresh, ...question });

it.each<[string, Partial<StartQuestion>, number]>([
  ['at the end', {}, 52],
  ['at the beginning where that is wished', { fromBeginning: true }, 20],
  ['at the beginning of a topic that is new', { isNewTopic: true }, 20],
  ['where the group stopped', { committed: [commit(0, 33, 3)], fromBeginning: true }, 33],
  ['at the end where all was read', { committed: [commit(0, 52, 3)] }, 52],
  ['at the end of a partition beside another with a commit', { committed: [commit(1, 5, 3)] }, 52],
  ['at the beginning of a partition that was added', { partition: 2, committed: [commit(0, 5, 2)] }, 20],
  ['at the beginning where the client wrote "earliest"', { committed: [commit(0, -2)] }, 20],
  [
    'at the end where the group remembers nothing',
    { committed: [{ topic, partition: 0, offset: -1, metadata: null }] },
    52,
  ],
  ['at the beginning of another log of that name', { committed: [commit(0, 53, 3)] }, 20],
])('a partition begins %s', (_where, question, offset) => {
  expect(start(question).offset).toBe(offset);
});

it('what retention took is told', () => {
  expect(start({ committed: [commit(0, 5, 3)] })).toMatchObject({ offset: 20, lost: 15, metadata: null });
  expect(start({ committed: [commit(0, 20, 3)] })).toMatchObject({ offset: 20, lost: 0 });
});

it('the number of partitions at the first choice is kept', () => {
  expect(start({ partitions: 6, committed: [commit(1, 5, 3)] }).knownPartitions).toBe(3);
  expect(start({ partitions: 6 }).knownPartitions).toBe(6);
  // Of another program, which writes none.
  const foreign = { topic, partition: 0, offset: 30, metadata: '' };
  expect(start({ partitions: 6, committed: [foreign] })).toMatchObject({ offset: 30, knownPartitions: 6 });
});
