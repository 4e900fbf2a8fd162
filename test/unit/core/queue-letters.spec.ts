import { describe, expect, it } from 'vitest';
import type { Headers, HeaderValue } from '../../../lib/core/headers.js';
import type { InboundMessage } from '../../../lib/core/message.js';
import { queueLetter } from '../../../lib/core/queue-letters.js';

const death = {
  count: 1,
  reason: 'expired',
  queue: 'orders',
  time: { '!': 'timestamp', value: 1_700_000_000 },
  exchange: 'shop',
  'routing-keys': ['order.made', 'cc'],
};
const message = (headers: Headers): InboundMessage => ({
  body: null,
  headers,
  patterns: ['orders.dlq'],
  contentType: undefined,
  messageId: 'm-1',
  correlationId: undefined,
  key: undefined,
  timestamp: undefined,
  origin: { source: 'orders.dlq' },
  raw: undefined,
});
const letter = (xDeath: unknown, more: Headers = {}) =>
  queueLetter(message({ 'x-death': xDeath as HeaderValue, ...more }));
const read = (xDeath: unknown) => letter(xDeath).brokerDeath;

describe('a letter that the broker has put away', () => {
  it.each([
    ['rejected', 'rejected'],
    ['expired', 'expired'],
    ['maxlen', 'max-length'],
    ['delivery_limit', 'delivery-limit'],
    ['constructor', 'unknown'],
    [7, 'unknown'],
  ])('reads the reason %s as %s', (reason, meant) => {
    expect(read([{ ...death, reason }])).toEqual({
      reason: meant,
      source: 'orders',
      exchange: 'shop',
      routingKey: 'order.made',
      at: 1_700_000_000_000,
    });
  });

  it('takes the last death, which stands first', () => {
    const retried = { ...death, queue: 'orders.retry.500' };
    expect(read([{ ...death, reason: 'delivery_limit' }, retried])).toMatchObject({
      reason: 'delivery-limit',
      source: 'orders',
    });
  });

  it.each([
    undefined,
    null,
    'rejected',
    7,
    {},
    [],
    [null],
    ['rejected'],
    [[death]],
    [Buffer.from('x')],
    [{ ...death, queue: 5 }],
    [{ ...death, queue: '' }],
  ])('is nothing for %j', (xDeath) => {
    expect(read(xDeath)).toBeUndefined();
  });

  it('leaves out what is not as a broker writes it', () => {
    const odd = { queue: 'orders', exchange: 5, 'routing-keys': 7, time: { value: Infinity } };
    expect(read([odd])).toEqual({ reason: 'unknown', source: 'orders' });
    expect(read([{ ...odd, 'routing-keys': [{}], time: 'now' }])).toEqual({
      reason: 'unknown',
      source: 'orders',
    });
  });

  it('has the pattern that it was sent with, and the same id each time', () => {
    expect(letter([death]).message.patterns).toEqual(['order.made']);
    expect(letter([death]).id).toBe(letter([death]).id);
    expect(letter([death]).id).not.toBe(letter([{ ...death, time: { value: 1 } }]).id);
  });

  it('is a consumer of ours who killed it where that has signed it', () => {
    expect(letter([death], { 'stork-death-reason': 'fatal' }).brokerDeath).toBeUndefined();
  });
});
