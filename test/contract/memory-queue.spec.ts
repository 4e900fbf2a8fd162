import { memory, MemoryBroker, type MemoryOptions } from 'nestjs-stork/memory';
import type { MemoryMessage } from '../../lib/memory/broker/message.js';
import { queueCapabilities } from '../../lib/driver-kit/queue/queue-capabilities.js';
import { driverContract } from './driver-contract.js';

const broker = new MemoryBroker();
const driverOptions = (options: Partial<MemoryOptions>): Partial<MemoryOptions> => options;
driverContract({
  name: 'memory (queue)',
  capabilities: queueCapabilities,
  transport: (queue, options) => memory({ queue, broker, ...options }),
  publishRaw: async (queue, { body, pattern, contentType, headers, messageId, key, replyTo, timestamp }) => {
    const keyed = key === undefined ? headers : { ...headers, 'stork-key': key };
    const properties = {
      type: pattern,
      contentType,
      messageId,
      correlationId: messageId,
      replyTo,
      timestamp,
    };
    broker.publish('', queue, { body, headers: { ...keyed }, properties });
  },
  deadLetters: async (queue) => broker.queue(`${queue}.dlq`)?.peek() ?? [],
  deadLetterSource: (source) => `${source}.dlq`,
  waiting: async (name) => {
    const queue = broker.queue(name);
    return queue === undefined ? 0 : queue.ready + queue.unacked;
  },
  impatient: {},
  dropConnections: async () => broker.dropConnections(),
  outage: undefined,
  forgedReplyAddresses: (queue) => [queue, 'no.such.queue', 'amq.topic', 'x'.repeat(10_000)],
  deserted: 'amq.rabbitmq.reply-to.garbage',
  oneAtATime: driverOptions({ prefetch: 1 }),
  withDeliveryLimit: (deliveryLimit) => driverOptions({ deliveryLimit }),
  withPriority: driverOptions({ maxPriority: 10 }),
  propertiesOf: (context) => {
    const { appId, persistent } = (context.raw as MemoryMessage).properties;
    return { appId, persistent };
  },
  open: async () => {},
  close: async () => broker.close(),
});
