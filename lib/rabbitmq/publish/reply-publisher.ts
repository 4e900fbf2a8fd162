import { messageOf, PublishUnconfirmedError, NoRouteError } from '../../core/runtime/errors.js';
import { directReplyQueue } from '../../driver-kit/queue/addressing.js';
import type { OutboundReply } from '../../core/port/message.js';
import { replyOptions } from './messages.js';
import { isUnsendable, type Publication, type Publisher } from './publisher.js';
import { replyCodeOf, replyCodes } from '../connection/errors.js';

/**
 * Sends answers on a connection of their own: a forged direct-reply address makes the broker close the whole connection. What was on
 * its way then is tried again alone, one by one; what closes the connection again is the culprit, and is dropped.
 */
export class Replies {
  readonly #publisher: Publisher;
  #quarantine: Promise<unknown> = Promise.resolve();
  #suspects = 0;

  constructor(publisher: Publisher) {
    this.#publisher = publisher;
  }

  async send(address: string, reply: OutboundReply): Promise<'confirmed' | 'undeliverable'> {
    // A direct reply is returned to us whether it was delivered or not: `mandatory` would tell nothing.
    const mandatory = !address.startsWith(directReplyQueue);
    const options = { ...replyOptions(reply), mandatory };
    const publication = { exchange: '', routingKey: address, body: reply.body, options };
    if (this.#suspects > 0) return this.#alone(publication);
    try {
      await this.#publisher.publish(publication);
      return 'confirmed';
    } catch (error) {
      if (error instanceof PublishUnconfirmedError) return this.#alone(publication);
      return undeliverableOr(error);
    }
  }

  async #alone(publication: Publication): Promise<'confirmed' | 'undeliverable'> {
    this.#suspects++;
    const attempt = this.#quarantine.then(() => this.#publisher.publish(publication));
    this.#quarantine = attempt.catch(() => {});
    try {
      await attempt;
      return 'confirmed';
    } catch (error) {
      return undeliverableOr(error);
    } finally {
      this.#suspects--;
    }
  }
}

const culprit: ReadonlySet<number | undefined> = new Set([
  replyCodes.internalError,
  replyCodes.notFound,
  replyCodes.accessRefused,
  replyCodes.preconditionFailed,
]);

/** Trying again helps where the broker went away, not where it refused this very reply. */
function undeliverableOr(error: unknown): 'undeliverable' {
  if (error instanceof NoRouteError || isUnsendable(error)) return 'undeliverable';
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (culprit.has(replyCodeOf(cause))) return 'undeliverable';
  throw error instanceof Error ? error : new PublishUnconfirmedError(messageOf(error));
}
