import type { ConfirmChannel, Options } from 'amqplib';
import { ConnectionLostError, NoRouteError, PublishRejectedError } from '../../core/runtime/errors.js';
import { encodingError } from '../connection/errors.js';
import type { ChannelLifetime } from './channel-lifetime.js';

const publishTimeoutMs = 30_000;

interface PendingPublish {
  isReturned: boolean;
}

/** Publishes with confirms on the channel of a scan, so that one channel replays and acknowledges. */
export class ScanPublisher {
  readonly #channel: ConfirmChannel;
  readonly #lifetime: ChannelLifetime;
  readonly #unconfirmed = new Set<PendingPublish>();

  constructor(channel: ConfirmChannel, lifetime: ChannelLifetime) {
    this.#channel = channel;
    this.#lifetime = lifetime;
    // `basic.return` carries no delivery tag. All messages of a scan have the same target: all count as
    // unroutable.
    channel.on('return', () => {
      for (const pending of this.#unconfirmed) pending.isReturned = true;
    });
  }

  /** Resolves when the broker has confirmed the message and the queue exists. */
  async publish(queue: string, body: Buffer, options: Options.Publish): Promise<void> {
    const pending: PendingPublish = { isReturned: false };
    try {
      await this.#lifetime.rpc(() => this.#send(queue, body, options, pending), publishTimeoutMs);
    } catch (error) {
      // It is unknown whether the broker stored the message. Nothing more may be settled on this channel.
      if (error instanceof ConnectionLostError) this.#lifetime.lose(error);
      throw error;
    } finally {
      this.#unconfirmed.delete(pending);
    }
    if (pending.isReturned) throw new NoRouteError(`there is no queue "${queue}"`);
  }

  #send(queue: string, body: Buffer, options: Options.Publish, pending: PendingPublish): Promise<void> {
    const lifetime = this.#lifetime;
    return new Promise((resolve, reject) => {
      const onConfirm = (error: unknown): void => {
        if (error === null || error === undefined) resolve();
        else {
          const rejected = `the queue "${queue}" rejected the message; it may be full`;
          reject(lifetime.loss ?? new PublishRejectedError(rejected));
        }
      };
      try {
        this.#channel.publish('', queue, body, options, onConfirm);
        this.#unconfirmed.add(pending);
      } catch (error) {
        reject(lifetime.loss ?? encodingError(error));
      }
    });
  }
}
