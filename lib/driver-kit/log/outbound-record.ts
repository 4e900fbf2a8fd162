import { headerNames, type HeaderValue } from '../../core/message/headers.js';
import type { MessageDestination, OutboundMessage } from '../../core/port/message.js';
import { StorkConfigError } from '../../core/runtime/errors.js';
import { outboundHeaders } from './log-record.js';
import type { TopicOptions } from './topic-selection.js';

// Where a message is published in a log, and what its record holds.

/** Options that say where a transport publishes. */
export interface TopicDestinations extends TopicOptions {
  readonly publishTo?: MessageDestination | undefined;
}

/**
 * The topic that a message is published to.
 *
 * @throws StorkConfigError if the transport reads several topics by a pattern header: the pattern is then
 * not a topic
 */
export function destinationOf(
  message: Pick<OutboundMessage, 'to' | 'pattern'>,
  { publishTo, topic, topics, patternHeader }: TopicDestinations,
): string {
  const to = message.to ?? publishTo;
  if (to !== undefined && 'topic' in to) return to.topic;
  if (topics !== undefined && patternHeader !== undefined) {
    const expected = '{ topic }, or publishTo on the transport: it reads several topics';
    throw new StorkConfigError([{ name: 'to', expected, given: 'undefined' }]);
  }
  return topic ?? message.pattern;
}

/** Headers and value of a message's record. */
export interface OutboundContent {
  readonly headers: Record<string, HeaderValue>;
  /** `null` is a tombstone. */
  readonly value: Buffer | null;
}

/** @param topic the message's destination */
export function outboundContent(
  message: OutboundMessage,
  topic: string,
  patternHeader: string | undefined,
): OutboundContent {
  // In a topic of another name the message would lose its pattern.
  const header = patternHeader ?? (topic === message.pattern ? undefined : headerNames.pattern);
  return {
    headers: outboundHeaders(message, header),
    value: isJsonNull(message) ? null : message.body,
  };
}

/**
 * A null value deletes the key from a compacted topic; a consumer that decodes it as JSON gets null as
 * well.
 */
function isJsonNull({ body, contentType }: OutboundMessage): boolean {
  return body?.length === 4 && contentType === 'application/json' && body.toString() === 'null';
}
