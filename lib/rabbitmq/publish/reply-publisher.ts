import {
  messageOf,
  MessageTooLargeError,
  NoRouteError,
  PublishUnconfirmedError,
} from '../../core/runtime/errors.js';
import type { OutboundReply, ReplyOutcome } from '../../core/port/message.js';
import { directReplyQueue } from '../../driver-kit/queue/addressing.js';
import { isEncodingError, replyCodeOf, replyCodes } from '../connection/errors.js';
import { replyOptions } from './messages.js';
import type { Publication, Publisher } from './publisher.js';

type ReplyLine = Pick<Publisher, 'publish'>;

/** Addresses whose callers have received a reply, so that they are known not to be forged. */
const maxProvenAddresses = 10_000;

/**
 * Publishes replies. On a forged direct reply-to address RabbitMQ closes the whole connection, and neither
 * its shape nor a passive declare can tell beforehand. After the first loss of that kind, an address that
 * has received no reply yet gets its first one on another connection, where one reply is in flight at a
 * time: a forged address then delays only callers that are new too.
 */
export class ReplyPublisher {
  readonly #publisher: ReplyLine;
  readonly #openIsolated: () => Promise<ReplyLine>;
  readonly #provenAddresses = new Set<string>();
  #isolated: Promise<ReplyLine> | undefined;
  /** Settles when the last isolated reply has ended. */
  #lastIsolated: Promise<unknown> = Promise.resolve();

  /** @param openIsolated opens a publisher on a connection of its own */
  constructor(publisher: ReplyLine, openIsolated: () => Promise<ReplyLine>) {
    this.#publisher = publisher;
    this.#openIsolated = openIsolated;
  }

  /** @throws an error that a retry can fix, e.g. of a lost connection or of a full reply queue */
  async send(address: string, reply: OutboundReply): Promise<ReplyOutcome> {
    // RabbitMQ returns every mandatory publish to a direct reply-to address, delivered or not.
    const mandatory = !address.startsWith(directReplyQueue);
    const options = { ...replyOptions(reply), mandatory };
    const publication = { exchange: '', routingKey: address, body: reply.body, options };
    if (this.#isolated !== undefined && !this.#provenAddresses.has(address))
      return this.#sendIsolated(publication);
    try {
      await this.#publisher.publish(publication);
      this.#remember(address);
      return 'confirmed';
    } catch (error) {
      if (!(error instanceof PublishUnconfirmedError) || !isRefused(error)) return outcomeOrThrow(error);
    }
    // One of the replies that were in flight closed the channel or connection.
    return this.#sendIsolated(publication);
  }

  async #sendIsolated(publication: Publication): Promise<ReplyOutcome> {
    this.#isolated ??= this.#openIsolated().catch((error: unknown) => {
      this.#isolated = undefined;
      throw error;
    });
    const publisher = await this.#isolated;
    const attempt = this.#lastIsolated.then(() => publisher.publish(publication));
    this.#lastIsolated = attempt.catch(() => {});
    try {
      await attempt;
      this.#remember(publication.routingKey);
      return 'confirmed';
    } catch (error) {
      return outcomeOrThrow(error);
    }
  }

  #remember(address: string): void {
    this.#provenAddresses.add(address);
    if (this.#provenAddresses.size <= maxProvenAddresses) return;
    for (const oldest of this.#provenAddresses) return void this.#provenAddresses.delete(oldest);
  }
}

/** Reply codes with which RabbitMQ closes the channel or connection because of one reply. */
const refusalCodes: ReadonlySet<number | undefined> = new Set([
  replyCodes.internalError,
  replyCodes.notFound,
  replyCodes.accessRefused,
  replyCodes.preconditionFailed,
]);

function isRefused(error: Error): boolean {
  return refusalCodes.has(replyCodeOf(error.cause ?? error));
}

/** The error of a reply that was in flight alone: one that concerns this reply is final. */
function outcomeOrThrow(error: unknown): ReplyOutcome {
  if (error instanceof MessageTooLargeError) return 'too-large';
  if (error instanceof NoRouteError || isEncodingError(error)) return 'undeliverable';
  if (!(error instanceof Error)) throw new PublishUnconfirmedError(messageOf(error));
  if (!isRefused(error)) throw error;
  // The size is the only precondition of a publish that a reply can fail.
  return replyCodeOf(error.cause ?? error) === replyCodes.preconditionFailed ? 'too-large' : 'undeliverable';
}
