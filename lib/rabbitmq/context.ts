import type { ConsumeMessage } from 'amqplib';
import { timeText, type HeaderValue } from '../core/message/headers.js';
import { StorkConfigError } from '../core/runtime/errors.js';
import { StorkContext } from '../nest/context/stork.context.js';

/**
 * What remains of amqplib's channel in a handler: the calls that settle its message, as `ctx.ack()` and
 * `ctx.nack()` do. To publish, inject a client.
 *
 * @publicApi
 */
export interface RabbitMqChannelRef {
  /** Like `ctx.ack()`. */
  ack(message: ConsumeMessage, allUpTo?: boolean): void;
  /** Like `ctx.nack({ requeue })`. `requeue` defaults to true. */
  nack(message: ConsumeMessage, allUpTo?: boolean, requeue?: boolean): void;
  /** Like `ctx.nack({ requeue })`. `requeue` defaults to true. */
  reject(message: ConsumeMessage, requeue?: boolean): void;
}

/** The `@Ctx()` of handlers on a `rabbitmq()` transport. @publicApi */
export class RabbitMqContext extends StorkContext {
  /** The queue that the message was consumed from. */
  get queue(): string {
    return this.source;
  }

  /** The exchange that the message was published to; empty for the default exchange. */
  get exchange(): string {
    return this.raw.fields.exchange;
  }

  override get routingKey(): string {
    return this.raw.fields.routingKey;
  }

  /** amqplib's message. Do not ack it: stork does, and RabbitMQ closes the channel on a second ack. */
  override get raw(): ConsumeMessage {
    return this.args[0].raw as ConsumeMessage;
  }

  override header(name: string): string | undefined {
    const seconds = secondsOf(this.headers[name]);
    return seconds === undefined ? super.header(name) : timeText(seconds * 1_000);
  }

  override getMessage(): ConsumeMessage {
    return this.raw;
  }

  /**
   * Settles the message in code written for Nest's `RmqContext`: `getChannelRef().ack(getMessage())`. With
   * `@Consume({ delivery: 'manual' })` the message is acknowledged at once, otherwise when the handler has
   * ended.
   *
   * The calls throw a StorkConfigError for another message than the context's, and for `allUpTo`.
   */
  getChannelRef(): RabbitMqChannelRef {
    return {
      ack: (message, allUpTo) => {
        this.#checkSettled(message, allUpTo);
        this.ack();
      },
      nack: (message, allUpTo, requeue) => {
        this.#checkSettled(message, allUpTo);
        this.nack({ requeue });
      },
      reject: (message, requeue) => {
        this.#checkSettled(message);
        this.nack({ requeue });
      },
    };
  }

  #checkSettled(message: unknown, allUpTo = false): void {
    if (message !== this.raw)
      throw new StorkConfigError(
        'getChannelRef() of a context settles only its own message, the one of getMessage()',
      );
    if (allUpTo)
      throw new StorkConfigError('getChannelRef(): stork settles each message by itself; leave allUpTo out');
  }
}

/** amqplib decodes a timestamp in a header as `{ '!': 'timestamp', value: seconds }`. */
function secondsOf(header: HeaderValue): number | undefined {
  if (typeof header !== 'object' || header === null || !('!' in header)) return undefined;
  return header['!'] === 'timestamp' && typeof header['value'] === 'number' ? header['value'] : undefined;
}
