import { expect, it, onTestFinished } from 'vitest';
import { sleep } from '../../../../lib/core/runtime/clock.js';
import { OwnedPartition } from '../../../../lib/kafka/consume/owned-partition.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';

it('lets any number of its records wait until it is lost', async () => {
  const warnings: Error[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  process.on('warning', note);
  onTestFinished(() => void process.off('warning', note));
  const clock = new VirtualClock();
  const partition = new OwnedPartition({
    topic: 'orders.retry.g.1000',
    partition: 0,
    source: 'orders',
    patternHeader: undefined,
    guessContentType: () => undefined,
    consume: { order: 'key', delivery: 'at-least-once' },
    times: { delayMs: 1_000, clockSkewMs: 0 },
    maxOffsetGap: 100,
    maxBytesBehind: 1_000,
    sink: { deliver: () => {}, quiesce: async () => {}, resume: () => {} },
    clock,
    settled: () => {},
    freed: () => {},
    copy: async () => {},
    waitOn: async () => false,
  });
  const waiting = Array.from({ length: 100 }, () => sleep(clock, 1_000, partition.signal));
  partition.end();
  await Promise.all(waiting);
  // A warning is told in the turn after.
  await new Promise(setImmediate);
  expect(warnings).toEqual([]);
});
