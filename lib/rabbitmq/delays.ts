import type { Publication, Publisher } from './publisher.js';
import { ConnectionLostError } from '../core/errors.js';

/** A queue that holds delayed messages goes when nobody has used it for so long after the last could have been due. */
const leaseMs = 7 * 24 * 60 * 60 * 1_000;

/** Delays that have queues: 1, 2, 5 in each decade from 100 ms to a day. One queue for each millisecond would be too many. */
export function roundDelayUp(delayMs: number): number {
  const dayMs = 24 * 60 * 60 * 1_000;
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
  /** What was declared on the channel of now. */
  #declared = new Map<string, Promise<void>>();
  #on: unknown;

  constructor(publisher: Publisher) {
    this.#publisher = publisher;
  }

  async publish(publication: Publication, delayMs: number): Promise<void> {
    const { exchange, routingKey } = publication;
    const roundedMs = roundDelayUp(delayMs);
    const name = `${exchange === '' ? routingKey : exchange}.delay.${roundedMs}`;
    await this.#declareOnce(name, exchange, roundedMs);
    await this.#publisher.publish({ ...publication, exchange: name });
  }

  #declareOnce(name: string, target: string, delayMs: number): Promise<void> {
    const { channel } = this.#publisher;
    if (this.#on !== channel) {
      this.#declared = new Map();
      this.#on = channel;
    }
    const declared = this.#declared.get(name) ?? this.#declare(name, target, delayMs);
    this.#declared.set(name, declared);
    return declared;
  }

  async #declare(name: string, target: string, delayMs: number): Promise<void> {
    const { channel } = this.#publisher;
    if (channel === undefined)
      throw new ConnectionLostError(`"${name}" cannot be declared while the broker is away`);
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
