import { memory, MemoryBroker, type MemoryOptions } from 'nestjs-stork/memory';
import { logCapabilities } from '../../lib/driver-kit/log/log-capabilities.js';
import { driverContract } from './driver-contract.js';

const broker = new MemoryBroker();
const patternHeader = 'stork-pattern';
driverContract({
  name: 'memory (log)',
  capabilities: logCapabilities,
  transport: (topic, options) =>
    memory({
      mode: 'log',
      topic,
      patternHeader,
      onUnhandled: 'dead-letter',
      groupId: topic,
      broker,
      ...options,
    }),
  publishRaw: async (name, { body, pattern, contentType, headers, messageId, key, replyTo, timestamp }) => {
    const written: Record<string, string> = Object.fromEntries(
      Object.entries({
        ...headers,
        [patternHeader]: pattern,
        'content-type': contentType,
        'stork-message-id': messageId,
        kafka_correlationId: messageId,
        kafka_replyTopic: replyTo,
        kafka_replyPartition: replyTo === undefined ? undefined : '7',
      }).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
    const topic = broker.createTopic(name, { partitions: 3 });
    topic.append({ key, value: body, headers: written, timestamp: timestamp ?? broker.clock.now() });
  },
  deadLetters: async (topic) => {
    const deadLetters = broker.topic(`${topic}.dlq`);
    const partitions = Array.from({ length: deadLetters?.partitionCount ?? 0 }, (_, partition) => partition);
    return partitions
      .flatMap((partition) => deadLetters!.read(partition, 0, 10_000))
      .map(({ value, headers }) => ({ body: value, headers }));
  },
  deadLetterSource: (source) => `${source}.dlq`,
  waiting: async (name) => {
    const topic = broker.topic(name);
    return topic === undefined ? 0 : broker.group(name).lag(name);
  },
  impatient: {},
  dropConnections: async () => broker.dropConnections(),
  outage: undefined,
  forgedReplyAddresses: (topic) => [topic, 'no.such.topic.reply', '__consumer_offsets', 'x'.repeat(10_000)],
  deserted: (() => {
    broker.createTopic('deserted.reply', { partitions: 1 });
    return 'deserted.reply';
  })(),
  oneAtATime: {},
  withDeliveryLimit: (deliveryLimit): Partial<MemoryOptions> => ({ deliveryLimit }),
  withPriority: {},
  propertiesOf: () => ({ appId: undefined, persistent: undefined }),
  open: async () => {},
  close: async () => broker.close(),
});
