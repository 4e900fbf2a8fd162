import type { Channel, Options } from 'amqplib';
import type { SubscriptionSpec } from '../../core/port/driver.js';
import { StorkConfigError, messageOf } from '../../core/runtime/errors.js';
import { queueExpiresAfterMs } from '../publish/delay-queues.js';
import { replyCodeOf, replyCodes } from '../connection/errors.js';

export interface Exchange {
  readonly name: string;
  readonly type: 'direct' | 'topic' | 'fanout';
}

/** What one transport consumes, as far as the broker must know it. */
export interface QueueTopology {
  readonly queue: string;
  readonly queueType: 'quorum' | 'classic';
  readonly deliveryLimit: number;
  readonly maxPriority: number | undefined;
  readonly exchange: Exchange | undefined;
}

/**
 * Dead letters are looked at and replayed, not worked off: their own limit only ends a reader that crashes without end. The default of
 * RabbitMQ 4 would drop a letter at its 21st reading.
 */
const deadLetterDeliveryLimit = 1_000_000;

export function deadLetterQueue(queue: string): string {
  return `${queue}.dlq`;
}

export function isDeadLetterQueue(queue: string): boolean {
  return queue.endsWith(deadLetterQueue(''));
}

/**
 * Declares the dead letter queues, then the retry queues, then the source queue and its bindings: the source
 * queue never exists without the queues that its messages are republished to. Idempotent.
 */
export async function declareTopology(
  channel: Channel,
  topology: QueueTopology,
  spec: SubscriptionSpec,
): Promise<void> {
  const { queue, exchange } = topology;
  for (const deadLetters of [deadLetterQueue(queue), ...spec.deadLetterTargets])
    await declareDeadLetters(channel, deadLetters);
  for (const delayMs of spec.redeliverDelaysMs) await declareRetries(channel, queue, delayMs);
  // A transport may consume a dead letter queue. It must declare it with the arguments of its first declaration.
  const options = isDeadLetterQueue(queue) ? deadLetterOptions() : sourceOptions(topology);
  await declareQueue(channel, queue, options);
  if (exchange === undefined) return;
  await declared(`the exchange "${exchange.name}"`, () =>
    channel.assertExchange(exchange.name, exchange.type, { durable: true }),
  );
  // A fanout exchange looks at no key.
  const keys = exchange.type === 'fanout' ? [''] : spec.patterns.map(({ text }) => text);
  for (const key of keys) await channel.bindQueue(queue, exchange.name, key);
}

/** @param queue a dead letter queue of any name */
export async function declareDeadLetters(channel: Channel, queue: string): Promise<void> {
  await declareQueue(channel, queue, deadLetterOptions());
}

export function retryQueue(queue: string, delayMs: number): string {
  return `${queue}.retry.${delayMs}`;
}

/** Declares a retry queue, whose TTL dead-letters messages back to `queue`. Redeclaring renews its expiry. */
export async function declareRetries(channel: Channel, queue: string, delayMs: number): Promise<void> {
  await declareQueue(channel, retryQueue(queue, delayMs), {
    durable: true,
    arguments: {
      'x-queue-type': 'quorum',
      // It has no consumers, but each get in the management UI counts towards the delivery limit.
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

/** Rejects with the difference that RabbitMQ names, the first one, where the object exists with other arguments. */
async function declared(what: string, declare: () => Promise<unknown>): Promise<void> {
  try {
    await declare();
  } catch (error) {
    const code = replyCodeOf(error);
    if (code !== replyCodes.preconditionFailed && code !== replyCodes.resourceLocked) throw error;
    const reason = messageOf(error).replace(/^.*?(PRECONDITION_FAILED|RESOURCE_LOCKED) - /s, '');
    throw new StorkConfigError(`${what} exists with other arguments: ${reason}`, { cause: error });
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
      // Without `reject-publish` RabbitMQ silently falls back to the dead letter strategy at-most-once.
      'x-dead-letter-strategy': 'at-least-once',
      'x-overflow': 'reject-publish',
    },
  };
}
