import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../../../lib/core/runtime/clock.js';
import {
  discardDeadLetters,
  replayDeadLetters,
  replayHeaders,
  type ReplayOptions,
} from '../../../../../lib/core/dead-letter/admin/dead-letter-operations.js';
import { newMessage } from '../../harness.js';
import { FakeStore, deadLetter } from '../../../cli/fake-host.js';

const options: ReplayOptions = {
  filter: {},
  signal: new AbortController().signal,
  dryRun: false,
  max: Infinity,
  rate: Infinity,
  clock: systemClock,
  maxReplays: 3,
  onProgress: () => {},
};

describe('an operation on dead letters', () => {
  it('stops and rejects with the error that onProgress throws', async () => {
    const store = new FakeStore(['1', '2', '3'].map((id) => deadLetter({ id })));
    const thrown = new Error('the terminal is gone');
    const rejected: unknown[] = [];
    const scan = store.scan.bind(store);
    // Neither method of the visitor may reject: the driver would not know which actions are done.
    store.scan = (visitor, scanOptions) =>
      scan(visitor, scanOptions).catch((error: unknown) => {
        rejected.push(error);
        throw error;
      });
    const onProgress = (): void => {
      throw thrown;
    };
    await expect(replayDeadLetters(store, { ...options, onProgress })).rejects.toBe(thrown);
    expect(store.replayed).toEqual(['1']);
    expect(rejected).toEqual([]);
  });

  it.each(['constructor', '__proto__', 'toString'])('counts the reason %s like any other', async (reason) => {
    const store = new FakeStore([deadLetter({ id: '1', reason }), deadLetter({ id: '2', reason })]);
    const { byReason } = await discardDeadLetters(store, options);
    expect(Object.entries(byReason)).toEqual([[reason, 2]]);
  });
});

it('a replay begins anew, also of what the broker dead-lettered', () => {
  const earlier = {
    'stork-attempt': '3',
    'stork-first-failed-at': '2026-01-01T00:00:00.000Z',
    'stork-due-at': '2026-01-01T00:00:00.000Z',
    'stork-deadline': '2026-01-01T00:00:00.000Z',
    'stork-unhandled-count': '50',
  };
  const message = newMessage({ headers: { ...earlier, tenant: 'blue', 'stork-handler': 'A.b' } });
  const brokerCause = {
    reason: 'delivery-limit',
    source: 'orders',
    exchange: undefined,
    routingKey: undefined,
    at: undefined,
  } as const;
  expect(replayHeaders({ id: '1', message, brokerCause })).toEqual({
    tenant: 'blue',
    'stork-handler': 'A.b',
    'stork-origin': 'orders',
    'stork-replay-count': '1',
  });
});
