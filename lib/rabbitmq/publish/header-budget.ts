import {
  emptyHeaders,
  headerNames,
  type HeaderValue,
  type MessageHeaders,
} from '../../core/message/headers.js';
import { cutToBytes } from '../../core/message/text.js';
import { encodableHeader } from './header-values.js';

// What a republished message keeps of its headers. A copy that amqplib cannot encode would never leave its
// source queue.

/**
 * amqplib encodes the headers of a message in a buffer of 64 KiB. The difference is a reserve: RabbitMQ adds
 * headers of its own.
 */
const maxHeaderBytes = 60 * 1024;
const maxOwnBytes = 1_024;
const maxStackBytes = 4_096;

const ownNames: ReadonlySet<string> = new Set(Object.values(headerNames));

/**
 * The headers that amqplib can encode, up to 60 KiB. The longest ones are left out first; of stork's own
 * headers that are longer than stork writes them, only their beginning is kept.
 */
export function fitHeaders(headers: MessageHeaders): Record<string, HeaderValue> {
  const sizes: { readonly name: string; readonly bytes: number }[] = [];
  const fitting = emptyHeaders();
  let total = 0;
  for (const name of Object.keys(headers)) {
    const encodable = encodableHeader(name, headers[name]);
    if (encodable === undefined) continue;
    fitting[name] = encodable.value;
    sizes.push({ name, bytes: encodable.bytes });
    total += encodable.bytes;
  }
  for (const { name, bytes } of sizes.toSorted((a, b) => b.bytes - a.bytes)) {
    if (total <= maxHeaderBytes) break;
    const own = encodableHeader(name, ownText(headers, name));
    if (own === undefined) delete fitting[name];
    else fitting[name] = own.value;
    total -= bytes - (own?.bytes ?? 0);
  }
  return fitting;
}

/** Only stork's own headers, which are text. All of them together fit. */
export function ownHeaders(headers: MessageHeaders): Record<string, HeaderValue> {
  const own = emptyHeaders();
  for (const name of Object.keys(headers)) {
    const text = ownText(headers, name);
    if (text !== undefined) own[name] = text;
  }
  return own;
}

function ownText(headers: MessageHeaders, name: string): string | undefined {
  const value = headers[name];
  if (typeof value !== 'string' || !ownNames.has(name)) return undefined;
  return cutToBytes(value, name === headerNames.errorStack ? maxStackBytes : maxOwnBytes);
}
