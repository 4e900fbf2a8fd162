import { randomUUID } from 'node:crypto';
import { connect } from 'amqplib';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import type { Broker } from './brokers.js';

/** The broker at `RABBITMQ_URL`, or the one on this machine; with new queues for each run. */
export function onRabbitMq(): Broker {
  const url = process.env['RABBITMQ_URL'] ?? 'amqp://127.0.0.1:5672';
  const queue = `stork-failure-policy.${randomUUID().slice(0, 8)}`;
  return {
    transport: rabbitmq({ url, queue }),
    description: `rabbitmq, queue ${queue}`,
    cleanUp: () => deleteQueues(url, queue),
  };
}

/** Deletes the queue, its dead letter queue and its retry queue of two seconds. */
async function deleteQueues(url: string, queue: string): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createChannel();
  for (const name of [queue, `${queue}.dlq`, `${queue}.retry.2000`]) await channel.deleteQueue(name);
  await connection.close();
}
