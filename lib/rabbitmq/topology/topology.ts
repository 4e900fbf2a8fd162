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

/** Declares in the order in which nothing can be lost: a source never exists without its companions. Idempotent. */
export async function declareTopology(
  channel: Channel,
  topology: QueueTopology,
  spec: SubscriptionSpec,
): Promise<void> {
  const { queue, exchange } = topology;
  for (const deadLetters of [deadLetterQueue(queue), ...spec.deadLetterTargets])
    await declareDeadLetters(channel, deadLetters);
  for (const delayMs of spec.redeliverDelaysMs) await declareRetries(channel, queue, delayMs);
  // A transport may read dead letters like any queue: whoever declares a queue of such a name declares it so.
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

/** @param queue where letters lie, whatever its name */
export async function declareDeadLetters(channel: Channel, queue: string): Promise<void> {
  await declareQueue(channel, queue, deadLetterOptions());
}

export function retryQueue(queue: string, delayMs: number): string {
  return `${queue}.retry.${delayMs}`;
}

/** Holds messages back for so long and gives them to their queue again. Declaring it renews its lease, publishing does not. */
export async function declareRetries(channel: Channel, queue: string, delayMs: number): Promise<void> {
  await declareQueue(channel, retryQueue(queue, delayMs), {
    durable: true,
    arguments: {
      'x-queue-type': 'quorum',
      // Nobody consumes it; a reader at the broker's console must not use up a message's returns.
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

/** The broker names the first difference only. */
async function declared(what: string, declare: () => Promise<unknown>): Promise<void> {
  try {
    await declare();
  } catch (error) {
    const code = replyCodeOf(error);
    if (code !== replyCodes.preconditionFailed && code !== replyCodes.resourceLocked) throw error;
    const said = messageOf(error).replace(/^.*?(PRECONDITION_FAILED|RESOURCE_LOCKED) - /s, '');
    throw new StorkConfigError(`${what} exists with other arguments: ${said}`, { cause: error });
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
      // Without `reject-publish` the broker falls back to at-most-once and says nothing.
      'x-dead-letter-strategy': 'at-least-once',
      'x-overflow': 'reject-publish',
    },
  };
}
