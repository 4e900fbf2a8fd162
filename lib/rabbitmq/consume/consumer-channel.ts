import type { ConfirmChannel, ConsumeMessage } from 'amqplib';
import {
  Delivery,
  SourceSession,
  type DeliverySource,
  type RepublishedMessage,
} from '../../core/port/delivery.js';
import type { DeliverySink, SubscriptionSpec } from '../../core/port/driver.js';
import type { StorkClock } from '../../core/runtime/clock.js';
import { retryQueueDelays } from '../../driver-kit/queue/queue-topology.js';
import { sourceSettingsOf, type SourceSettings } from '../../driver-kit/source-settings.js';
import { inboundMessage } from '../publish/messages.js';
import type { Publisher } from '../publish/publisher.js';
import type { QueueTopology } from '../topology/topology.js';
import { Acknowledger } from './acknowledger.js';
import { Republisher } from './republisher.js';

export interface ConsumerChannelFields {
  readonly topology: QueueTopology;
  readonly spec: SubscriptionSpec;
  readonly keyHeader: string;
  readonly sink: DeliverySink;
  readonly clock: StorkClock;
  /**
   * Publishes dead letters and redeliveries, on the consuming connection. RabbitMQ blocks a connection that
   * publishes during a memory or disk alarm, and then does not read its acks either.
   */
  readonly republishPublisher: Publisher;
}

export interface ConsumerChannelEvents {
  settled(): void;
  /** The broker cancelled the consumer, e.g. because the queue was deleted. */
  cancelled(): void;
}

/**
 * Settlements that a RabbitMQ channel sends to a quorum queue before the queue has confirmed the first
 * (SOFT_LIMIT of `rabbit_fifo_client`; it sends one more). The channel buffers further ones, and drops them
 * when it is closed.
 */
export const quorumSettleWindow = 32;

/** For consumers that yield to all others of the queue. */
const lowestPriority = -1_000;

/** Errors close the channel; `SupervisedChannel` reopens it. */
export const ignoreChannelClosed = (): void => {};

/** One channel and its session: a delivery can be settled only on the channel that delivered it. */
export class ConsumerChannel implements DeliverySource {
  readonly session = new SourceSession();
  readonly #channel: ConfirmChannel;
  readonly #fields: ConsumerChannelFields;
  readonly #events: ConsumerChannelEvents;
  readonly #acknowledger: Acknowledger;
  readonly #republisher: Republisher;
  readonly #settings: SourceSettings;
  /** Early acks of this turn: resolves when the broker has processed them. */
  #earlyAcks: Promise<unknown> | undefined;
  #isStopping = false;
  /** Settlements since the last `basic.cancel`, whose response does not prove that the queue has them. */
  #sentSinceCancel = 0;
  #consumerTag: Promise<string | undefined> = Promise.resolve(undefined);

  constructor(channel: ConfirmChannel, fields: ConsumerChannelFields, events: ConsumerChannelEvents) {
    this.#channel = channel;
    this.#fields = fields;
    this.#events = events;
    this.#settings = sourceSettingsOf(fields.spec.patterns);
    this.#republisher = new Republisher({
      channel,
      publisher: fields.republishPublisher,
      queue: fields.topology.queue,
      declaredDelaysMs: retryQueueDelays(fields.spec),
      clock: fields.clock,
    });
    this.#acknowledger = new Acknowledger({
      ack: (tag, multiple) => this.#send(() => channel.ack(messageOfTag(tag), multiple)),
      nack: (tag) => this.#send(() => channel.nack(messageOfTag(tag), false, true)),
    });
  }

  async consume(): Promise<void> {
    this.#consumerTag = this.#consumerTag.then((tag) => tag ?? this.#consume());
    await this.#consumerTag;
  }

  async #consume(): Promise<string> {
    const { queue } = this.#fields.topology;
    const consumer = await this.#channel.consume(queue, (message) => this.#onMessage(message));
    return consumer.consumerTag;
  }

  /** Cancels the consumer and keeps the channel: delivered messages can still be settled. */
  async cancel(): Promise<void> {
    this.#consumerTag = this.#consumerTag.then(async (tag) => {
      if (tag !== undefined && this.session.isActive) await this.#cancel(tag);
      return undefined;
    });
    await this.#consumerTag.catch(() => {});
  }

  async #cancel(tag: string): Promise<void> {
    this.#sentSinceCancel = 0;
    await this.#channel.cancel(tag);
  }

  /**
   * Restarts the consumer, unless it is cancelled: RabbitMQ applies `basic.qos` to consumers that start after
   * it.
   */
  async restorePrefetch(prefetch: number): Promise<void> {
    this.#consumerTag = this.#consumerTag.then(async (tag) => {
      if (!this.session.isActive) return undefined;
      if (tag !== undefined) await this.#cancel(tag);
      await this.#channel.prefetch(prefetch);
      return tag === undefined ? undefined : this.#consume();
    });
    await this.#consumerTag;
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.cancel();
  }

  /** Ends the session of a closed channel. */
  end(): void {
    this.session.end();
    this.#acknowledger.discard();
  }

  /** Must be called before the channel is closed: RabbitMQ drops acks that are still in the channel. */
  async flush(): Promise<void> {
    if (!this.session.isActive) return;
    this.#acknowledger.flush();
    await this.#flushAcks().catch(ignoreChannelClosed);
  }

  /**
   * Waits until the queue has all acks. A classic queue answers a passive declare after the acks that were
   * sent before it. A quorum queue answers earlier, while the channel still buffers acks beyond
   * `quorumSettleWindow`. But a consumer starts and ends only after them. A message that it receives is
   * requeued when the channel closes, with its delivery count incremented; the lowest priority makes that
   * unlikely.
   */
  async #flushAcks(): Promise<void> {
    const { queue, queueType } = this.#fields.topology;
    if (queueType === 'classic' || this.#sentSinceCancel < quorumSettleWindow / 2)
      return void (await this.#channel.checkQueue(queue));
    await this.#channel.prefetch(1);
    const { consumerTag } = await this.#channel.consume(queue, () => {}, { priority: lowestPriority });
    await this.#channel.cancel(consumerTag);
    await this.#channel.checkQueue(queue);
  }

  ack(delivery: Delivery): void {
    this.#acknowledger.ack(delivery.tag);
    this.#events.settled();
  }

  /**
   * AMQP does not confirm acks, and a lost ack would redeliver the message. A passive declare of the queue is
   * answered after the acks before it; on a quorum queue this holds because `at-most-once` limits the
   * prefetch to `quorumSettleWindow`. All deliveries of one turn share one declare.
   */
  async ackEarly(delivery: Delivery): Promise<void> {
    this.ack(delivery);
    this.#earlyAcks ??= new Promise(setImmediate).then(() => {
      this.#earlyAcks = undefined;
      this.#acknowledger.flush();
      return this.#channel.checkQueue(this.#fields.topology.queue);
    });
    await this.#earlyAcks;
  }

  requeue(delivery: Delivery): void {
    // While stopping, closing the channel requeues the rest: a burst of nacks would delay the last acks.
    if (this.#isStopping) return;
    this.#acknowledger.nack(delivery.tag);
    this.#events.settled();
  }

  republish(delivery: Delivery, republished: RepublishedMessage): Promise<void> {
    return this.#republisher.republish(delivery, republished);
  }

  /** amqplib's ack and nack throw on a closing channel; the broker redelivers unsettled messages. */
  #send(settle: () => void): void {
    this.#sentSinceCancel++;
    try {
      settle();
    } catch {
      this.end();
    }
  }

  /** @param message null: the broker cancelled the consumer */
  #onMessage(message: ConsumeMessage | null): void {
    if (message === null) return this.#events.cancelled();
    const { topology, keyHeader, sink } = this.#fields;
    const inbound = inboundMessage(message, topology.queue, keyHeader);
    const { redelivered, deliveryTag } = message.fields;
    const { order, delivery } = this.#settings;
    const fields = {
      message: inbound,
      session: this.session,
      orderingKey: order === 'none' ? undefined : inbound.key,
      redelivered,
      tag: deliveryTag,
      source: this,
      mode: delivery,
    };
    sink.deliver(new Delivery(fields));
  }
}

/** amqplib takes a message where AMQP needs only the delivery tag. */
function messageOfTag(deliveryTag: number): ConsumeMessage {
  return { fields: { deliveryTag } } as ConsumeMessage;
}
