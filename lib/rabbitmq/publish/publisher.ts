import { IllegalOperationError, type ConfirmChannel, type Options } from 'amqplib';
import {
  BufferFullError,
  ClientClosedError,
  MessageTooLargeError,
  messageOf,
  NoRouteError,
  PublishRejectedError,
  PublishUnconfirmedError,
  StorkConfigError,
} from '../../core/runtime/errors.js';
import { replyCodeOf, replyCodes } from '../connection/errors.js';
import { SupervisedChannel, type SupervisedChannelFields } from '../connection/supervised-channel.js';

/** A message as the client library takes it. */
export interface Publication {
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Buffer;
  readonly options: Options.Publish;
}

export interface PublisherFields extends Omit<SupervisedChannelFields, 'setup' | 'up' | 'lost'> {
  /** Messages without a confirmation, waiting for a channel or for the broker. */
  readonly maxMessages: number;
  /** Bytes of their bodies. */
  readonly maxBytes: number;
  /** What the channel needs besides confirms. */
  setup?(channel: ConfirmChannel): Promise<void>;
  lost?(error: Error): void;
}

/** Whether the client cannot write a message at all, however often it is tried. */
export function isUnsendable(error: unknown): boolean {
  return error instanceof MessageTooLargeError || error instanceof StorkConfigError;
}

/** A publish that somebody waits for. */
class Pending {
  isReturned = false;

  constructor(
    readonly publication: Publication,
    readonly resolve: () => void,
    readonly reject: (error: Error) => void,
  ) {}
}

/**
 * Publishes with confirms. While the broker is away messages wait, in order, within the bound; those that were on their way when the
 * channel went are reported unconfirmed: whether the broker has them is unknown.
 */
export class Publisher {
  readonly #fields: PublisherFields;
  readonly #channel: SupervisedChannel;
  /** Sent and not confirmed, oldest first. */
  readonly #unconfirmed = new Set<Pending>();
  #waiting: Pending[] = [];
  #bytes = 0;
  #lost: Error | undefined;
  #closed = false;
  #onIdle: (() => void) | undefined;

  constructor(fields: PublisherFields) {
    this.#fields = fields;
    this.#channel = new SupervisedChannel({
      ...fields,
      setup: (channel) => this.#setUp(channel),
      up: (channel) => this.#sendWaiting(channel),
      lost: (error) => {
        this.#lost = error;
        // After those whose confirmation failed have been told why: what they get says more.
        if (fields.lost !== undefined) setImmediate(() => fields.lost!(error));
      },
    });
  }

  start(): Promise<void> {
    return this.#channel.start();
  }

  /** The channel of now, for what is not a publish. */
  get channel(): ConfirmChannel | undefined {
    return this.#channel.current;
  }

  publish(publication: Publication): Promise<void> {
    const { maxMessages, maxBytes, name } = this.#fields;
    if (this.#closed) return Promise.reject(new ClientClosedError(`${name}: closed`));
    const count = this.#unconfirmed.size + this.#waiting.length;
    if (count >= maxMessages || this.#bytes + publication.body.length > maxBytes) {
      const held = `${count} messages with ${this.#bytes} bytes wait for the broker`;
      return Promise.reject(
        new BufferFullError(`${name}: ${held}, maxBufferedMessages or maxBufferedBytes allows no more`),
      );
    }
    this.#bytes += publication.body.length;
    return new Promise((resolve, reject) => {
      const pending = new Pending(publication, resolve, reject);
      const channel = this.#channel.current;
      // Behind what waits, or a message would overtake it.
      if (channel === undefined || this.#waiting.length > 0) this.#waiting.push(pending);
      else this.#send(channel, pending);
    });
  }

  /** Waits until everything is confirmed, then ends; the caller bounds the wait by closing the connection. */
  async flush(): Promise<void> {
    if (this.#unconfirmed.size + this.#waiting.length === 0) return;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const pending of waiting)
      this.#settle(pending, new ClientClosedError(`${this.#fields.name}: closed before it was sent`));
    await this.#channel.close();
  }

  async #setUp(channel: ConfirmChannel): Promise<void> {
    channel.on('return', ({ fields, properties }) => {
      // A return carries no tag. It comes before the confirmation, and mostly for one of the oldest.
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

  /** What waited goes first. */
  #sendWaiting(channel: ConfirmChannel): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const pending of waiting) this.#send(channel, pending);
  }

  #send(channel: ConfirmChannel, pending: Pending): void {
    const { exchange, routingKey, body, options } = pending.publication;
    try {
      channel.publish(exchange, routingKey, body, options, (error: unknown) =>
        this.#confirmed(pending, error),
      );
      this.#unconfirmed.add(pending);
    } catch (error) {
      this.#settle(pending, this.#unsendable(error));
    }
  }

  #confirmed(pending: Pending, error: unknown): void {
    this.#unconfirmed.delete(pending);
    if (error !== null && error !== undefined) return this.#settle(pending, this.#refused(pending, error));
    this.#settle(
      pending,
      pending.isReturned
        ? new NoRouteError(`no queue takes what was sent to ${where(pending.publication)}`)
        : undefined,
    );
  }

  #settle(pending: Pending, error: Error | undefined): void {
    this.#bytes -= pending.publication.body.length;
    if (error === undefined) pending.resolve();
    else pending.reject(error);
    if (this.#unconfirmed.size + this.#waiting.length === 0) this.#onIdle?.();
  }

  #refused(pending: Pending, error: unknown): Error {
    if (messageOf(error) === 'message nacked') {
      return new PublishRejectedError(
        `the broker refused what was sent to ${where(pending.publication)}; a queue may be full`,
      );
    }
    const cause = this.#lost ?? error;
    if (
      replyCodeOf(cause) === replyCodes.notFound &&
      messageOf(cause).includes(`no exchange '${pending.publication.exchange}'`)
    ) {
      return new NoRouteError(`there is no exchange "${pending.publication.exchange}"`, { cause });
    }
    const why = `the channel was lost before what was sent to ${where(pending.publication)} was confirmed: ${messageOf(cause)}`;
    return new PublishUnconfirmedError(why, { cause });
  }

  #unsendable(error: unknown): Error {
    if (error instanceof IllegalOperationError) {
      return new PublishUnconfirmedError(`${this.#fields.name}: ${error.message}`, { cause: error });
    }
    return unwritable(error);
  }
}

/** For what the client throws at once where it cannot write a message. */
export function unwritable(error: unknown): Error {
  if (error instanceof RangeError)
    return new MessageTooLargeError(`the headers do not fit into a frame: ${error.message}`, {
      cause: error,
    });
  return new StorkConfigError(`a message cannot be written in AMQP: ${messageOf(error)}`, { cause: error });
}

function where({ exchange, routingKey }: Publication): string {
  return exchange === '' ? `the queue "${routingKey}"` : `"${exchange}" with the key "${routingKey}"`;
}
