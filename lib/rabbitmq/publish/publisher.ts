import { describeAddress } from '../../driver-kit/queue/describe-address.js';
import { IllegalOperationError, type ConfirmChannel, type Options } from 'amqplib';
import {
  BufferFullError,
  ClientClosedError,
  messageOf,
  NoRouteError,
  PublishRejectedError,
  PublishUnconfirmedError,
} from '../../core/runtime/errors.js';
import type { PublishCancellation } from '../../core/port/publish-cancellation.js';
import { encodingError, replyCodeOf, replyCodes } from '../connection/errors.js';
import { SupervisedChannel, type SupervisedChannelFields } from '../connection/supervised-channel.js';

/** The arguments of amqplib's `channel.publish`. */
export interface Publication {
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Buffer;
  readonly options: Options.Publish;
}

export interface PublisherFields extends Omit<SupervisedChannelFields, 'setup' | 'up' | 'lost'> {
  /** Limit of unconfirmed messages, those buffered while disconnected included. */
  readonly maxMessages: number;
  /** Limit of the bytes of their bodies. */
  readonly maxBytes: number;
  /** Additional setup of the channel. */
  setup?(channel: ConfirmChannel): Promise<void>;
  lost?(error: Error): void;
}

class PendingPublish {
  isReturned = false;

  constructor(
    readonly publication: Publication,
    readonly resolve: () => void,
    readonly reject: (error: Error) => void,
  ) {}
}

/**
 * Publishes with publisher confirms. While disconnected it buffers messages, in order and within the
 * limits. Messages that were sent and not confirmed when the channel closed reject with
 * `PublishUnconfirmedError`: the broker may have stored them.
 */
export class Publisher {
  readonly #fields: PublisherFields;
  readonly #channel: SupervisedChannel;
  /** Sent and not confirmed, oldest first. */
  readonly #unconfirmed = new Set<PendingPublish>();
  /** Not sent: there is no channel. */
  #buffered = new Set<PendingPublish>();
  #bytes = 0;
  /** Why the last channel was closed. */
  #closeCause: Error | undefined;
  #closed = false;
  #onIdle: (() => void) | undefined;

  constructor(fields: PublisherFields) {
    this.#fields = fields;
    this.#channel = new SupervisedChannel({
      ...fields,
      setup: (channel) => this.#setUp(channel),
      up: (channel) => this.#sendBuffered(channel),
      lost: (error) => {
        this.#closeCause = error;
        // Later than the rejected confirms: their errors are more specific.
        if (fields.lost !== undefined) setImmediate(() => fields.lost!(error));
      },
    });
  }

  start(): Promise<void> {
    return this.#channel.start();
  }

  /** The open channel, for other AMQP methods than publish. */
  get channel(): ConfirmChannel | undefined {
    return this.#channel.current;
  }

  /**
   * @param cancellation undefined: the message waits for the broker as long as needed
   */
  publish(publication: Publication, cancellation?: PublishCancellation): Promise<void> {
    const { maxMessages, maxBytes, name } = this.#fields;
    if (this.#closed) return Promise.reject(new ClientClosedError(`${name}: closed`));
    const count = this.#unconfirmed.size + this.#buffered.size;
    if (count >= maxMessages || this.#bytes + publication.body.length > maxBytes) {
      const unconfirmed = `${count} messages with ${this.#bytes} bytes are not confirmed`;
      return Promise.reject(
        new BufferFullError(
          `${name}: ${unconfirmed}, maxBufferedMessages or maxBufferedBytes allows no more`,
        ),
      );
    }
    if (cancellation?.isCancelled === true) return Promise.resolve();
    this.#bytes += publication.body.length;
    return new Promise((resolve, reject) => {
      const pending = new PendingPublish(publication, resolve, reject);
      if (cancellation !== undefined) cancellation.withdraw = () => this.#withdraw(pending);
      const channel = this.#channel.current;
      // Behind buffered messages, to preserve the order.
      if (channel === undefined || this.#buffered.size > 0) this.#buffered.add(pending);
      else this.#send(channel, pending);
    });
  }

  /** Waits until every message is confirmed, without a time limit. */
  async flush(): Promise<void> {
    if (this.#unconfirmed.size + this.#buffered.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const pending of this.#takeBuffered())
      this.#settle(
        pending,
        new ClientClosedError(`${this.#fields.name}: closed before the message was sent`),
      );
    await this.#channel.close();
  }

  async #setUp(channel: ConfirmChannel): Promise<void> {
    channel.on('return', ({ fields, properties }) => {
      // `basic.return` carries no delivery tag. RabbitMQ sends it before the confirm, usually of one of the
      // oldest.
      for (const pending of this.#unconfirmed) {
        const { options, exchange, routingKey } = pending.publication;
        if (pending.isReturned || options.messageId !== properties.messageId) continue;
        if (exchange !== fields.exchange || routingKey !== fields.routingKey) continue;
        pending.isReturned = true;
        return;
      }
    });
    await this.#fields.setup?.(channel);
  }

  #sendBuffered(channel: ConfirmChannel): void {
    for (const pending of this.#takeBuffered()) this.#send(channel, pending);
  }

  #takeBuffered(): ReadonlySet<PendingPublish> {
    const buffered = this.#buffered;
    this.#buffered = new Set();
    return buffered;
  }

  /** Returns false if the message was sent. */
  #withdraw(pending: PendingPublish): boolean {
    if (!this.#buffered.delete(pending)) return false;
    this.#settle(pending, undefined);
    return true;
  }

  #send(channel: ConfirmChannel, pending: PendingPublish): void {
    const { exchange, routingKey, body, options } = pending.publication;
    try {
      channel.publish(exchange, routingKey, body, options, (error: unknown) =>
        this.#onConfirm(pending, error),
      );
      this.#unconfirmed.add(pending);
    } catch (error) {
      this.#settle(pending, this.#sendError(error));
    }
  }

  #onConfirm(pending: PendingPublish, error: unknown): void {
    this.#unconfirmed.delete(pending);
    if (error !== null && error !== undefined)
      return this.#settle(pending, this.#confirmError(pending, error));
    this.#settle(
      pending,
      pending.isReturned
        ? new NoRouteError(`no queue is bound for the message to ${describeAddress(pending.publication)}`)
        : undefined,
    );
  }

  #settle(pending: PendingPublish, error: Error | undefined): void {
    this.#bytes -= pending.publication.body.length;
    if (error === undefined) pending.resolve();
    else pending.reject(error);
    if (this.#unconfirmed.size + this.#buffered.size === 0) this.#onIdle?.();
  }

  #confirmError(pending: PendingPublish, error: unknown): Error {
    if (messageOf(error) === 'message nacked') {
      return new PublishRejectedError(
        `the broker rejected the message to ${describeAddress(pending.publication)}; a queue may be full`,
      );
    }
    const cause = this.#closeCause ?? error;
    if (
      replyCodeOf(cause) === replyCodes.notFound &&
      messageOf(cause).includes(`no exchange '${pending.publication.exchange}'`)
    ) {
      return new NoRouteError(`there is no exchange "${pending.publication.exchange}"`, { cause });
    }
    const message = `the channel was closed before the message to ${describeAddress(pending.publication)} was confirmed`;
    return new PublishUnconfirmedError(`${message}: ${messageOf(cause)}`, { cause });
  }

  #sendError(error: unknown): Error {
    if (error instanceof IllegalOperationError) {
      return new PublishUnconfirmedError(`${this.#fields.name}: ${error.message}`, { cause: error });
    }
    return encodingError(error);
  }
}
