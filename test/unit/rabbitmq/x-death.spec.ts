import { describe, expect, it } from 'vitest';
import type { Headers } from '../../../lib/core/headers.js';
import { readBrokerDeath } from '../../../lib/rabbitmq/x-death.js';

const death = {
  count: 1,
  reason: 'expired',
  queue: 'orders',
  time: { '!': 'timestamp', value: 1_700_000_000 },
  exchange: 'shop',
  'routing-keys': ['order.made', 'cc'],
};
const read = (xDeath: unknown) => readBrokerDeath({ 'x-death': xDeath } as Headers);

describe('readBrokerDeath', () => {
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
    const odd = { queue: 'orders', exchange: 5, 'routing-keys': 'order.made', time: { value: Infinity } };
    expect(read([odd])).toEqual({ reason: 'unknown', source: 'orders' });
    expect(read([{ ...odd, 'routing-keys': [{}], time: 'now' }])).toEqual({
      reason: 'unknown',
      source: 'orders',
    });
  });
});
