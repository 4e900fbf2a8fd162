import type { ConfirmChannel, ConsumeMessage } from 'amqplib';
import type { Delivery, RepublishedMessage } from '../../core/port/delivery.js';
import type { StorkClock } from '../../core/runtime/clock.js';
import { NoRouteError } from '../../core/runtime/errors.js';
import { isEncodingError } from '../connection/errors.js';
import { dayMs } from '../publish/delay-queues.js';
import { minimalProperties, republishOptions } from '../publish/messages.js';
import type { Publication, Publisher } from '../publish/publisher.js';
import { declareDeadLetters, declareRetries } from '../topology/topology.js';
import { deadLetterQueue, retryQueue } from '../../driver-kit/queue/queue-topology.js';

export interface RepublisherFields {
  /** The consumer's channel, on which missing queues are declared. */
  readonly channel: ConfirmChannel;
  readonly publisher: Publisher;
  /** The consumed queue. */
  readonly queue: string;
  /** Delays of the retry queues that are declared together with the channel. */
  readonly declaredDelaysMs: Iterable<number>;
  readonly clock: StorkClock;
}

/** Publishes the messages of one consumer channel to its dead letter queue and retry queues. */
export class Republisher {
  readonly #fields: RepublisherFields;
  /** Retry queues by delay, with the time of their last declaration on this channel. */
  readonly #declaredAt = new Map<number, number>();

  constructor(fields: RepublisherFields) {
    this.#fields = fields;
    for (const delayMs of fields.declaredDelaysMs) this.#declaredAt.set(delayMs, fields.clock.now());
  }

  async republish(delivery: Delivery, republished: RepublishedMessage): Promise<void> {
    const message = delivery.message.raw as ConsumeMessage;
    const { publisher, queue } = this.#fields;
    const publication = {
      exchange: '',
      routingKey: targetQueue(republished, queue),
      body: message.content,
      options: republishOptions(message, republished),
    };
    if (republished.to === 'redelivery' && republished.delayMs > 0)
      await this.#redeclareDaily(republished.delayMs);
    try {
      await publisher.publish(publication);
    } catch (error) {
      await this.#recover(publication, republished, error);
    }
  }

  async #recover(publication: Publication, republished: RepublishedMessage, error: unknown): Promise<void> {
    const { channel, publisher, queue } = this.#fields;
    // Other clients can send headers that amqplib cannot encode: only the body and stork's headers are sent.
    if (isEncodingError(error))
      return publisher.publish({ ...publication, options: minimalProperties(republished) });
    if (!(error instanceof NoRouteError)) throw error;
    // The target queue was deleted.
    if (republished.to === 'dead-letter') await declareDeadLetters(channel, targetQueue(republished, queue));
    else await this.#declareRetries(republished.delayMs);
    await publisher.publish(publication);
  }

  /** Redeclares a retry queue that was last declared a day ago: see `queueExpiresAfterMs`. */
  async #redeclareDaily(delayMs: number): Promise<void> {
    const at = this.#declaredAt.get(delayMs);
    if (at === undefined || this.#fields.clock.now() - at > dayMs) await this.#declareRetries(delayMs);
  }

  async #declareRetries(delayMs: number): Promise<void> {
    const { channel, queue, clock } = this.#fields;
    await declareRetries(channel, queue, delayMs);
    this.#declaredAt.set(delayMs, clock.now());
  }
}

function targetQueue(republished: RepublishedMessage, queue: string): string {
  if (republished.to === 'dead-letter') return republished.target ?? deadLetterQueue(queue);
  return republished.delayMs === 0 ? queue : retryQueue(queue, republished.delayMs);
}
