import type { StorkClock } from '../../core/runtime/clock.js';
import {
  MessageTooLargeError,
  NoRouteError,
  PublishRejectedError,
  StorkConfigError,
} from '../../core/runtime/errors.js';
import { missingReplyTopic, replyHeaders, replyTargetOf } from '../../driver-kit/log/log-reply.js';
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

/** What it takes to answer requests. */
export interface ReplySenderFields {
  readonly options: Pick<KafkaOptions, 'replyTopics' | 'wire'>;
  readonly topics: TopicMetadataCache;
  readonly producer: Producer;
  readonly clock: StorkClock;
  /** Whether we read that topic ourselves: then it is no place for replies. */
  readonly isConsumed: (topic: string) => boolean;
}

/** A reply address, and whether whoever waits there is a client of Nest's own transport. */
interface KafkaReplyAddress extends LogReplyAddress {
  readonly isNest?: boolean;
}

/** The answering side of requests: whether a request says where its reply may go, and sending it there. */
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
    if (topics.known(topic) !== undefined) return found;
    // Where the broker cannot be asked, sending the reply will tell.
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
      value: bodyOf(reply, isNest),
      headers: headersToSend(replyHeaders(reply)),
      timestamp: clock.now(),
    };
    try {
      await producer.publish(topic, record, partition);
      return 'confirmed';
    } catch (error) {
      if (error instanceof MessageTooLargeError) return 'too-large';
      if (canNeverBeSent(error)) return 'undeliverable';
      throw error;
    }
  }
}

/** A sender chooses where its answer goes: what can never be written there must not run its handler again and again. */
function canNeverBeSent(error: unknown): boolean {
  const kinds = [NoRouteError, PublishRejectedError, StorkConfigError];
  return kinds.some((kind) => error instanceof kind);
}

function bodyOf({ body, contentType, kind }: OutboundReply, isNest: boolean): Buffer | null {
  // Nest's clients take a body as one value more.
  if (kind === 'end') return null;
  return isNest ? nestBody(body, contentType) : body;
}
