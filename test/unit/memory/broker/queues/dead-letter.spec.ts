import { describe, expect, it } from 'vitest';
import { content, newBroker, read, settle, workAndDead } from '../../harness.js';

describe('dead-lettering', () => {
  it('writes queue, reason, exchange, routing keys, count and time, and removes the expiration', async () => {
    const { broker, clock, work, dead } = workAndDead({});
    broker.declareExchange('orders', 'topic');
    broker.bind('orders', 'work', 'order.#');
    const body = Buffer.from('a');
    const properties = { expirationMs: 5_000, messageId: 'm1' };
    broker.publish('orders', 'order.placed', { body, headers: { mine: 1 }, properties });
    const { consumer } = read(work);
    await settle();
    consumer.nack(1, false);
    const [deadLetter] = dead.peek();
    expect(deadLetter!.body).toBe(body);
    expect(deadLetter).toMatchObject({ exchange: '', routingKey: 'dead', properties: { messageId: 'm1' } });
    expect(deadLetter!.properties.expirationMs).toBeUndefined();
    expect({ ...deadLetter!.headers }).toEqual({
      mine: 1,
      'x-death': [
        {
          queue: 'work',
          reason: 'rejected',
          exchange: 'orders',
          'routing-keys': ['order.placed'],
          count: 1,
          time: new Date(clock.now()),
        },
      ],
      'x-first-death-queue': 'work',
      'x-first-death-reason': 'rejected',
      'x-first-death-exchange': 'orders',
    });
  });

  it('keeps one entry for each queue and reason, the most recent first, and counts in it', async () => {
    const { broker, clock } = newBroker();
    const work = broker.declareQueue('work', { deadLetterExchange: '', deadLetterRoutingKey: 'wait' });
    broker.declareQueue('wait', { deadLetterExchange: '', deadLetterRoutingKey: 'work', messageTtlMs: 10 });
    broker.publish('', 'work', content('a'));
    const { consumer, deliveries } = read(work);
    const history = (): unknown =>
      (
        deliveries.at(-1)!.message.headers['x-death'] as { queue: string; reason: string; count: number }[]
      ).map(({ queue, reason, count }) => [queue, reason, count]);
    await settle();
    for (const round of [1, 2, 3]) {
      consumer.nack(round, false);
      await clock.advance(10);
      expect(deliveries).toHaveLength(round + 1);
      expect(history()).toEqual([
        ['wait', 'expired', round],
        ['work', 'rejected', round],
      ]);
    }
    expect(deliveries.at(-1)!.message.headers['x-first-death-queue']).toBe('work');
  });

  it('uses the message’s own routing key unless the queue names one', async () => {
    const { broker } = newBroker();
    broker.declareExchange('dlx', 'direct');
    const work = broker.declareQueue('work', { deadLetterExchange: 'dlx' });
    const dead = broker.declareQueue('dead');
    broker.bind('dlx', 'dead', 'work');
    broker.publish('', 'work', content('a'));
    const { consumer } = read(work);
    await settle();
    consumer.nack(1, false);
    expect(dead.peek()).toMatchObject([{ exchange: 'dlx', routingKey: 'work' }]);
  });

  it.each([
    ['without a dead letter exchange', {}],
    ['where the exchange does not exist', { deadLetterExchange: 'gone' }],
    ['where nothing is bound', { deadLetterExchange: '', deadLetterRoutingKey: 'gone' }],
  ])('loses the message %s', async (_, settings) => {
    const { broker } = newBroker();
    const work = broker.declareQueue('work', settings);
    broker.publish('', 'work', content('a'));
    const { consumer } = read(work);
    await settle();
    consumer.nack(1, false);
    expect(work.ready + work.unacked).toBe(0);
  });

  it('drops a message in a cycle without a rejection, as RabbitMQ does', () => {
    const self = { deadLetterExchange: '', deadLetterRoutingKey: 'work' };
    const { work, publish } = workAndDead({ ...self, messageTtlMs: 0 });
    expect(publish('a')).toBe('routed');
    expect(work.ready).toBe(0);
  });

  it('lets a rejected message return to its queue', async () => {
    const { work, publish } = workAndDead({ deadLetterRoutingKey: 'work' });
    publish('a');
    const { consumer, deliveries } = read(work);
    await settle();
    consumer.nack(1, false);
    await settle();
    expect(deliveries).toHaveLength(2);
    expect(deliveries[1]).toMatchObject({ redelivered: false, deliveryCount: 0 });
  });

  it.each([
    ['text'],
    [{ count: 1 }],
    [[null, 'text', 7, { queue: 'work', reason: 'rejected', count: 'many' }]],
  ])('is not upset by a forged x-death header %j', async (forged) => {
    const { broker, work, dead } = workAndDead({});
    broker.publish('', 'work', { body: Buffer.alloc(0), headers: { 'x-death': forged }, properties: {} });
    const { consumer } = read(work);
    await settle();
    consumer.nack(1, false);
    expect(dead.peek()[0]!.headers['x-death']).toMatchObject([{ queue: 'work', reason: 'rejected' }]);
  });
});
