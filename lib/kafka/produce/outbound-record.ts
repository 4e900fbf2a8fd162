import { StorkConfigError } from '../../core/runtime/errors.js';
import { headerNames } from '../../core/message/headers.js';
import { outboundHeaders } from '../../driver-kit/log/log-record.js';
import type { OutboundMessage } from '../../core/port/message.js';
import type { RecordToSend } from '../client/client.js';
import type { KafkaOptions } from '../options/options.js';
import { headersToSend } from '../records.js';
import { nestBody } from '../wire.js';

/** To which topic a message goes. */
export function destinationOf(message: OutboundMessage, options: KafkaOptions): string {
  const { publishTo, topic, topics, patternHeader } = options;
  const to = message.to ?? publishTo;
  if (to !== undefined && 'topic' in to) return to.topic;
  if (topics !== undefined && patternHeader !== undefined) {
    const expected = '{ topic }, or publishTo on the transport: it reads several topics';
    throw new StorkConfigError([{ name: 'to', expected, given: 'undefined' }]);
  }
  return topic ?? message.pattern;
}

/** A message as it is written there. */
export function outboundRecord(
  message: OutboundMessage,
  topic: string,
  { patternHeader, wire }: KafkaOptions,
): RecordToSend {
  // Sent elsewhere than to its own topic, a message would lose its pattern.
  const header = patternHeader ?? (topic === message.pattern ? undefined : headerNames.pattern);
  const headers = outboundHeaders(message, header);
  let body = isJsonNull(message) ? null : message.body;
  if (wire === 'nest' && body !== null) {
    body = nestBody(body, message.contentType);
    delete headers[headerNames.contentType];
  }
  return {
    key: message.key ?? null,
    value: body,
    headers: headersToSend(headers),
    timestamp: message.timestamp,
  };
}

/** What deletes a key from a compacted topic; whoever reads it as JSON gets the same null. */
function isJsonNull({ body, contentType }: OutboundMessage): boolean {
  return body?.length === 4 && contentType === 'application/json' && body.toString() === 'null';
}
