import { messageOf, PublishUnconfirmedError, NoRouteError } from '../../core/runtime/errors.js';
import { directReplyQueue } from '../../driver-kit/queue/addressing.js';
import type { OutboundReply } from '../../core/port/message.js';
import { isEncodingError, replyCodeOf, replyCodes } from '../connection/errors.js';
import { replyOptions } from './messages.js';
import type { Publication, Publisher } from './publisher.js';

/**
 * Publishes replies, on a connection of their own: on a forged direct reply-to address RabbitMQ closes the
 * whole connection. Replies that were unconfirmed at that moment are retried serially. The poison reply
 * closes the connection again while it is the only one in flight, and is dropped.
 */
export class ReplyPublisher {
  readonly #publisher: Publisher;
  /** Settles when the last serial retry has ended. */
  #serialRetries: Promise<unknown> = Promise.resolve();
  #serialRetryCount = 0;

  constructor(publisher: Publisher) {
    this.#publisher = publisher;
  }

  async send(address: string, reply: OutboundReply): Promise<'confirmed' | 'undeliverable'> {
    // RabbitMQ returns every mandatory publish to a direct reply-to address, delivered or not.
    const mandatory = !address.startsWith(directReplyQueue);
    const options = { ...replyOptions(reply), mandatory };
    const publication = { exchange: '', routingKey: address, body: reply.body, options };
    if (this.#serialRetryCount > 0) return this.#retrySerially(publication);
    try {
      await this.#publisher.publish(publication);
      return 'confirmed';
    } catch (error) {
      if (error instanceof PublishUnconfirmedError) return this.#retrySerially(publication);
      return undeliverableOrThrow(error);
    }
  }

  async #retrySerially(publication: Publication): Promise<'confirmed' | 'undeliverable'> {
    this.#serialRetryCount++;
    const attempt = this.#serialRetries.then(() => this.#publisher.publish(publication));
    this.#serialRetries = attempt.catch(() => {});
    try {
      await attempt;
      return 'confirmed';
    } catch (error) {
      return undeliverableOrThrow(error);
    } finally {
      this.#serialRetryCount--;
    }
  }
}

/** Reply codes with which RabbitMQ closes the channel or connection because of a poison reply. */
const poisonReplyCodes: ReadonlySet<number | undefined> = new Set([
  replyCodes.internalError,
  replyCodes.notFound,
  replyCodes.accessRefused,
  replyCodes.preconditionFailed,
]);

/** Rethrows an error that a retry can fix, e.g. a lost connection. An error of this very reply is final. */
function undeliverableOrThrow(error: unknown): 'undeliverable' {
  if (error instanceof NoRouteError || isEncodingError(error)) return 'undeliverable';
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (poisonReplyCodes.has(replyCodeOf(cause))) return 'undeliverable';
  throw error instanceof Error ? error : new PublishUnconfirmedError(messageOf(error));
}
