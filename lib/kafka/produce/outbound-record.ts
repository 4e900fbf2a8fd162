import { headerNames } from '../../core/message/headers.js';
import type { OutboundMessage } from '../../core/port/message.js';
import { outboundContent } from '../../driver-kit/log/outbound-record.js';
import type { RecordToSend } from '../client/client.js';
import type { KafkaOptions } from '../options/options.js';
import { headersToSend } from '../records.js';
import { nestBody } from '../wire.js';

/** The record of a message, in the format of Nest's own transport where `wire` is `nest`. */
export function outboundRecord(
  message: OutboundMessage,
  topic: string,
  { patternHeader, wire }: KafkaOptions,
): RecordToSend {
  const { headers, value } = outboundContent(message, topic, patternHeader);
  const isNest = wire === 'nest' && value !== null;
  if (isNest) delete headers[headerNames.contentType];
  return {
    key: message.key ?? null,
    value: isNest ? nestBody(value, message.contentType) : value,
    headers: headersToSend(headers),
    timestamp: message.timestamp,
  };
}
