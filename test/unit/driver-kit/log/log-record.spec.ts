import { describe, expect, it } from 'vitest';
import { RecordMessage, type LogRecord } from '../../../../lib/driver-kit/log/log-record.js';
import {
  deadLetterTopic,
  findRetryTopics,
  isManagedTopic,
  validTopicName,
  retryTopic,
} from '../../../../lib/driver-kit/log/topic-names.js';

describe('names of retry and dead letter topics', () => {
  it('contain the name of their source', () => {
    expect(deadLetterTopic('orders')).toBe('orders.dlq');
    expect(retryTopic('orders', 'billing', 5_000)).toBe('orders.retry.billing.5000');
  });

  it.each([
    ['a group of any characters', 'orders', 'billing/eu (ä)'],
    ['a long group', 'orders', 'g'.repeat(300)],
    ['a long topic', 't'.repeat(249), 'billing'],
    ['both', 't'.repeat(249), 'g'.repeat(300)],
  ])('are legal for %s, and known for ours', (_what, topic, group) => {
    const names = [deadLetterTopic(topic), retryTopic(topic, group, 28 * 86_400_000)];
    for (const name of [...names, `${deadLetterTopic(topic)}.marks`]) expect(name).toMatch(validTopicName);
    expect(names.filter((name) => !isManagedTopic(name))).toEqual([]);
    expect(names.filter((name) => !name.startsWith(topic.slice(0, 153)))).toEqual([]);
    expect(findRetryTopics(names, [topic], group)).toEqual(
      new Map([[names[1], { source: topic, delayMs: 28 * 86_400_000 }]]),
    );
  });

  it('differ for sources and groups whose truncated names are equal', () => {
    const groups = ['a.b', 'a_b', 'a/b', 'a:b', 'g'.repeat(230), 'g'.repeat(231)];
    // What the broker compares.
    const names = groups.map((group) => retryTopic('orders', group, 1).replaceAll('.', '_'));
    expect(new Set(names).size).toBe(groups.length);
    expect(deadLetterTopic('t'.repeat(248))).not.toBe(deadLetterTopic('t'.repeat(249)));
  });

  it('are found among other topics, with any delay', () => {
    const names = [
      'orders',
      'orders.dlq',
      'orders.retry.g.0',
      'orders.retry.g.5000',
      'orders.retry.g.x',
      'orders.retry.g.',
      'orders.retry.g.5.5000',
      'orders.retry.other.5000',
      'bills.retry.g.70',
      'more.orders.retry.g.1',
    ];
    expect(findRetryTopics(names, ['orders', 'bills', 'none'], 'g')).toEqual(
      new Map([
        ['orders.retry.g.0', { source: 'orders', delayMs: 0 }],
        ['orders.retry.g.5000', { source: 'orders', delayMs: 5_000 }],
        ['bills.retry.g.70', { source: 'bills', delayMs: 70 }],
      ]),
    );
  });
});

describe('a record of a retry topic', () => {
  const record = (headers: Record<string, string>): LogRecord => ({
    topic: 'orders.retry.g.0',
    partition: 1,
    offset: 2,
    key: undefined,
    value: null,
    headers,
    timestamp: 0,
  });
  const patternsOf = (headers: Record<string, string>, patternHeader?: string) =>
    new RecordMessage(record(headers), patternHeader, undefined, undefined, 'orders').patterns;

  it('has the pattern of its header, else of its origin, else of its source', () => {
    expect(patternsOf({ kind: 'paid', 'stork-origin': 'first' }, 'kind')).toEqual(['paid']);
    expect(patternsOf({ 'stork-origin': 'first' }, 'kind')).toEqual(['first', 'orders']);
    expect(patternsOf({ 'stork-origin': 'orders' })).toEqual(['orders']);
    expect(patternsOf({})).toEqual(['orders']);
  });

  it.each<Record<string, string>>([
    { 'stork-origin': 'first' },
    { 'stork-origin': 'first', 'stork-origin-partition': '1', 'stork-origin-offset': 'x' },
    { 'stork-message-id': '' },
  ])('that tells no whole place and no id is known by its own place: %j', (headers) => {
    const message = new RecordMessage(record(headers), undefined, undefined, undefined, 'orders');
    expect(message.messageId).toBe('orders.retry.g.0/1/2');
  });

  it('without origin headers is identified by its own position', () => {
    const message = new RecordMessage(record({}), undefined, undefined, undefined, 'orders');
    expect(message.messageId).toBe('orders.retry.g.0/1/2');
    expect(message.origin).toEqual({ source: 'orders', partition: 1, offset: '2' });
  });
});
