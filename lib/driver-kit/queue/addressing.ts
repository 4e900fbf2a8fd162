import type { SubscribedPattern } from '../../core/port/driver.js';
import { NoRouteError, type ConfigProblem } from '../../core/runtime/errors.js';
import {
  type MessageDestination,
  type OutboundMessage,
  noReply,
  type ReplyTarget,
} from '../../core/port/message.js';

// Where the messages and answers of a queue transport go: the same on RabbitMQ and in memory.

/**
 * What a client consumes to be answered directly, and writes into a request: the broker puts an address in its place, this, a dot and
 * more, and refuses it from anybody else.
 */
export const directReplyQueue = 'amq.rabbitmq.reply-to';

export interface QueueAddress {
  /** `''`: the exchange that leads to the queue of the routing key's name. */
  readonly exchange: string;
  readonly routingKey: string;
}

/** What a transport's options say of where it sends. */
export interface QueueDestinations {
  readonly queue?: string | undefined;
  readonly exchange?: { readonly name: string; readonly type: string } | undefined;
  readonly publishTo?: MessageDestination | undefined;
}

/** @throws NoRouteError for a topic */
export function queueAddress(
  { to, pattern }: Pick<OutboundMessage, 'to' | 'pattern'>,
  { queue, exchange, publishTo }: QueueDestinations,
): QueueAddress {
  const own: MessageDestination =
    exchange === undefined ? { queue: queue ?? '' } : { exchange: exchange.name };
  const where = to ?? publishTo ?? own;
  if ('queue' in where) return { exchange: '', routingKey: where.queue };
  if ('exchange' in where) return { exchange: where.exchange, routingKey: where.routingKey ?? pattern };
  throw new NoRouteError(`a queue transport cannot send to the topic "${where.topic}"`);
}

/** Names that only the broker gives: an address of that form was made for one client that waits there. */
export function isServerNamed(address: string): boolean {
  return (
    address.length <= 255 && (address.startsWith(`${directReplyQueue}.`) || address.startsWith('amq.gen-'))
  );
}

/** @param replyQueues queues of fixed names that answers may be sent to */
export function replyTarget(address: unknown, replyQueues: readonly string[] = []): ReplyTarget {
  if (typeof address !== 'string' || address === '') return noReply;
  if (isServerNamed(address) || replyQueues.includes(address)) return { kind: 'address', address };
  const shown = JSON.stringify(address.slice(0, 100));
  return {
    kind: 'forged',
    why: `${shown} is not a reply address; a named queue must be on the transport's replyQueues`,
  };
}

/** Patterns that no binding of the exchange stands for. A fanout exchange sends everything anyway, and without one nothing is bound. */
export function validateBindable(
  patterns: readonly SubscribedPattern[],
  exchange: QueueDestinations['exchange'],
  transport: string,
): readonly ConfigProblem[] {
  if (exchange === undefined || exchange.type === 'fanout') return [];
  return patterns
    .filter(({ kind }) => kind === 'regexp' || (kind === 'wildcard' && exchange.type !== 'topic'))
    .map(({ text }) => ({
      name: `pattern ${text} on the transport ${JSON.stringify(transport)}`,
      expected: `a pattern that can be bound to a ${exchange.type} exchange; or via() another transport, or no exchange`,
      given: text,
    }));
}
