import type { ChannelModel, ConfirmChannel, ConsumeMessage, Options } from 'amqplib';
import { sleep, type StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import { brokerRpc } from '../connection/broker-rpc.js';
import { movedOptions } from '../publish/messages.js';
import { ChannelLifetime } from './channel-lifetime.js';
import { ScanPublisher } from './scan-publisher.js';

/**
 * Prefetch of the first consumer. It doubles with each further consumer, as far as the size of the bodies
 * allows.
 */
const firstWindow = 200;
/** `basic.qos` has 16 bits for the prefetch count. */
const maxPrefetch = 65_535;
/** Bodies of delivered messages that wait for the visitor. */
const maxBufferedBytes = 64 * 1024 * 1024;
/**
 * A quorum queue requeues the messages of up to 32 consumers in the order of their consumer tags, and of
 * more consumers in any order: Erlang sorts maps of up to 32 keys. From this number on, windows are as
 * large as possible.
 */
const maxBoundedConsumers = 24;
/** How long the channel waits for a delivery before it checks whether the queue is empty. */
const idleMs = 1_000;
/** Consecutive checks that may find messages in the queue while none is delivered. */
const maxIdleChecks = 10;
/**
 * Requeued messages appear in the queue a moment after the channel has closed, on a busy broker seconds
 * later.
 */
const requeueTimeoutMs = 4_000;
/** Other consumers of the queue may take requeued messages before they are counted. */
const sharedRequeueTimeoutMs = 1_000;
const closeTimeoutMs = 5_000;

export interface ScanChannelFields {
  readonly model: ChannelModel;
  readonly queue: string;
  /**
   * Starts with a prefetch of 1: each delivered message is requeued, which the queue may count as a
   * delivery.
   */
  readonly singleMessagePrefetch: boolean;
  readonly clock: StorkClock;
}

/** A consumer and its prefetch window. */
interface Window {
  readonly tag: string;
  readonly size: number;
  /** Delivered and not acknowledged. */
  unsettled: number;
  /** Messages that remain unsettled until the channel closes. */
  kept: number;
}

/**
 * Reads a queue from its head on one channel. Messages that are not acknowledged are requeued when the
 * channel closes, in their order. Quorum queues order returned messages by consumer: the next consumer
 * therefore starts only when the previous one keeps its whole window, so that the consumers hold
 * consecutive ranges of the queue.
 */
export class ScanChannel {
  readonly #channel: ConfirmChannel;
  readonly #fields: ScanChannelFields;
  readonly #lifetime: ChannelLifetime;
  readonly #publisher: ScanPublisher;
  /** Delivered messages; the next one for the visitor is at `#nextAt`. */
  #delivered: (ConsumeMessage | undefined)[] = [];
  #nextAt = 0;
  #changed = withResolvers<void>();
  #window: Window | undefined;
  #windowCount = 0;
  /** Delivered and not acknowledged, on all consumers. */
  #unsettled = 0;
  #deliveredCount = 0;
  #deliveredBytes = 0;
  /** Acks of this turn: resolves when the broker has processed them. */
  #acks: Promise<void> | undefined;

  static async open(fields: ScanChannelFields): Promise<ScanChannel> {
    const channel = await brokerRpc(fields.clock, () => fields.model.createConfirmChannel());
    return new ScanChannel(channel, fields);
  }

  private constructor(channel: ConfirmChannel, fields: ScanChannelFields) {
    this.#channel = channel;
    this.#fields = fields;
    const { model, queue, clock } = fields;
    const onLoss = (): void => this.#notifyChange();
    this.#lifetime = new ChannelLifetime({ model, channel, queue, clock, onLoss });
    this.#publisher = new ScanPublisher(channel, this.#lifetime);
  }

  /** Why the channel is unusable; undefined while it is open. */
  get loss(): Error | undefined {
    return this.#lifetime.loss;
  }

  /**
   * The next message. Undefined when the queue delivers no more, e.g. because other consumers hold the
   * rest.
   */
  async next(): Promise<ConsumeMessage | undefined> {
    for (let idleChecks = 0; ;) {
      if (this.loss !== undefined) throw this.loss;
      const message = this.#takeDelivered();
      if (message !== undefined) return message;
      const window = this.#window;
      if (window === undefined || window.kept === window.size) await this.#openWindow();
      else if (await this.#hasChanged()) idleChecks = 0;
      // The window is full of messages whose action is still in flight: the queue cannot deliver more.
      else if (window.unsettled === window.size) continue;
      else if (await this.#isExhausted()) return undefined;
      else if (++idleChecks === maxIdleChecks)
        throw new ConnectionLostError(`${this.#fields.queue}: ${noDelivery}`);
    }
  }

  /** Leaves the message unsettled until the channel closes. */
  keep(message: ConsumeMessage): void {
    if (message.fields.consumerTag !== this.#window?.tag) return;
    this.#window.kept++;
    this.#notifyChange();
  }

  /** Resolves when the broker has confirmed the message and the queue exists. */
  publish(queue: string, body: Buffer, options: Options.Publish): Promise<void> {
    return this.#publisher.publish(queue, body, options);
  }

  /**
   * Republishes the message unchanged to the end of its queue, where its delivery count starts at zero. The
   * consumer is cancelled first: further deliveries would come closer to the limit as well.
   */
  async resetDeliveryCount(message: ConsumeMessage): Promise<void> {
    const { tag } = this.#window!;
    await this.#lifetime.rpc(() => this.#channel.cancel(tag));
    await this.publish(this.#fields.queue, message.content, movedOptions(message));
    await this.ack(message);
  }

  /**
   * Resolves when the broker has processed the ack. AMQP does not confirm acks; a passive declare of the
   * queue is answered after the acks before it.
   */
  async ack(message: ConsumeMessage): Promise<void> {
    if (this.loss !== undefined) throw this.loss;
    this.#channel.ack(message);
    this.#unsettled--;
    if (message.fields.consumerTag === this.#window?.tag) this.#window.unsettled--;
    this.#notifyChange();
    this.#acks ??= new Promise(setImmediate).then(async () => {
      this.#acks = undefined;
      await this.#checkQueue();
    });
    await this.#acks;
  }

  /**
   * Closes the channel, which requeues unsettled messages. Resolves with true when they are in the queue
   * again, with false when that takes too long or other consumers took them. Never rejects.
   */
  async close(): Promise<boolean> {
    let isRequeued = false;
    const closed = this.#closeAndAwaitRequeue().then(
      (result) => {
        isRequeued = result;
      },
      () => {},
    );
    await settlesWithin(this.#fields.clock, closed, closeTimeoutMs);
    return isRequeued;
  }

  async #closeAndAwaitRequeue(): Promise<boolean> {
    const { model, queue, clock } = this.#fields;
    if (this.loss !== undefined) return false;
    if (this.#window !== undefined) {
      await this.#awaitDeliveries(this.#window);
      await this.#channel.cancel(this.#window.tag);
    }
    const { messageCount, consumerCount } = await this.#channel.checkQueue(queue);
    const limitMs = consumerCount > this.#windowCount ? sharedRequeueTimeoutMs : requeueTimeoutMs;
    await this.#channel.close();
    const channel = await model.createChannel();
    channel.on('error', () => {});
    const until = clock.now() + limitMs;
    let isRequeued = false;
    while (!isRequeued && clock.now() < until) {
      isRequeued = (await channel.checkQueue(queue)).messageCount >= messageCount + this.#unsettled;
      if (!isRequeued) await sleep(clock, 5);
    }
    await channel.close();
    return isRequeued;
  }

  /**
   * Waits for the deliveries that the last acks made room for. A quorum queue requeues a delivery that meets
   * a cancelled consumer ahead of all others, which would change the order.
   */
  async #awaitDeliveries(window: Window): Promise<void> {
    for (;;) {
      const { messageCount } = await this.#checkQueue();
      if (messageCount === 0 || window.unsettled === window.size) return;
      // Other consumers may take the rest.
      if (!(await this.#hasChanged())) return;
    }
  }

  async #isExhausted(): Promise<boolean> {
    const { messageCount } = await this.#checkQueue();
    // The first answer can overtake deliveries that the queue sent before it, the second cannot.
    await this.#checkQueue();
    return messageCount === 0 && this.#nextAt === this.#delivered.length;
  }

  #takeDelivered(): ConsumeMessage | undefined {
    const message = this.#delivered[this.#nextAt];
    if (message === undefined) return undefined;
    this.#delivered[this.#nextAt++] = undefined;
    if (this.#nextAt === this.#delivered.length) {
      this.#delivered = [];
      this.#nextAt = 0;
    }
    return message;
  }

  async #openWindow(): Promise<void> {
    const size = this.#nextSize();
    await this.#lifetime.rpc(() => this.#channel.prefetch(size));
    // Padded, because the requeue order is the alphabetical order of the tags.
    const tag = `dead-letters-${String(this.#windowCount++).padStart(6, '0')}`;
    const window = { tag, size, unsettled: 0, kept: 0 };
    this.#window = window;
    const onMessage = (message: ConsumeMessage | null): void => this.#onMessage(message, window);
    await this.#lifetime.rpc(() =>
      this.#channel.consume(this.#fields.queue, onMessage, { consumerTag: tag }),
    );
  }

  #nextSize(): number {
    if (this.#window === undefined) return this.#fields.singleMessagePrefetch ? 1 : firstWindow;
    const meanBytes = Math.max(1, this.#deliveredBytes / this.#deliveredCount);
    const fitting = Math.max(firstWindow, Math.floor(maxBufferedBytes / meanBytes));
    const size =
      this.#windowCount < maxBoundedConsumers ? Math.min(this.#window.size * 2, fitting) : maxPrefetch;
    return Math.min(size, maxPrefetch);
  }

  /** @param message null: the broker cancelled the consumer */
  #onMessage(message: ConsumeMessage | null, window: Window): void {
    if (message === null)
      return this.#lifetime.lose(new ConnectionLostError(`the queue "${this.#fields.queue}" was deleted`));
    this.#delivered.push(message);
    this.#unsettled++;
    window.unsettled++;
    this.#deliveredCount++;
    this.#deliveredBytes += message.content.length;
    this.#notifyChange();
  }

  #checkQueue(): Promise<{ readonly messageCount: number }> {
    return this.#lifetime.rpc(() => this.#channel.checkQueue(this.#fields.queue));
  }

  /** False when nothing was delivered, kept or acknowledged for `idleMs`. */
  #hasChanged(): Promise<boolean> {
    return settlesWithin(this.#fields.clock, this.#changed.promise, idleMs);
  }

  #notifyChange(): void {
    this.#changed.resolve();
    this.#changed = withResolvers();
  }
}

const noDelivery =
  'the queue has messages and delivers none; does it have a single active consumer elsewhere?';
