import { expect, it } from 'vitest';
import type { Delivery, RepublishedMessage } from '../../../../lib/core/port/delivery.js';
import type { MemoryProperties } from '../../../../lib/memory/broker/message.js';
import type { MemoryOptions } from '../../../../lib/memory/options.js';
import { QueueDriver } from '../../../../lib/memory/queue/queue-driver.js';
import { environment, outbound, replyOf, specOf, subscribed } from '../driver-environment.js';
import { newBroker, read, settle } from '../harness.js';

async function newDriver(options: Partial<MemoryOptions> = {}) {
  const { broker } = newBroker();
  const driver = new QueueDriver(broker, { queue: 'work', ...options }, environment);
  await driver.connect();
  return { broker, driver };
}

/** Delivers a message, republishes it and returns what its retry or dead letter queue holds. */
async function republished(
  headers: Record<string, string | readonly string[]>,
  properties: MemoryProperties,
  as: Pick<RepublishedMessage, 'to'>,
) {
  const { broker, driver } = await newDriver();
  const spec = specOf(subscribed('a'));
  const deliveries: Delivery[] = [];
  await driver.declare(spec);
  await driver.subscribe(spec, {
    deliver: (delivery) => void deliveries.push(delivery),
    quiesce: async () => {},
    resume: () => {},
  });
  broker.publish('', 'work', { body: Buffer.from('1'), headers, properties });
  await settle();
  const [delivery] = deliveries;
  const fields = { ...as, headers: delivery!.message.headers, delayMs: 100 } as RepublishedMessage;
  await delivery!.republishThenAck([fields]);
  const [message] = broker.queue(as.to === 'dead-letter' ? 'work.dlq' : 'work.retry.100')!.peek();
  return message!;
}

it('a dead letter carries no header that RabbitMQ reads or writes, and every other one', async () => {
  const owned = { 'x-delivery-count': '1', 'x-first-death-queue': 'q', CC: ['a'], BCC: ['b'] };
  const foreign = { 'x-deathly': '1', cc: 'c' };
  const { headers } = await republished({ ...owned, ...foreign }, {}, { to: 'dead-letter' });
  expect(headers).toEqual({ ...foreign, 'stork-origin-cc': '["a"]' });
});

it('a redelivered request keeps a server-named reply address, but not the direct reply queue', async () => {
  const replyTo = async (address: string) =>
    (await republished({}, { replyTo: address }, { to: 'redelivery' })).properties.replyTo;
  expect(await replyTo('amq.gen-1')).toBe('amq.gen-1');
  expect(await replyTo('amq.rabbitmq.reply-to')).toBeUndefined();
});

it('a message to an exchange that does not exist is refused by name', async () => {
  const { driver } = await newDriver();
  await expect(driver.publish(outbound('a', { to: { exchange: 'x' } }))).rejects.toThrow(
    'there is no exchange "x"',
  );
});

it('a fanout exchange is bound once, with no key', async () => {
  const { broker, driver } = await newDriver({ exchange: { name: 'x', type: 'fanout' } });
  await driver.declare(specOf(subscribed('a'), subscribed('b')));
  broker.unbind('x', 'work', '');
  expect(broker.publish('x', 'a', { body: Buffer.from('1') })).toBe('unrouted');
});

it('a reply is transient', async () => {
  const { broker, driver } = await newDriver();
  const replies = read(broker.declareQueue('replies'));
  await driver.reply('replies', replyOf('value'));
  await settle();
  expect(replies.deliveries[0]!.message.properties.persistent).toBe(false);
});
