import type { ConsumeMessage } from 'amqplib';
import { StorkContext } from '../nest/context/stork.context.js';

/** The `@Ctx()` of handlers on a `rabbitmq()` transport. @publicApi */
export class RabbitMqContext extends StorkContext {
  /** The queue that the message was consumed from. */
  get queue(): string {
    return this.args[0].origin.source;
  }

  /** The exchange that the message was published to; empty for the default exchange. */
  get exchange(): string {
    return this.raw.fields.exchange;
  }

  get routingKey(): string {
    return this.raw.fields.routingKey;
  }

  /** amqplib's message. Do not ack it: stork does, and RabbitMQ closes the channel on a second ack. */
  override get raw(): ConsumeMessage {
    return this.args[0].raw as ConsumeMessage;
  }
}
