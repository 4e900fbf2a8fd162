import { hostname } from 'node:os';
import { stackOf } from './errors.js';
import { copyHeaders, headerNames, timeText } from './headers.js';
import { cutToBytes } from './text.js';
/** What is told of an error, so that it fits beside a message's own headers into one frame of 128 KiB or one Kafka header set. */
const maxNameBytes = 256;
const maxMessageBytes = 1_024;
const maxStackBytes = 4_096;
const host = hostname();
/** The copy that goes to the dead letter queue or topic: the message's own headers, ours written over them. */
export function deadLetterCopy(message, death) {
  const headers = copyHeaders(message.headers);
  const set = (name, text) => {
    if (text === undefined) delete headers[name];
    else headers[name] = text;
  };
  writeOrigin(headers[headerNames.origin] === undefined, message, set);
  const { reason, envelope, error } = death.failure;
  set(headerNames.deathReason, reason);
  set(headerNames.failedAt, timeText(death.failedAt));
  set(headerNames.firstFailedAt, timeText(death.firstFailedAt ?? death.failedAt));
  set(headerNames.attempt, String(death.attempt));
  set(headerNames.handler, death.handlerId);
  set(headerNames.errorName, cutToBytes(envelope.name, maxNameBytes));
  set(headerNames.errorMessage, cutToBytes(envelope.message, maxMessageBytes));
  const stack = stackOf(error);
  set(headerNames.errorStack, stack === undefined ? undefined : cutToBytes(stack, maxStackBytes));
  set(headerNames.consumer, `${host}/${process.pid}/${death.subscription}`);
  return { to: 'dead-letter', headers };
}
/** The origin is written at the first republish and never changed: a replay must find the first source. */
function writeOrigin(first, message, set) {
  if (!first) return;
  const origin = message.origin;
  set(headerNames.origin, origin.source);
  set(headerNames.originExchange, origin.exchange);
  set(headerNames.originRoutingKey, origin.routingKey);
  set(headerNames.originPartition, origin.partition?.toString());
  set(headerNames.originOffset, origin.offset);
  set(headerNames.originTimestamp, message.timestamp === undefined ? undefined : timeText(message.timestamp));
}
