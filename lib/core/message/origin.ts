import { headerNames, readText, timeText, type HeaderValue } from './headers.js';
import type { InboundMessage, Origin } from '../port/message.js';

/** As much as is known of it. */
type PartialOrigin = { readonly [Name in keyof Origin]: Origin[Name] | undefined } & Pick<Origin, 'source'>;

/** Writes a header, or takes it away where there is nothing to say: ours are overwritten, never appended. */
export function setterOf(
  headers: Record<string, HeaderValue>,
): (name: string, text: string | undefined) => void {
  return (name, text) => {
    if (text === undefined) delete headers[name];
    else headers[name] = text;
  };
}

/** The origin is written at the first republish and never changed: a replay must find the first source. */
export function writeOrigin(
  headers: Record<string, HeaderValue>,
  { origin, timestamp }: Pick<InboundMessage, 'timestamp'> & { readonly origin: PartialOrigin },
): void {
  if (headers[headerNames.origin] !== undefined) return;
  const set = setterOf(headers);
  set(headerNames.origin, origin.source);
  set(headerNames.originExchange, origin.exchange);
  set(headerNames.originRoutingKey, origin.routingKey);
  set(headerNames.originPartition, origin.partition?.toString());
  set(headerNames.originOffset, origin.offset);
  set(headerNames.originTimestamp, timestamp === undefined ? undefined : timeText(timestamp));
}

/**
 * The same for a letter. One that names another source than it was consumed from was moved, or claims it, and would not be found among the
 * letters of either; but where letters are read, theirs is the first.
 */
export function writeDeadLetterOrigin(headers: Record<string, HeaderValue>, message: InboundMessage): void {
  const { source } = message.origin;
  if (readText(headers, headerNames.origin) !== source && !source.endsWith('.dlq'))
    delete headers[headerNames.origin];
  writeOrigin(headers, message);
}
