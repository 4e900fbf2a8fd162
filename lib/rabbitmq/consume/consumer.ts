import type { ConfirmChannel } from 'amqplib';
import type { ConnectionStateCell } from '../../core/port/connection-state.js';
import type { Subscription } from '../../core/port/driver.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import { SupervisedChannel, type SupervisedChannelFields } from '../connection/supervised-channel.js';
import { declareTopology } from '../topology/topology.js';
import { ConsumerChannel, ignoreChannelClosed, type ConsumerChannelFields } from './consumer-channel.js';

export interface ConsumerFields
  extends Omit<SupervisedChannelFields, 'setup' | 'lost'>, ConsumerChannelFields {
  readonly prefetch: number;
}

/** Consumes one queue on a channel of its own. A loss of the channel starts a new channel and session. */
export class Consumer implements Subscription {
  readonly #fields: ConsumerFields;
  readonly #supervised: SupervisedChannel;
  #channel: ConsumerChannel | undefined;
  #state: 'flowing' | 'paused' | 'stopped' = 'flowing';
  /**
   * Set after amqplib failed to decode a message and closed the connection. With a prefetch of 1 only the
   * delivery count of the poison message rises, until the delivery limit dead-letters it.
   */
  #singleMessagePrefetch = false;

  constructor(fields: ConsumerFields) {
    this.#fields = fields;
    this.#supervised = new SupervisedChannel({
      ...fields,
      setup: (channel) => this.#setUp(channel),
      lost: (error) => this.#lost(error),
    });
  }

  get state(): ConnectionStateCell {
    return this.#supervised.state;
  }

  start(): Promise<void> {
    return this.#supervised.start();
  }

  pause(): void {
    if (this.#state !== 'flowing') return;
    this.#state = 'paused';
    this.#channel?.cancel().catch(ignoreChannelClosed);
  }

  resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'flowing';
    this.#channel?.consume().catch(ignoreChannelClosed);
  }

  async stop(): Promise<void> {
    if (this.#state === 'stopped') return;
    this.#state = 'stopped';
    await this.#channel?.stop();
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#channel?.flush();
    await this.#supervised.close();
  }

  async #setUp(channel: ConfirmChannel): Promise<void> {
    const { topology, spec, prefetch } = this.#fields;
    await declareTopology(channel, topology, spec);
    await channel.prefetch(this.#singleMessagePrefetch ? 1 : prefetch);
    this.#channel = new ConsumerChannel(channel, this.#fields, {
      settled: () => this.#settled(),
      cancelled: () => void this.#supervised.restart(channel, consumerCancelled(topology.queue)),
    });
    if (this.#state === 'flowing') await this.#channel.consume();
  }

  #lost(error: Error): void {
    this.#channel?.end();
    this.#channel = undefined;
    // amqplib's decoder throws these, errors of the broker are neither.
    if (error instanceof RangeError || error instanceof TypeError) this.#singleMessagePrefetch = true;
  }

  #settled(): void {
    if (!this.#singleMessagePrefetch) return;
    this.#singleMessagePrefetch = false;
    this.#channel?.restorePrefetch(this.#fields.prefetch).catch(ignoreChannelClosed);
  }
}

function consumerCancelled(queue: string): Error {
  return new ConnectionLostError(
    `the broker cancelled the consumer of "${queue}"; the queue may have been deleted`,
  );
}
