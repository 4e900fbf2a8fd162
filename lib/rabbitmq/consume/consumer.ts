import type { ConfirmChannel, ConsumeMessage } from 'amqplib';
import type { ConnectionStateCell } from '../../core/port/connection-state.js';
import { sourceSettingsOf, type SourceSettings } from '../../driver-kit/source-settings.js';
import {
  Delivery,
  SourceSession,
  type RepublishedMessage,
  type DeliverySource,
} from '../../core/port/delivery.js';
import type { DeliverySink, Subscription, SubscriptionSpec } from '../../core/port/driver.js';
import { NoRouteError } from '../../core/runtime/errors.js';
import type { Connection } from '../connection/connection.js';
import { Acknowledger } from './acknowledger.js';
import { dayMs } from '../publish/delay-queues.js';
import { bareOptions, republishOptions, inboundMessage } from '../publish/messages.js';
import { isUnsendable, type Publication, type Publisher } from '../publish/publisher.js';
import { SupervisedChannel, type SupervisedChannelFields } from '../connection/supervised-channel.js';
import {
  deadLetterQueue,
  declareDeadLetters,
  declareRetries,
  declareTopology,
  retryQueue,
  type QueueTopology,
} from '../topology/topology.js';

export interface ConsumerFields extends Omit<SupervisedChannelFields, 'setup' | 'lost'> {
  readonly connection: Connection;
  readonly topology: QueueTopology;
  readonly spec: SubscriptionSpec;
  readonly prefetch: number;
  readonly keyHeader: string;
  readonly sink: DeliverySink;
  /** On the consuming connection: an alarm that blocks publishers must not keep dead letters from being written beside it. */
  readonly republished: Publisher;
}

/**
 * Acknowledgements that the broker's channel sends to a quorum queue before it has heard that the first is written; one more goes through
 * as well. Those behind it stay in the channel, and are forgotten when it ends.
 */
export const mostPassedOn = 32;

/** What fails on a channel closes it, and its supervisor brings it back. */
const lossIsTold = (): void => {};

/** Consumes one queue on a channel of its own; a new channel, and a new epoch, after every loss. */
export class Consumer implements Subscription {
  readonly #fields: ConsumerFields;
  readonly #channel: SupervisedChannel;
  #live: LiveChannel | undefined;
  #state: 'flowing' | 'paused' | 'stopped' = 'flowing';
  /** The client could not decode a message and broke the connection: one at a time, so that only the poison's count rises. */
  #isCautious = false;

  constructor(fields: ConsumerFields) {
    this.#fields = fields;
    this.#channel = new SupervisedChannel({
      ...fields,
      setup: (channel) => this.#setUp(channel),
      lost: (error) => this.#lost(error),
    });
  }

  get state(): ConnectionStateCell {
    return this.#channel.state;
  }

  start(): Promise<void> {
    return this.#channel.start();
  }

  pause(): void {
    if (this.#state !== 'flowing') return;
    this.#state = 'paused';
    this.#live?.cancel().catch(lossIsTold);
  }

  resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'flowing';
    this.#live?.consume().catch(lossIsTold);
  }

  async stop(): Promise<void> {
    if (this.#state === 'stopped') return;
    this.#state = 'stopped';
    await this.#live?.stop();
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#live?.flush();
    await this.#channel.close();
  }

  async #setUp(channel: ConfirmChannel): Promise<void> {
    const { topology, spec, prefetch } = this.#fields;
    await declareTopology(channel, topology, spec);
    await channel.prefetch(this.#isCautious ? 1 : prefetch);
    this.#live = new LiveChannel(channel, this.#fields, {
      settled: () => this.#settled(),
      cancelled: () => void this.#channel.restart(channel),
    });
    if (this.#state === 'flowing') await this.#live.consume();
  }

  #lost(error: Error): void {
    this.#live?.end();
    this.#live = undefined;
    // A message that overflows the client's decoder: nothing that the broker said.
    if (error instanceof RangeError) this.#isCautious = true;
  }

  #settled(): void {
    if (!this.#isCautious) return;
    this.#isCautious = false;
    this.#live?.widen(this.#fields.prefetch).catch(lossIsTold);
  }
}

/** Of consumers: whoever else is there gets messages first. */
const lastInLine = -1_000;

function messageOfTag(deliveryTag: number): ConsumeMessage {
  return { fields: { deliveryTag } } as ConsumeMessage;
}

interface LiveChannelEvents {
  settled(): void;
  /** The broker ended the consumer, e.g. because the queue was deleted. */
  cancelled(): void;
}

/** One channel with its epoch: what was delivered on it is settled on it, or not at all. */
class LiveChannel implements DeliverySource {
  readonly session = new SourceSession();
  readonly #channel: ConfirmChannel;
  readonly #fields: ConsumerFields;
  readonly #events: LiveChannelEvents;
  readonly #acknowledger: Acknowledger;
  readonly #consumption: SourceSettings;
  /** Retry queues by their delay, with the time at which they were declared on this channel. */
  readonly #declaredAt = new Map<number, number>();
  /** Ends when the broker has what was acknowledged in this turn. */
  #taken: Promise<unknown> | undefined;
  #isStopping = false;
  /** Settlements that the end of the consumer does not prove to be written. */
  #sentSinceCancel = 0;
  #consumerTag: Promise<string | undefined> = Promise.resolve(undefined);

  constructor(channel: ConfirmChannel, fields: ConsumerFields, events: LiveChannelEvents) {
    this.#channel = channel;
    this.#fields = fields;
    this.#events = events;
    this.#consumption = sourceSettingsOf(fields.spec.patterns);
    // Together with the channel.
    for (const delayMs of fields.spec.redeliverDelaysMs) this.#declaredAt.set(delayMs, fields.clock.now());
    this.#acknowledger = new Acknowledger({
      ack: (tag, multiple) => this.#send(() => channel.ack(messageOfTag(tag), multiple)),
      nack: (tag) => this.#send(() => channel.nack(messageOfTag(tag), false, true)),
    });
  }

  /** Errors close the channel, which its supervisor hears of. */
  async consume(): Promise<void> {
    const { queue } = this.#fields.topology;
    const before = this.#consumerTag;
    this.#consumerTag = before.then(async (tag) => {
      if (tag !== undefined) return tag;
      const consumer = await this.#channel.consume(queue, (message) => this.#take(message));
      return consumer.consumerTag;
    });
    await this.#consumerTag;
  }

  /** A channel that is being closed refuses: what is not settled by then comes again. */
  #send(settle: () => void): void {
    this.#sentSinceCancel++;
    try {
      settle();
    } catch {
      this.end();
    }
  }

  /** The channel is gone: nothing can be settled on it any more. */
  end(): void {
    this.session.end();
    this.#acknowledger.discard();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.cancel();
  }

  /**
   * Before the channel is closed on purpose: the broker forgets acknowledgements that its channel has not passed on to the queue by then.
   */
  async flush(): Promise<void> {
    if (!this.session.isActive) return;
    this.#acknowledger.flush();
    await this.#passOn().catch(lossIsTold);
  }

  /**
   * A classic queue answers after what was acknowledged. A quorum queue answers before: it is told of the first acknowledgements, and the
   * channel keeps the rest until those are written. A consumer begins and ends only after that. A message that it is given returns with
   * the channel, as one that was delivered once more.
   */
  async #passOn(): Promise<void> {
    const { queue, queueType } = this.#fields.topology;
    if (queueType === 'classic' || this.#sentSinceCancel < mostPassedOn / 2)
      return void (await this.#channel.checkQueue(queue));
    await this.#channel.prefetch(1);
    const { consumerTag } = await this.#channel.consume(queue, () => {}, { priority: lastInLine });
    await this.#channel.cancel(consumerTag);
    await this.#channel.checkQueue(queue);
  }

  /** The channel stays: what was delivered can still be settled. */
  async cancel(): Promise<void> {
    this.#consumerTag = this.#consumerTag.then(async (tag) => {
      if (tag === undefined || !this.session.isActive) return undefined;
      this.#sentSinceCancel = 0;
      await this.#channel.cancel(tag);
      return undefined;
    });
    await this.#consumerTag.catch(() => {});
  }

  /** A prefetch counts for consumers that begin after it. */
  async widen(prefetch: number): Promise<void> {
    await this.cancel();
    if (!this.session.isActive) return;
    await this.#channel.prefetch(prefetch);
    await this.consume();
  }

  ack(delivery: Delivery): void {
    this.#acknowledger.ack(delivery.tag);
    this.#events.settled();
  }

  /**
   * An acknowledgement has no answer, and lost on its way it would bring the message again: the broker's answer about the queue comes
   * after it. Deliveries of one turn share one.
   */
  async ackEarly(delivery: Delivery): Promise<void> {
    this.ack(delivery);
    this.#taken ??= new Promise(setImmediate).then(() => {
      this.#taken = undefined;
      this.#acknowledger.flush();
      return this.#channel.checkQueue(this.#fields.topology.queue);
    });
    await this.#taken;
  }

  requeue(delivery: Delivery): void {
    // On its way out the channel's end returns what is left; a burst of returns before it would hold up the last acknowledgements.
    if (this.#isStopping) return;
    this.#acknowledger.nack(delivery.tag);
    this.#events.settled();
  }

  async republish(delivery: Delivery, copy: RepublishedMessage): Promise<void> {
    const message = delivery.message.raw as ConsumeMessage;
    const { republished, topology } = this.#fields;
    const publication = {
      exchange: '',
      routingKey: companionFor(copy, topology.queue),
      body: message.content,
      options: republishOptions(message, copy),
    };
    if (copy.to === 'redelivery') await this.#renewLease(copy.delayMs);
    try {
      await republished.publish(publication);
    } catch (error) {
      await this.#publishAnyway(publication, copy, error);
    }
  }

  async #publishAnyway(publication: Publication, copy: RepublishedMessage, error: unknown): Promise<void> {
    const { republished, topology } = this.#fields;
    // What a foreign client could write, ours cannot always: the body and our own headers then.
    if (isUnsendable(error)) return republished.publish({ ...publication, options: bareOptions(copy) });
    if (!(error instanceof NoRouteError)) throw error;
    // Somebody deleted the companion.
    if (copy.to === 'dead-letter')
      await declareDeadLetters(this.#channel, companionFor(copy, topology.queue));
    else await this.#declareRetries(copy.delayMs);
    await republished.publish(publication);
  }

  /** The queue lives on for days after it was declared; declared again daily, it outlives each message in it. */
  async #renewLease(delayMs: number): Promise<void> {
    const at = this.#declaredAt.get(delayMs);
    if (at === undefined || this.#fields.clock.now() - at > dayMs) await this.#declareRetries(delayMs);
  }

  async #declareRetries(delayMs: number): Promise<void> {
    await declareRetries(this.#channel, this.#fields.topology.queue, delayMs);
    this.#declaredAt.set(delayMs, this.#fields.clock.now());
  }

  #take(message: ConsumeMessage | null): void {
    if (message === null) return this.#events.cancelled();
    const { topology, keyHeader, sink } = this.#fields;
    const inbound = inboundMessage(message, topology.queue, keyHeader);
    const { redelivered, deliveryTag } = message.fields;
    const { order, delivery } = this.#consumption;
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

function companionFor(copy: RepublishedMessage, queue: string): string {
  return copy.to === 'redelivery' ? retryQueue(queue, copy.delayMs) : (copy.target ?? deadLetterQueue(queue));
}
