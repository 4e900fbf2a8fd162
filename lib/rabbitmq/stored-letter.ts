import { createHash } from 'node:crypto';
import type { ConsumeMessage } from 'amqplib';
import type { BrokerDeath, StoredLetter } from '../core/dead-letters.js';
import { headerNames, readText } from '../core/headers.js';
import type { InboundMessage } from '../core/message.js';
import { inboundMessage } from './messages.js';
import { readBrokerDeath } from './x-death.js';

/** A letter as it lies in the queue `box`. Total. */
export function storedLetter(message: ConsumeMessage, box: string, keyHeader: string): StoredLetter {
  const inbound = inboundMessage(message, box, keyHeader);
  const isOurs = readText(inbound.headers, headerNames.deathReason) !== undefined;
  const brokerDeath = isOurs ? undefined : readBrokerDeath(inbound.headers);
  return { id: idOf(inbound, brokerDeath), message: withKeyOf(brokerDeath, inbound), brokerDeath };
}

/** A queue has no places. Letters that say all the same have the same id. */
function idOf({ messageId, headers, body }: InboundMessage, brokerDeath: BrokerDeath | undefined): string {
  const handler = readText(headers, headerNames.handler);
  const failedAt = readText(headers, headerNames.failedAt) ?? brokerDeath?.at;
  return createHash('sha256')
    .update(JSON.stringify([messageId, handler, failedAt]))
    .update(body ?? '')
    .digest('hex')
    .slice(0, 16);
}

/** Where the broker has put a message away, its routing key is the name of the box. */
function withKeyOf(death: BrokerDeath | undefined, message: InboundMessage): InboundMessage {
  if (death?.routingKey === undefined) return message;
  return { ...message, patterns: [...message.patterns.slice(0, -1), death.routingKey] };
}
