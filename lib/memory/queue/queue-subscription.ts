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
import { copyOf, deadLetterQueue, declareRetryQueue, inboundMessage, rawOf } from './queue-messages.js';

export interface QueueSubscriptionFields {
  readonly broker: MemoryBroker;
  readonly queue: string;
  readonly keyHeader: string;
  readonly prefetch: number;
  readonly consume: SourceSettings;
  readonly sink: DeliverySink;
  /** Makes the queue and its companions again where they are gone. */
  readonly declare: () => void;
}

/** Consumes one queue: a channel at a time, a new one after every loss. */
export class QueueSubscription implements Subscription {
  readonly #fields: QueueSubscriptionFields;
  /** Channels that may still have unsettled deliveries, the newest last. */
  #channels: QueueChannel[] = [];
  #state: 'flowing' | 'paused' | 'stopped' = 'paused';

  constructor(fields: QueueSubscriptionFields) {
    this.#fields = fields;
  }

  open(): void {
    this.#state = 'flowing';
    this.#fields.declare();
    // A deleted queue ends its consumer; like a channel that the broker closed, it comes back with its topology.
    const channel = new QueueChannel(this.#fields, () => queueMicrotask(() => this.reopen()));
    this.#channels = [...this.#channels.filter(({ isDone }) => !isDone), channel];
  }

  pause(): void {
    if (this.#state !== 'flowing') return;
    this.#state = 'paused';
    this.#channels.at(-1)?.cancel();
  }

  resume(): void {
    if (this.#state === 'paused') this.open();
  }

  async stop(): Promise<void> {
    this.pause();
    this.#state = 'stopped';
  }

  /** After the loss of the connection: nothing of the old channels can be settled any more. */
  reopen(): void {
    this.#closeChannels();
    if (this.#state === 'flowing') this.open();
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

/** One consumer with the epoch of its deliveries. */
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
      onDelivery: (delivery) => this.#take(delivery),
      onCancelled,
    });
  }

  /** True once it takes nothing more and has nothing to settle. */
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

  async republish(delivery: Delivery, copy: RepublishedMessage): Promise<void> {
    const target = this.#companionFor(copy);
    const outcome = this.#fields.broker.publish('', target, copyOf(rawOf(delivery.message), copy));
    if (outcome === 'routed') return;
    throw new PublishUnconfirmedError(`the queue "${target}" did not take a copy: ${outcome}`);
  }

  #companionFor(copy: RepublishedMessage): string {
    const { broker, queue, declare } = this.#fields;
    if (copy.to === 'redelivery') return declareRetryQueue(broker, queue, copy.delayMs);
    const deadLetters = copy.target ?? deadLetterQueue(queue);
    if (broker.queue(deadLetters) === undefined) declare();
    return deadLetters;
  }

  /** Takes nothing more; what was delivered can still be settled. */
  cancel(): void {
    this.#isCancelled = true;
    this.#consumer.cancel();
  }

  close(): void {
    this.#session.end();
    this.#consumer.close();
  }

  #take({ tag, message, redelivered }: QueueDelivery): void {
    const { queue, keyHeader, consume, sink } = this.#fields;
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
