import type { ConsumeMessage } from 'amqplib';
import { StorkContext } from '../nest/context/stork.context.js';

/** What a handler on a `rabbitmq()` transport gets by `@Ctx()`. @publicApi */
export class RabbitMqContext extends StorkContext {
  /** The queue that it was consumed from. */
  get queue(): string {
    return this.args[0].origin.source;
  }

  /** The exchange that it was published to; empty for the default one. */
  get exchange(): string {
    return this.raw.fields.exchange;
  }

  get routingKey(): string {
    return this.raw.fields.routingKey;
  }

  /** amqplib's own object. The library settles it: acknowledging it by hand closes the channel. */
  override get raw(): ConsumeMessage {
    return this.args[0].raw as ConsumeMessage;
  }
}
