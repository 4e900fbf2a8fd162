import { expect, it, onTestFinished } from 'vitest';
import { sleep } from '../../../../lib/core/runtime/clock.js';
import { OwnedPartition } from '../../../../lib/kafka/consume/owned-partition.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';

it('lets any number of records wait for its revocation without a warning of Node', async () => {
  const warnings: Error[] = [];
  const collect = (warning: Error): void => void warnings.push(warning);
  process.on('warning', collect);
  onTestFinished(() => void process.off('warning', collect));
  const clock = new VirtualClock();
  const partition = new OwnedPartition({
    topic: 'orders.retry.g.1000',
    partition: 0,
    source: 'orders',
    patternHeader: undefined,
    guessContentType: () => undefined,
    sourceSettings: { order: 'key', delivery: 'at-least-once' },
    delay: { delayMs: 1_000, clockSkewMs: 0 },
    maxOffsetGap: 100,
    maxKeyBacklogBytes: 1_000,
    sink: { deliver: () => {}, quiesce: async () => {}, resume: () => {} },
    clock,
    scheduleCommit: () => {},
    readyToDispatch: () => {},
    republish: async () => {},
    forwardRemainingDelay: async () => false,
  });
  const waiting = Array.from({ length: 100 }, () => sleep(clock, 1_000, partition.signal));
  partition.end();
  await Promise.all(waiting);
  // Node emits a warning in the next tick.
  await new Promise(setImmediate);
  expect(warnings).toEqual([]);
});
