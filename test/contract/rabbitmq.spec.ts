import { inject } from 'vitest';
import { connect, type Channel, type ChannelModel, type ConsumeMessage, type Message } from 'amqplib';
import { rabbitmq, type RabbitMqOptions } from 'nestjs-stork/rabbitmq';
import { emptyHeaders } from '../../lib/core/message/headers.js';
import { queueCapabilities } from '../../lib/driver-kit/queue/queue-capabilities.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { eventually } from './app.js';
import { driverContract } from './driver-contract.js';
import type { RawDeadLetter } from './harness.js';
import { targetSuffix } from './suite/dead-letter-targets.js';
import { redeliveryDelays } from './suite/retry.js';

const rabbitmqUrl = inject('rabbitmqUrl');
const driverOptions = (options: Partial<RabbitMqOptions>): Partial<RabbitMqOptions> => options;
/** Queues that the suite has declared and deletes at the end. */
const queues = new Set<string>();
const reconnect = { delayMs: 50, maxDelayMs: 200 };
let proxy: TcpProxy;
/** Connected through the proxy, which can be cut. */
let url: string;
/** Connected without the proxy, as foreign programs are. */
let connection: ChannelModel;
let channel: Channel;

/** Reads a queue without settling: messages keep their order, and their delivery count rises by one. */
async function list(queue: string): Promise<readonly RawDeadLetter[]> {
  const looking = await connection.createChannel();
  // A queue that does not exist closes the channel.
  looking.on('error', () => {});
  const found = await looking.checkQueue(queue).catch(() => ({ messageCount: 0 }));
  if (found.messageCount === 0) {
    await looking.close().catch(() => {});
    return [];
  }
  const messages = await new Promise<ConsumeMessage[]>((resolve, reject) => {
    const seen: ConsumeMessage[] = [];
    const onMessage = (message: ConsumeMessage | null): void => {
      if (message === null) return;
      seen.push(message);
      if (seen.length === found.messageCount) resolve(seen);
    };
    looking.consume(queue, onMessage).catch(reject);
  });
  await looking.close();
  // RabbitMQ requeues the messages shortly after the channel has closed.
  await eventually(
    async () => ((await channel.checkQueue(queue)).messageCount >= messages.length ? true : undefined),
    'the dead letters to be requeued',
  );
  return messages.map(({ content, properties }) => ({
    body: content,
    headers: properties.headers ?? emptyHeaders(),
  }));
}

driverContract({
  name: 'rabbitmq',
  capabilities: queueCapabilities,
  skip: rabbitmqUrl === undefined,
  open: async () => {
    const direct = new URL(rabbitmqUrl!);
    proxy = await startProxy({ host: direct.hostname, port: Number(direct.port) });
    connection = await connect(direct.href, { noDelay: true });
    channel = await connection.createChannel();
    direct.port = String(proxy.port);
    url = direct.href;
  },
  transport: (queue, options) => {
    queues.add(`${queue}${targetSuffix}.dlq`);
    queues.add(queue).add(`${queue}.dlq`).add(`${queue}.dlq.dlq`);
    for (const delayMs of redeliveryDelays) queues.add(`${queue}.retry.${delayMs}`);
    return rabbitmq({ url, queue, reconnect, ...options });
  },
  publishRaw: async (queue, { body, pattern, contentType, headers, messageId, key, replyTo, timestamp }) => {
    const keyed = key === undefined ? headers : { ...headers, 'stork-key': key };
    const seconds = timestamp === undefined ? undefined : timestamp / 1_000;
    const given = {
      type: pattern,
      contentType,
      messageId,
      correlationId: messageId,
      replyTo,
      timestamp: seconds,
    };
    const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    channel.publish('', queue, body, { headers: { ...keyed }, ...options });
  },
  deadLetters: (queue) => list(`${queue}.dlq`),
  deadLetterSource: (queue) => `${queue}.dlq`,
  waiting: async (queue) => {
    const looking = await connection.createChannel();
    looking.on('error', () => {});
    const found = await looking.checkQueue(queue).catch(() => ({ messageCount: 0 }));
    await looking.close().catch(() => {});
    return found.messageCount;
  },
  impatient: {},
  dropConnections: async () => proxy.cut(),
  outage: { begin: () => proxy.breakOff(), end: () => proxy.restore() },
  forgedReplyAddresses: (queue) => [queue, 'no.such.queue', 'amq.topic'],
  deserted: 'amq.gen-deserted',
  oneAtATime: driverOptions({ prefetch: 1 }),
  withDeliveryLimit: (deliveryLimit) => driverOptions({ deliveryLimit }),
  withPriority: driverOptions({ queueType: 'classic', maxPriority: 10 }),
  propertiesOf: (context) => {
    const { appId, deliveryMode } = (context.raw as Message).properties;
    return { appId: appId as unknown, persistent: deliveryMode === 2 };
  },
  close: async () => {
    await Promise.all([...queues].map((queue) => channel.deleteQueue(queue)));
    await connection.close();
    await proxy.close();
  },
});
