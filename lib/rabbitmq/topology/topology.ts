import type { Channel, Options } from 'amqplib';
import type { SubscriptionSpec } from '../../core/port/driver.js';
import { StorkConfigError, messageOf } from '../../core/runtime/errors.js';
import {
  bindingKeys,
  deadLetterDeliveryLimit,
  deadLetterQueue,
  isDeadLetterQueue,
  retryQueue,
  retryQueueDelays,
} from '../../driver-kit/queue/queue-topology.js';
import { queueExpiresAfterMs } from '../publish/delay-queues.js';
import { replyCodeOf, replyCodes } from '../connection/errors.js';

/** The exchange that a transport publishes to and binds its queue to. @publicApi */
export interface RabbitMqExchange {
  readonly name: string;
  readonly type: 'direct' | 'topic' | 'fanout';
}

/** The queue of one transport, as it is declared on the broker. */
export interface QueueTopology {
  readonly queue: string;
  readonly queueType: 'quorum' | 'classic';
  readonly deliveryLimit: number;
  readonly maxPriority: number | undefined;
  readonly exchange: RabbitMqExchange | undefined;
}

/**
 * Declares the dead letter queue and the retry queues before their source queue, which never exists
 * without them.
 */
export async function declareTopology(
  channel: Channel,
  topology: QueueTopology,
  spec: SubscriptionSpec,
): Promise<void> {
  const { queue, exchange } = topology;
  for (const deadLetters of [deadLetterQueue(queue), ...spec.deadLetterTargets])
    await declareDeadLetters(channel, deadLetters);
  for (const delayMs of retryQueueDelays(spec)) await declareRetries(channel, queue, delayMs);
  // A transport can consume a dead letter queue as well: it is declared with the same arguments everywhere.
  const options = isDeadLetterQueue(queue) ? deadLetterOptions() : sourceOptions(topology);
  await declareQueue(channel, queue, options);
  if (exchange === undefined) return;
  await declared(`the exchange "${exchange.name}"`, () =>
    channel.assertExchange(exchange.name, exchange.type, { durable: true }),
  );
  for (const key of bindingKeys(exchange.type, spec.patterns))
    await channel.bindQueue(queue, exchange.name, key);
}

/** @param queue any name: handlers can name their own dead letter queue */
export async function declareDeadLetters(channel: Channel, queue: string): Promise<void> {
  await declareQueue(channel, queue, deadLetterOptions());
}

/**
 * Declares the retry queue, whose messages return to their source queue after `delayMs`. Only a declare
 * resets the queue's expiry (`x-expires`); a publish does not.
 */
export async function declareRetries(channel: Channel, queue: string, delayMs: number): Promise<void> {
  await declareQueue(channel, retryQueue(queue, delayMs), {
    durable: true,
    arguments: {
      'x-queue-type': 'quorum',
      // No application consumes it; reading in the management UI must not reach the delivery limit of its
      // messages.
      'x-delivery-limit': deadLetterDeliveryLimit,
      'x-message-ttl': delayMs,
      'x-expires': delayMs + queueExpiresAfterMs,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': queue,
      'x-dead-letter-strategy': 'at-least-once',
      'x-overflow': 'reject-publish',
    },
  });
}

async function declareQueue(channel: Channel, queue: string, options: Options.AssertQueue): Promise<void> {
  await declared(`the queue "${queue}"`, () => channel.assertQueue(queue, options));
}

/** RabbitMQ's error names the first differing argument only. */
async function declared(what: string, declare: () => Promise<unknown>): Promise<void> {
  try {
    await declare();
  } catch (error) {
    const code = replyCodeOf(error);
    if (code !== replyCodes.preconditionFailed && code !== replyCodes.resourceLocked) throw error;
    const difference = messageOf(error).replace(/^.*?(PRECONDITION_FAILED|RESOURCE_LOCKED) - /s, '');
    throw new StorkConfigError(`${what} exists with other arguments: ${difference}`, { cause: error });
  }
}

function deadLetterOptions(): Options.AssertQueue {
  return {
    durable: true,
    arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': deadLetterDeliveryLimit },
  };
}

function sourceOptions({ queue, queueType, deliveryLimit, maxPriority }: QueueTopology): Options.AssertQueue {
  const target = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': deadLetterQueue(queue) };
  if (queueType === 'classic') {
    const priority = maxPriority === undefined ? {} : { 'x-max-priority': maxPriority };
    return { durable: true, arguments: { 'x-queue-type': 'classic', ...target, ...priority } };
  }
  return {
    durable: true,
    arguments: {
      'x-queue-type': 'quorum',
      'x-delivery-limit': deliveryLimit,
      ...target,
      // Without `reject-publish` RabbitMQ silently falls back to at-most-once dead-lettering.
      'x-dead-letter-strategy': 'at-least-once',
      'x-overflow': 'reject-publish',
    },
  };
}
