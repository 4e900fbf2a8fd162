import { describe, expect, it } from 'vitest';
import type { Delivery } from '../../../../lib/core/port/delivery.js';
import type { OffsetToCommit } from '../../../../lib/kafka/client/client.js';
import { OffsetCommitter } from '../../../../lib/kafka/consume/offset-committer.js';
import { OwnedPartition } from '../../../../lib/kafka/consume/owned-partition.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';

/** A partition with three dispatched records, and its committer. */
function newCommitter() {
  const clock = new VirtualClock();
  const startedAt = clock.now();
  const commits: { readonly afterMs: number; readonly offset: number }[] = [];
  const deliveries: Delivery[] = [];
  const partition = new OwnedPartition({
    topic: 'orders',
    partition: 0,
    source: 'orders',
    patternHeader: undefined,
    guessContentType: () => undefined,
    sourceSettings: { order: 'none', delivery: 'at-least-once' },
    delay: undefined,
    maxOffsetGap: 100,
    maxKeyBacklogBytes: 1_000,
    sink: {
      deliver: (delivery) => void deliveries.push(delivery),
      quiesce: async () => {},
      resume: () => {},
    },
    clock,
    scheduleCommit: (urgency) => committer.scheduleCommit(urgency),
    readyToDispatch: () => {},
    republish: async () => {},
    forwardRemainingDelay: async () => false,
  });
  const committer = new OffsetCommitter({
    consumer: {
      async commit(offsets: readonly OffsetToCommit[]) {
        for (const { offset } of offsets) commits.push({ afterMs: clock.now() - startedAt, offset });
      },
    },
    partitions: () => [partition],
    clock,
    failed: (error) => {
      throw error;
    },
  });
  partition.start({ offset: 0, metadata: null, partitionsAtFirstCommit: 1, lost: 0 });
  const records = ['0', '1', '2'].map((offset) => ({
    offset,
    key: null,
    value: Buffer.from(offset),
    timestamp: '0',
  }));
  partition.add(records, 3);
  partition.dispatch(3, () => true);
  return { clock, commits, deliveries };
}

const deadLetter = { to: 'dead-letter', headers: {} } as const;

describe('OffsetCommitter', () => {
  it('commits handled messages after one second, all in one commit', async () => {
    const { clock, commits, deliveries } = newCommitter();
    deliveries[0]!.ack();
    await clock.advance(500);
    deliveries[1]!.ack();
    await clock.advance(499);
    expect(commits).toEqual([]);
    await clock.advance(1);
    expect(commits).toEqual([{ afterMs: 1_000, offset: 2 }]);
  });

  it('commits republished messages sooner: after a crash they would be republished again', async () => {
    const { clock, commits, deliveries } = newCommitter();
    deliveries[0]!.ack();
    await clock.advance(300);
    await deliveries[1]!.republishThenAck([deadLetter]);
    await clock.advance(100);
    expect(commits).toEqual([{ afterMs: 400, offset: 2 }]);
    deliveries[2]!.ack();
    await clock.advance(999);
    expect(commits).toHaveLength(1);
    await clock.advance(1);
    expect(commits[1]).toEqual({ afterMs: 1_400, offset: 3 });
  });

  it('does not postpone the commit for each further republished message', async () => {
    const { clock, commits, deliveries } = newCommitter();
    for (const delivery of deliveries) {
      await delivery.republishThenAck([deadLetter]);
      await clock.advance(40);
    }
    expect(commits).toEqual([{ afterMs: 100, offset: 3 }]);
  });
});
