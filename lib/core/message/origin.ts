import { headerNames, readText, timeText, type HeaderValue } from './headers.js';
import type { InboundMessage, Origin } from '../port/message.js';

/** Origin of a message; only the source is always known. */
type PartialOrigin = { readonly [Name in keyof Origin]: Origin[Name] | undefined } & Pick<Origin, 'source'>;

/** Returns a function that overwrites a header, or deletes it if the text is undefined. */
export function headerSetter(
  headers: Record<string, HeaderValue>,
): (name: string, text: string | undefined) => void {
  return (name, text) => {
    if (text === undefined) delete headers[name];
    else headers[name] = text;
  };
}

/**
 * Written when a message is first republished and never changed, because a replay goes to the first source.
 */
export function writeOrigin(
  headers: Record<string, HeaderValue>,
  { origin, timestamp }: Pick<InboundMessage, 'timestamp'> & { readonly origin: PartialOrigin },
): void {
  if (headers[headerNames.origin] !== undefined) return;
  const set = headerSetter(headers);
  set(headerNames.origin, origin.source);
  set(headerNames.originExchange, origin.exchange);
  set(headerNames.originRoutingKey, origin.routingKey);
  set(headerNames.originPartition, origin.partition?.toString());
  set(headerNames.originOffset, origin.offset);
  set(headerNames.originTimestamp, timestamp === undefined ? undefined : timeText(timestamp));
}

/**
 * Like `writeOrigin`, for a dead letter. An origin header that names another source than the one that was
 * consumed is replaced: the message was moved, or the header is forged, and the dead letter would be listed
 * under neither source. The origin is kept if the consumed source is itself a dead letter queue or topic.
 */
export function writeDeadLetterOrigin(headers: Record<string, HeaderValue>, message: InboundMessage): void {
  const { source } = message.origin;
  if (readText(headers, headerNames.origin) !== source && !source.endsWith('.dlq'))
    delete headers[headerNames.origin];
  writeOrigin(headers, message);
}
