import { expect, it } from 'vitest';
import type { HeaderValue } from '../../../../lib/core/message/headers.js';
import { expiryMs, republishedHeaders } from '../../../../lib/driver-kit/queue/queue-message.js';
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

it.each([
  ['a list', ['a', 'b'], '["a","b"]'],
  ['a bigint in a list', [7n], '["7"]'],
  ['bytes', Buffer.from('a'), 'a'],
  ['long text', 'x'.repeat(5_000), 'x'.repeat(1_024)],
])('a republished message keeps a CC header as text: %s', (_, cc: HeaderValue, text) => {
  const headers = republishedHeaders({ CC: cc, tenant: 'blue' }, { expiration: undefined, cc });
  expect({ ...headers }).toEqual({ tenant: 'blue', 'stork-origin-cc': text });
});

it('a CC header that is nested too deeply for JSON does not keep a message from being republished', () => {
  let cc: HeaderValue = [];
  for (let depth = 0; depth < 100_000; depth++) cc = [cc];
  expect(republishedHeaders({}, { expiration: '7', cc })).toMatchObject({ 'stork-origin-cc': '…' });
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
