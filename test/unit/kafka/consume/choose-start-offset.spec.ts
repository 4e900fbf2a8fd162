import { expect, it } from 'vitest';
import { encodeCommit } from '../../../../lib/kafka/consume/commit-metadata.js';
import {
  chooseStartOffset,
  type StartOffsetInput,
} from '../../../../lib/kafka/consume/choose-start-offset.js';

const topic = 't';
const fresh: StartOffsetInput = {
  partition: 0,
  ends: { partition: 0, low: 20, high: 52 },
  committed: [],
  partitions: 3,
  fromBeginning: false,
  createdAfterStart: false,
};
const commit = (partition: number, offset: number, partitions?: number) => {
  const { metadata } = encodeCommit({ offset, settled: [], partitions });
  return { topic, partition, offset, metadata };
};
const start = (input: Partial<StartOffsetInput>) => chooseStartOffset({ ...fresh, ...input });

it.each<[string, Partial<StartOffsetInput>, number]>([
  ['at the end offset', {}, 52],
  ['at the beginning with fromBeginning', { fromBeginning: true }, 20],
  ['at the beginning of a topic created after the start', { createdAfterStart: true }, 20],
  ['at the committed offset', { committed: [commit(0, 33, 3)], fromBeginning: true }, 33],
  ['at the end offset where the group has read everything', { committed: [commit(0, 52, 3)] }, 52],
  ['at the end offset where only another partition has a commit', { committed: [commit(1, 5, 3)] }, 52],
  ['at the beginning of a partition added later', { partition: 2, committed: [commit(0, 5, 2)] }, 20],
  [
    'at the beginning where kafkajs committed the special offset "earliest"',
    { committed: [commit(0, -2)] },
    20,
  ],
  [
    'at the end offset without a committed offset',
    { committed: [{ topic, partition: 0, offset: -1, metadata: null }] },
    52,
  ],
  ['at the beginning of a topic that was deleted and created again', { committed: [commit(0, 53, 3)] }, 20],
])('a partition starts %s', (_where, input, offset) => {
  expect(start(input).offset).toBe(offset);
});

it('counts records that retention deleted', () => {
  expect(start({ committed: [commit(0, 5, 3)] })).toMatchObject({ offset: 20, lost: 15, metadata: null });
  expect(start({ committed: [commit(0, 20, 3)] })).toMatchObject({ offset: 20, lost: 0 });
});

it('keeps the number of partitions at the first commit', () => {
  expect(start({ partitions: 6, committed: [commit(1, 5, 3)] }).partitionsAtFirstCommit).toBe(3);
  expect(start({ partitions: 6 }).partitionsAtFirstCommit).toBe(6);
  // Another program's commit has no such number.
  const foreign = { topic, partition: 0, offset: 30, metadata: '' };
  expect(start({ partitions: 6, committed: [foreign] })).toMatchObject({
    offset: 30,
    partitionsAtFirstCommit: 6,
  });
});
