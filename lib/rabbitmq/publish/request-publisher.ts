import type { ConsumeMessage } from 'amqplib';
import type { ReplyListener } from '../../core/port/driver.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import { directReplyQueue } from '../../driver-kit/queue/addressing.js';
import { inboundReply } from './messages.js';
import { Publisher, type PublisherFields } from './publisher.js';

/**
 * Creates the publisher of requests. Direct reply-to requires that the channel that publishes a request
 * consumes its reply. Other messages use another channel: their 404 would close this one and lose the
 * replies.
 *
 * @param transport for error messages
 */
export function createRequestPublisher(
  fields: PublisherFields,
  listener: ReplyListener,
  transport: string,
): Publisher {
  return new Publisher({
    ...fields,
    setup: async (channel) => {
      const onReply = (message: ConsumeMessage | null): void => {
        if (message !== null) listener.onReply(inboundReply(message));
      };
      await channel.consume(directReplyQueue, onReply, { noAck: true });
    },
    lost: (error) => {
      const message = `${transport}: the connection was lost, replies to pending requests cannot arrive`;
      listener.onLost(new ConnectionLostError(message, { cause: error }));
    },
  });
}
