import type { StorkClock } from '../../core/runtime/clock.js';
import {
  MessageTooLargeError,
  NoRouteError,
  PublishRejectedError,
  StorkConfigError,
} from '../../core/runtime/errors.js';
import {
  missingReplyTopic,
  nestReplyHeaders,
  replyHeaders,
  replyTargetOf,
} from '../../driver-kit/log/log-reply.js';
import { replyValue } from '../../driver-kit/log/reply-record.js';
import type { LogReplyAddress } from '../../driver-kit/log/log-record.js';
import type {
  InboundMessage,
  ReplyAddress,
  OutboundReply,
  ReplyOutcome,
  ReplyTarget,
} from '../../core/port/message.js';
import type { KafkaOptions } from '../options/options.js';
import type { Producer } from '../produce/producer.js';
import { headersToSend } from '../records.js';
import type { TopicMetadataCache } from '../produce/topic-metadata-cache.js';
import { isNestRequest, nestBody } from '../wire.js';

export interface ReplySenderFields {
  readonly options: Pick<KafkaOptions, 'replyTopics' | 'wire'>;
  readonly topics: TopicMetadataCache;
  readonly producer: Producer;
  readonly clock: StorkClock;
  /** Whether this transport consumes a topic: a reply there would be handled as a message. */
  readonly isConsumed: (topic: string) => boolean;
}

/** A reply address, and whether its caller is a client of Nest's own Kafka transport. */
interface KafkaReplyAddress extends LogReplyAddress {
  readonly isNest?: boolean;
}

/**
 * The server side of request-reply: validates the reply address of a request and publishes replies to it.
 */
export class ReplySender {
  readonly #fields: ReplySenderFields;

  constructor(fields: ReplySenderFields) {
    this.#fields = fields;
  }

  targetOf(message: InboundMessage): ReplyTarget | Promise<ReplyTarget> {
    const { options, topics, isConsumed } = this.#fields;
    const { replyTopics = [], wire = 'auto' } = options;
    const target = replyTargetOf(message.headers, replyTopics, isConsumed);
    const { topic } = target;
    if (target.kind !== 'address' || topic === undefined) return target;
    const isNest = wire === 'nest' || (wire === 'auto' && isNestRequest(message.headers));
    const address: KafkaReplyAddress = { ...(target.address as LogReplyAddress), isNest };
    const found: ReplyTarget = { kind: 'address', address };
    if (topics.cachedPartitionCount(topic) !== undefined) return found;
    // Without metadata the topic counts as existing; the publish of the reply then fails if it does not.
    return topics.exists(topic).then(
      (exists) => (exists ? found : missingReplyTopic(topic)),
      () => found,
    );
  }

  async send(to: ReplyAddress, reply: OutboundReply): Promise<ReplyOutcome> {
    const { producer, clock } = this.#fields;
    const { topic, partition, isNest = false } = to as KafkaReplyAddress;
    const record = {
      key: null,
      value: valueOf(reply, isNest),
      headers: headersToSend(isNest ? nestReplyHeaders(reply) : replyHeaders(reply)),
      timestamp: clock.now(),
    };
    try {
      await producer.publish(topic, record, { partition });
      return 'confirmed';
    } catch (error) {
      if (error instanceof MessageTooLargeError) return 'too-large';
      if (canNeverBeSent(error)) return 'undeliverable';
      throw error;
    }
  }
}

/**
 * The caller chooses the reply topic. An error that no retry can help must not redeliver the request, or
 * its handler would run again and again.
 */
function canNeverBeSent(error: unknown): boolean {
  const kinds = [NoRouteError, PublishRejectedError, StorkConfigError];
  return kinds.some((kind) => error instanceof kind);
}

function valueOf(reply: OutboundReply, isNest: boolean): Buffer | null {
  const value = replyValue(reply);
  return isNest && value !== null ? nestBody(value, reply.contentType) : value;
}
