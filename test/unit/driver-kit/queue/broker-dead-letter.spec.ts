import { describe, expect, it } from 'vitest';
import type { MessageHeaders, HeaderValue } from '../../../../lib/core/message/headers.js';
import { readDeadLetter } from '../../../../lib/core/dead-letter/admin/dead-letter-record.js';
import type { InboundMessage } from '../../../../lib/core/port/message.js';
import { readQueueDeadLetter } from '../../../../lib/driver-kit/queue/broker-dead-letter.js';

const death = {
  count: 1,
  reason: 'expired',
  queue: 'orders',
  time: { '!': 'timestamp', value: 1_700_000_000 },
  exchange: 'shop',
  'routing-keys': ['order.made', 'cc'],
};
const message = (headers: MessageHeaders): InboundMessage => ({
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
const deadLetter = (xDeath: unknown, more: MessageHeaders = {}) =>
  readQueueDeadLetter(message({ 'x-death': xDeath as HeaderValue, ...more }));
const read = (xDeath: unknown) => deadLetter(xDeath).brokerCause;

describe('a message that the broker dead-lettered', () => {
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

  it('is described by the first entry of x-death, which is the latest', () => {
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

  it('ignores entries that are not of the form of a broker', () => {
    const odd = { queue: 'orders', exchange: 5, 'routing-keys': 7, time: { value: Infinity } };
    expect(read([odd])).toEqual({ reason: 'unknown', source: 'orders' });
    expect(read([{ ...odd, 'routing-keys': [{}], time: 'now' }])).toEqual({
      reason: 'unknown',
      source: 'orders',
    });
  });

  it('has its original pattern, and the same id each time', () => {
    expect(deadLetter([death]).message.patterns).toEqual(['order.made']);
    expect(deadLetter([death]).id).toBe(deadLetter([death]).id);
    expect(deadLetter([death]).id).not.toBe(deadLetter([{ ...death, time: { value: 1 } }]).id);
  });

  it('has the reason of the consumer if the consumer dead-lettered it', () => {
    expect(deadLetter([death], { 'stork-death-reason': 'fatal' }).brokerCause).toBeUndefined();
  });

  it('is of the only source of its queue if its headers cannot be decoded', () => {
    const unreadable = { ...message({}), headersError: 'nested too deeply' };
    expect(readQueueDeadLetter(unreadable, 'orders').brokerCause).toEqual({
      reason: 'unknown',
      source: 'orders',
    });
    expect(readQueueDeadLetter(unreadable).brokerCause).toBeUndefined();
    expect(readDeadLetter(readQueueDeadLetter(unreadable, 'orders'))).toMatchObject({
      source: 'orders',
      error: { name: 'UndecodableHeadersError', message: 'nested too deeply' },
    });
    expect(readQueueDeadLetter(message({}), 'orders').brokerCause).toBeUndefined();
  });
});
