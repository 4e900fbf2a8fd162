import type { SubscribedPattern } from '../../core/port/driver.js';
import { NoRouteError, type ConfigProblem } from '../../core/runtime/errors.js';
import {
  type MessageDestination,
  type OutboundMessage,
  noReply,
  type ReplyTarget,
} from '../../core/port/message.js';

// Destinations of messages and replies on RabbitMQ and in the memory queue broker.

/**
 * RabbitMQ's direct reply-to pseudo-queue. A client consumes from it and names it as `replyTo` of a
 * request. The broker replaces the name with an address that begins with `amq.rabbitmq.reply-to.`, and
 * rejects a publish with the plain name from any other channel.
 */
export const directReplyQueue = 'amq.rabbitmq.reply-to';

export interface QueueAddress {
  /** `''` is the default exchange: it routes to the queue whose name is the routing key. */
  readonly exchange: string;
  readonly routingKey: string;
}

/** Destinations in a transport's options. */
export interface QueueDestinations {
  readonly queue?: string | undefined;
  readonly exchange?: { readonly name: string; readonly type: string } | undefined;
  readonly publishTo?: MessageDestination | undefined;
}

/** @throws NoRouteError if the destination is a topic */
export function queueAddress(
  { to, pattern }: Pick<OutboundMessage, 'to' | 'pattern'>,
  { queue, exchange, publishTo }: QueueDestinations,
): QueueAddress {
  const own: MessageDestination =
    exchange === undefined ? { queue: queue ?? '' } : { exchange: exchange.name };
  const destination = to ?? publishTo ?? own;
  if ('queue' in destination) return { exchange: '', routingKey: destination.queue };
  if ('exchange' in destination)
    return { exchange: destination.exchange, routingKey: destination.routingKey ?? pattern };
  throw new NoRouteError(`a queue transport cannot send to the topic "${destination.topic}"`);
}

/** Name of the exchange, or of the queue behind the default exchange. */
export function destinationName({ exchange, routingKey }: QueueAddress): string {
  return exchange === '' ? routingKey : exchange;
}

/** Whether the broker has generated the name, for the reply queue of one client. */
export function isServerNamed(address: string): boolean {
  return (
    address.length <= 255 && (address.startsWith(`${directReplyQueue}.`) || address.startsWith('amq.gen-'))
  );
}

/** @param replyQueues queues with fixed names that replies may be sent to */
export function replyTarget(address: unknown, replyQueues: readonly string[] = []): ReplyTarget {
  if (typeof address !== 'string' || address === '') return noReply;
  if (isServerNamed(address) || replyQueues.includes(address)) return { kind: 'address', address };
  const shown = JSON.stringify(address.slice(0, 100));
  return {
    kind: 'forged',
    why: `${shown} is not a reply address; a named queue must be on the transport's replyQueues`,
  };
}

/**
 * Patterns that cannot be a binding of the exchange. A fanout exchange ignores routing keys; without an
 * exchange, nothing is bound.
 */
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
