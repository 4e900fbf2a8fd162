import { randomUUID } from 'node:crypto';
import { connect } from 'amqplib';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { unreadJson, type Broker } from './broker-choice.js';
import type { TourOptions } from './options.js';

const defaultUrl = 'amqp://127.0.0.1:5672';
const defaultQueue = 'stork-tour';
/** Short, because a person watches: a restarted broker is found again soon. */
const reconnect = { delayMs: 100, maxDelayMs: 1_000 };

/** The broker at `RABBITMQ_URL`, or the one on this machine. */
export function onRabbitMq(options: TourOptions): Broker {
  const url = process.env['RABBITMQ_URL'] ?? defaultUrl;
  const queue = options.queue ?? ownQueue(options);
  const address = withoutCredentials(url);
  return {
    transports: {
      shop: rabbitmq({ url, queue, reconnect }),
      // A queue whose name ends in `.dlq` is declared as a dead letter queue, so both transports declare the
      // same queue.
      deadLetters: rabbitmq({ url, queue: `${queue}.dlq`, reconnect, codecs: [unreadJson] }),
    },
    description: `rabbitmq at ${address}, queue ${queue}`,
    deadLettersCommand: `npx nestjs-stork dlq list --url ${address} --queue ${queue}`,
    explainSilence: (reason) =>
      `RabbitMQ cannot be reached at ${address} (${reason.replace(/^RabbitMQ at \S+: /, '')}); ` +
      'to start one: npm run brokers -- up rabbitmq',
    cleanUp: () => deleteQueues(url, queue),
  };
}

/**
 * Two processes share the default name. A single process takes a new one, so that no earlier tour's messages
 * are in it.
 */
function ownQueue({ isPublishing, isConsuming }: TourOptions): string {
  return isPublishing && isConsuming ? `${defaultQueue}.${randomUUID().slice(0, 8)}` : defaultQueue;
}

function withoutCredentials(url: string): string {
  // Up to the last @, because passwords in URLs may contain @ and /. Settings follow the ?.
  return url.replace(/\/\/\S*@/, '//').replace(/\?.*$/, '');
}

/** Each of the two transports declares its queue and that queue's dead letter queue. */
async function deleteQueues(url: string, queue: string): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createChannel();
  for (const name of [queue, `${queue}.dlq`, `${queue}.dlq.dlq`]) await channel.deleteQueue(name);
  await connection.close();
}
