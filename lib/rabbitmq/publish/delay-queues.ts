import type { StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError, messageOf, NoRouteError, StorkConfigError } from '../../core/runtime/errors.js';
import type { Publication, Publisher } from './publisher.js';

export const dayMs = 24 * 60 * 60 * 1_000;
/** A queue that holds delayed messages goes when nobody has declared it for so long after the last could have been due. */
export const leaseMs = 7 * dayMs;

/** Delays that have queues: 1, 2, 5 in each decade from 100 ms to a day. One queue for each millisecond would be too many. */
export function roundDelayUp(delayMs: number): number {
  for (let decade = 100; decade <= dayMs; decade *= 10) {
    for (const step of [1, 2, 5])
      if (decade * step >= delayMs && decade * step <= dayMs) return decade * step;
  }
  return dayMs;
}

/**
 * Holds messages back in a queue for each delay, which gives them to their target by their time to live. They go in by a fanout exchange,
 * so that they keep the routing key that they had. The confirmation says that the message is stored; that nobody takes it is known
 * only when it is due.
 */
export class Delays {
  readonly #publisher: Publisher;
  readonly #clock: StorkClock;
  /** What was declared, and when: declaring renews the lease, publishing does not. */
  readonly #declared = new Map<string, { readonly at: number; readonly done: Promise<void> }>();

  constructor(publisher: Publisher, clock: StorkClock) {
    this.#publisher = publisher;
    this.#clock = clock;
  }

  async publish(publication: Publication, delayMs: number): Promise<void> {
    if (delayMs > dayMs)
      throw new StorkConfigError(`delayMs: expected at most ${dayMs}, a day, given ${delayMs}`);
    const { exchange, routingKey } = publication;
    const roundedMs = roundDelayUp(delayMs);
    // A queue and an exchange may have one name.
    const name =
      exchange === '' ? `${routingKey}.delay.queue.${roundedMs}` : `${exchange}.delay.${roundedMs}`;
    await this.#declareDaily(name, exchange, roundedMs);
    const delayed = { ...publication, exchange: name };
    try {
      await this.#publisher.publish(delayed);
    } catch (error) {
      if (!(error instanceof NoRouteError)) throw error;
      // Somebody has deleted it.
      this.#declared.delete(name);
      await this.#declareDaily(name, exchange, roundedMs);
      await this.#publisher.publish(delayed);
    }
  }

  async #declareDaily(name: string, target: string, delayMs: number): Promise<void> {
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
      throw new ConnectionLostError(`"${name}" could not be declared: ${messageOf(error)}`, { cause: error });
    }
  }

  async #declare(name: string, target: string, delayMs: number): Promise<void> {
    const { channel } = this.#publisher;
    if (channel === undefined) throw new Error('the broker is away');
    await channel.assertExchange(name, 'fanout', { durable: true });
    await channel.assertQueue(name, {
      durable: true,
      arguments: {
        'x-queue-type': 'quorum',
        'x-message-ttl': delayMs,
        'x-expires': delayMs + leaseMs,
        'x-dead-letter-exchange': target,
        'x-dead-letter-strategy': 'at-least-once',
        'x-overflow': 'reject-publish',
      },
    });
    await channel.bindQueue(name, name, '');
  }
}
