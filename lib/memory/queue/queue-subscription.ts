import type { SourceSettings } from '../../driver-kit/source-settings.js';
import type { DeliverySink, Subscription } from '../../core/port/driver.js';
import {
  type RepublishedMessage,
  type DeliverySource,
  Delivery,
  SourceSession,
} from '../../core/port/delivery.js';
import { PublishUnconfirmedError } from '../../core/runtime/errors.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import type { QueueConsumer, QueueDelivery } from '../broker/queues/memory-queue.js';
import { deadLetterQueue } from '../../driver-kit/queue/queue-topology.js';
import { declareRetryQueue, inboundMessage, rawOf, republishedMessage } from './queue-messages.js';

export interface QueueSubscriptionFields {
  readonly broker: MemoryBroker;
  readonly queue: string;
  readonly keyHeader: string;
  readonly prefetch: number;
  readonly settings: SourceSettings;
  readonly sink: DeliverySink;
  /** Declares the queue, its retry queues and its dead letter queue again if they were deleted. */
  readonly declare: () => void;
}

/** Consumes one queue through one channel; after a loss it opens a new one. */
export class QueueSubscription implements Subscription {
  readonly #fields: QueueSubscriptionFields;
  /** Channels with unsettled deliveries; the newest is last. */
  #channels: QueueChannel[] = [];
  #state: 'consuming' | 'paused' | 'stopped' = 'paused';

  constructor(fields: QueueSubscriptionFields) {
    this.#fields = fields;
  }

  open(): void {
    this.#state = 'consuming';
    this.#fields.declare();
    // A deleted queue cancels its consumer. The queue is declared again, as after a channel that RabbitMQ
    // closed.
    const channel = new QueueChannel(this.#fields, () => queueMicrotask(() => this.reopen()));
    this.#channels = [...this.#channels.filter(({ isDone }) => !isDone), channel];
  }

  pause(): void {
    if (this.#state !== 'consuming') return;
    this.#state = 'paused';
    this.#channels.at(-1)?.cancel();
  }

  resume(): void {
    if (this.#state === 'paused' && !this.#fields.broker.isClosed) this.open();
  }

  async stop(): Promise<void> {
    this.pause();
    this.#state = 'stopped';
  }

  /**
   * After the loss of the connection: deliveries of the old channels cannot be settled any more. A broker
   * that was closed has nothing to consume from.
   */
  reopen(): void {
    this.#closeChannels();
    if (this.#state === 'consuming' && !this.#fields.broker.isClosed) this.open();
  }

  async close(): Promise<void> {
    await this.stop();
    this.#closeChannels();
  }

  #closeChannels(): void {
    for (const channel of this.#channels) channel.close();
    this.#channels = [];
  }
}

/** One consumer and the session of its deliveries. */
class QueueChannel implements DeliverySource {
  readonly #fields: QueueSubscriptionFields;
  readonly #session = new SourceSession();
  readonly #consumer: QueueConsumer;
  #unsettled = 0;
  #isCancelled = false;

  constructor(fields: QueueSubscriptionFields, onCancelled: () => void) {
    this.#fields = fields;
    const queue = fields.broker.queue(fields.queue)!;
    this.#consumer = queue.consume({
      prefetch: fields.prefetch,
      onDelivery: (delivery) => this.#deliver(delivery),
      onCancelled,
    });
  }

  /** True once it is cancelled and all its deliveries are settled. */
  get isDone(): boolean {
    return this.#isCancelled && this.#unsettled === 0;
  }

  ack(delivery: Delivery): void {
    this.#unsettled--;
    this.#consumer.ack(delivery.tag);
  }

  async ackEarly(delivery: Delivery): Promise<void> {
    this.ack(delivery);
  }

  requeue(delivery: Delivery): void {
    this.#unsettled--;
    this.#consumer.nack(delivery.tag, true);
  }

  async republish(delivery: Delivery, republished: RepublishedMessage): Promise<void> {
    const target = this.#targetOf(republished);
    const message = republishedMessage(rawOf(delivery.message), republished);
    const outcome = this.#fields.broker.publish('', target, message);
    if (outcome === 'routed') return;
    throw new PublishUnconfirmedError(
      `the queue "${target}" did not accept a republished message: ${outcome}`,
    );
  }

  #targetOf(republished: RepublishedMessage): string {
    const { broker, queue, declare } = this.#fields;
    if (republished.to === 'redelivery')
      return republished.delayMs === 0 ? queue : declareRetryQueue(broker, queue, republished.delayMs);
    const deadLetters = republished.target ?? deadLetterQueue(queue);
    if (broker.queue(deadLetters) === undefined) declare();
    return deadLetters;
  }

  /** Stops deliveries; those that it has can still be settled. */
  cancel(): void {
    this.#isCancelled = true;
    this.#consumer.cancel();
  }

  close(): void {
    this.#session.end();
    this.#consumer.close();
  }

  #deliver({ tag, message, redelivered }: QueueDelivery): void {
    const { queue, keyHeader, settings: consume, sink } = this.#fields;
    this.#unsettled++;
    const inbound = inboundMessage(message, queue, keyHeader);
    const fields = {
      message: inbound,
      session: this.#session,
      orderingKey: consume.order === 'none' ? undefined : inbound.key,
      redelivered,
      tag,
      source: this,
      mode: consume.delivery,
    };
    sink.deliver(new Delivery(fields));
  }
}
