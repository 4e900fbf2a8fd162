const truncationMark = '…';

/** Cuts text to at most `maxBytes` of UTF-8, at a character, and shows that it was cut. Null characters, which AMQP peers choke on, go. */
export function cutToBytes(text: string, maxBytes: number): string {
  const clean = text.replaceAll('\0', '');
  if (clean.length <= maxBytes && Buffer.byteLength(clean) <= maxBytes) return clean;
  const maxContentBytes = maxBytes - Buffer.byteLength(truncationMark);
  // More than maxBytes characters are never needed: each has at least one byte.
  const bytes = Buffer.from(clean.slice(0, maxBytes + 1));
  let end = Math.min(maxContentBytes, bytes.length);
  // 10xxxxxx continues a character: step back to where it begins.
  while (end > 0 && end < bytes.length && (bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.toString('utf8', 0, end) + truncationMark;
}

/** Text from the wire as a line of ours may show it. */
export function quoted(text: string | undefined): string {
  return text === undefined ? 'without' : JSON.stringify(text.slice(0, 300));
}

/** A value as an error message may show it: short, and without the password of a URL. */
export function printable(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(maskCredentials(value).slice(0, 100));
  if (value === undefined || value === null) return String(value);
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object') return Array.isArray(value) ? `an array of ${value.length}` : 'an object';
  if (typeof value === 'symbol') return 'a symbol';
  return `${(value as number | bigint | boolean).toString()} (${typeof value})`;
}

/** `amqp://user:secret@host` → `amqp://***@host`. */
export function maskCredentials(text: string): string {
  // Up to the last @: people write passwords with @ and / into URLs.
  return text.replace(/\/\/\S*@/g, '//***@');
}
