import { expect, it } from 'vitest';
import { expiryMs } from '../../../../lib/driver-kit/queue/queue-message.js';
import { retryQueueDelays } from '../../../../lib/driver-kit/queue/queue-topology.js';

it.each([
  ['1500', {}, 1_500],
  ['0', {}, 0],
  [undefined, { 'stork-origin-expiration': '300' }, 300],
  ['', { 'stork-origin-expiration': '300' }, 300],
  ['1500', { 'stork-origin-expiration': '300' }, 1_500],
  [undefined, {}, undefined],
  ['soon', {}, undefined],
  ['-1', {}, undefined],
  [5, {}, undefined],
  [undefined, { 'stork-origin-expiration': '9'.repeat(400) }, undefined],
])('a message with the expiration %j and the headers %j expires after %s ms', (expiration, headers, ms) => {
  expect(expiryMs(expiration, headers)).toBe(ms);
});

it('a queue has one retry queue for each delay', () => {
  const delays = (redeliverDelaysMs: readonly number[], unhandledDelayMs?: number): number[] => [
    ...retryQueueDelays({ redeliverDelaysMs, unhandledDelayMs }),
  ];
  expect([delays([]), delays([100, 200]), delays([100, 200], 50), delays([100], 100)]).toEqual([
    [],
    [100, 200],
    [100, 200, 50],
    [100],
  ]);
});
