import type { StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError, messageOf, NoRouteError, StorkConfigError } from '../../core/runtime/errors.js';
import type { PublishCancellation } from '../../core/port/publish-cancellation.js';
import type { Publication, Publisher } from './publisher.js';

export const dayMs = 24 * 60 * 60 * 1_000;
/**
 * `x-expires` of retry and delay queues, beyond their TTL. RabbitMQ deletes an expired queue with the
 * messages in it. Redeclaring a queue renews its expiry, publishing to it does not.
 */
export const queueExpiresAfterMs = 7 * dayMs;

/**
 * Rounds a delay up to one that has a queue: 1, 2 or 5 in each decade from 100 ms to a day. One queue per
 * millisecond would be too many.
 */
export function roundDelayUp(delayMs: number): number {
  for (let decade = 100; decade <= dayMs; decade *= 10) {
    for (const step of [1, 2, 5])
      if (decade * step >= delayMs && decade * step <= dayMs) return decade * step;
  }
  return dayMs;
}

/**
 * Publishes delayed messages through one queue per delay, whose TTL dead-letters them to the target
 * exchange. A fanout exchange in front of the queue preserves the routing key. The confirm means that the
 * message is stored; whether it can be routed shows only when the delay has passed.
 */
export class DelayQueues {
  readonly #publisher: Publisher;
  readonly #clock: StorkClock;
  /** Declared queues by name, with the time of the last declaration. */
  readonly #declared = new Map<string, { readonly at: number; readonly done: Promise<void> }>();

  constructor(publisher: Publisher, clock: StorkClock) {
    this.#publisher = publisher;
    this.#clock = clock;
  }

  async publish(publication: Publication, delayMs: number, cancellation: PublishCancellation): Promise<void> {
    if (delayMs > dayMs)
      throw new StorkConfigError(`delayMs: expected at most ${dayMs}, a day, given ${delayMs}`);
    const { exchange, routingKey } = publication;
    const roundedMs = roundDelayUp(delayMs);
    // A queue and an exchange can have the same name: the infix `queue` keeps their delay queues apart.
    const name =
      exchange === '' ? `${routingKey}.delay.queue.${roundedMs}` : `${exchange}.delay.${roundedMs}`;
    await this.#redeclareDaily(name, exchange, roundedMs);
    const delayed = { ...publication, exchange: name };
    try {
      await this.#publisher.publish(delayed, cancellation);
    } catch (error) {
      if (!(error instanceof NoRouteError)) throw error;
      // The exchange or its queue was deleted.
      this.#declared.delete(name);
      await this.#redeclareDaily(name, exchange, roundedMs);
      await this.#publisher.publish(delayed, cancellation);
    }
  }

  /** Redeclares a queue that was last declared a day ago: see `queueExpiresAfterMs`. */
  async #redeclareDaily(name: string, target: string, delayMs: number): Promise<void> {
    const known = this.#declared.get(name);
    const now = this.#clock.now();
    const current =
      known !== undefined && now - known.at < dayMs
        ? known
        : { at: now, done: this.#declare(name, target, delayMs) };
    this.#declared.set(name, current);
    try {
      await current.done;
    } catch (error) {
      this.#declared.delete(name);
      const message = `the delay queue "${name}" could not be declared: ${messageOf(error)}`;
      throw new ConnectionLostError(message, { cause: error });
    }
  }

  async #declare(name: string, target: string, delayMs: number): Promise<void> {
    const { channel } = this.#publisher;
    if (channel === undefined) throw new Error('not connected');
    await channel.assertExchange(name, 'fanout', { durable: true });
    await channel.assertQueue(name, {
      durable: true,
      arguments: {
        'x-queue-type': 'quorum',
        'x-message-ttl': delayMs,
        'x-expires': delayMs + queueExpiresAfterMs,
        'x-dead-letter-exchange': target,
        'x-dead-letter-strategy': 'at-least-once',
        'x-overflow': 'reject-publish',
      },
    });
    await channel.bindQueue(name, name, '');
  }
}
