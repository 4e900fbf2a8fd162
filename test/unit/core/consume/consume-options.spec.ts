import { describe, expect, it } from 'vitest';
import {
  validateSingleManual,
  validateConcurrency,
  subscribedPatterns,
} from '../../../../lib/core/consume/consume-options.js';
import {
  sourceSettingsOf,
  findConflicts,
  findConflictsByPattern,
  validateNoPartitionOrder,
} from '../../../../lib/driver-kit/source-settings.js';
import { orderingKeyOf } from '../../../../lib/driver-kit/log/ordering-key.js';
import type { ConsumeSettings, Handler } from '../../../../lib/core/consume/handler.js';
import { patternFromRegExp, patternFromString } from '../../../../lib/core/message/pattern.js';

function newHandler(
  id: string,
  pattern: string | RegExp,
  consume?: ConsumeSettings,
  kind: Handler['kind'] = 'event',
): Handler {
  const patterns = [typeof pattern === 'string' ? patternFromString(pattern) : patternFromRegExp(pattern)];
  const handler = { id, kind, patterns, run: async () => undefined };
  return consume === undefined ? handler : { ...handler, consume };
}

describe('subscribed patterns', () => {
  it('name each pattern once for each way in which it is wanted', () => {
    const handlers = [
      newHandler('a', 'x'),
      newHandler('b', 'x', { order: 'key' }),
      newHandler('c', 'x', { order: 'none' }),
    ];
    expect(subscribedPatterns(handlers)).toEqual([
      { text: 'x', kind: 'exact', order: 'key', delivery: 'at-least-once', handlerNames: ['a', 'b'] },
      { text: 'x', kind: 'exact', order: 'none', delivery: 'at-least-once', handlerNames: ['c'] },
    ]);
  });

  it('tell how a source is consumed: any of them, or the one that names it', () => {
    const patterns = subscribedPatterns([
      newHandler('a', 'x', { order: 'none' }),
      newHandler('b', /^y/, { delivery: 'manual' }),
    ]);
    expect(sourceSettingsOf(patterns)).toMatchObject({ order: 'none', delivery: 'at-least-once' });
    expect(sourceSettingsOf(patterns, 'y.1')).toMatchObject({ order: 'key', delivery: 'manual' });
    expect(sourceSettingsOf(patterns, 'z')).toEqual({ order: 'key', delivery: 'at-least-once' });
  });
});

it.each([
  ['none', 'k', undefined],
  ['partition', 'k', 't/1'],
  ['key', 'k', 't/1/k'],
  ['key', '', 't/1/'],
  ['key', undefined, 't/1'],
] as const)('the order %s puts the key %j of a log under the ordering key %j', (order, key, orderingKey) => {
  expect(orderingKeyOf(order, 't/1', { key, headers: {} })).toBe(orderingKey);
});

it.each([
  ['none', undefined, undefined],
  ['partition', undefined, 't/1'],
  ['key', 'k', 't/1/k'],
  ['key', undefined, undefined],
] as const)(
  'the order %s puts a request with the key %j under the ordering key %j',
  (order, key, orderingKey) => {
    expect(orderingKeyOf(order, 't/1', { key, headers: { kafka_replyTopic: 'x.reply' } })).toBe(orderingKey);
  },
);

describe('what handlers cannot wish for together', () => {
  it('is to read one source in different ways', () => {
    const patterns = subscribedPatterns([
      newHandler('a', 'x'),
      newHandler('b', 'y', { order: 'none' }),
      newHandler('c', 'z', { order: 'none', delivery: 'manual' }),
    ]);
    expect(findConflicts(patterns, 'the queue "q"')).toEqual([
      {
        name: '@Consume({ order }) of b',
        expected: `the same as of a, which consumes the queue "q" too: 'key'`,
        given: `'none'`,
      },
      {
        name: '@Consume({ delivery }) of c',
        expected: `the same as of a, which consumes the queue "q" too: 'at-least-once'`,
        given: `'manual'`,
      },
    ]);
  });

  it('is the same, where each pattern is a source, only of patterns that meet', () => {
    const apart = [newHandler('a', 'x'), newHandler('b', 'y', { order: 'none' })];
    expect(findConflictsByPattern(subscribedPatterns(apart))).toEqual([]);
    const meeting = [...apart, newHandler('c', /^y/)];
    expect(findConflictsByPattern(subscribedPatterns(meeting))).toMatchObject([
      { name: '@Consume({ order }) of c', expected: expect.stringContaining('of b, which consumes y') },
    ]);
    const same = [newHandler('a', 'x'), newHandler('b', 'x', { delivery: 'manual' })];
    expect(findConflictsByPattern(subscribedPatterns(same))).toHaveLength(1);
  });

  it('is manual for several handlers of one event, whatever their patterns look like', () => {
    const manual = { delivery: 'manual' } as const;
    const handlers = [
      newHandler('a', 'order.created', manual),
      newHandler('b', 'order.*', manual),
      newHandler('c', /^order/, manual),
      newHandler('d', 'invoice', manual),
      newHandler('e', 'order.created', manual, 'message'),
      newHandler('f', 'order.created'),
    ];
    expect(validateSingleManual(handlers).map(({ name, given }) => `${name}: ${given}`)).toEqual([
      '@Consume({ delivery }) of b: a listens to order.created too',
      '@Consume({ delivery }) of c: a listens to order.created too',
    ]);
  });

  it("is partition order on a queue, and a concurrency above the transport's", () => {
    const handlers = [newHandler('a', 'x', { order: 'partition', concurrency: 11 }), newHandler('b', 'y')];
    expect(validateNoPartitionOrder(subscribedPatterns(handlers), 'main')).toMatchObject([
      { name: '@Consume({ order }) of a', given: `'partition'` },
    ]);
    expect(validateConcurrency(handlers, 10, 'main')).toEqual([
      {
        name: '@Consume({ concurrency }) of a',
        expected: 'at most 10, the concurrency of the transport "main"',
        given: '11',
      },
    ]);
    expect(validateConcurrency(handlers, 11, 'main')).toEqual([]);
  });
});
