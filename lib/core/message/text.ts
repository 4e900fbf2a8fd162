import { messageOf, nameOf } from '../runtime/errors.js';
import { ignoreRejection } from '../runtime/user-hooks.js';

const truncationMark = '…';

/**
 * Truncates text to at most `maxBytes` bytes of UTF-8, at a character boundary, and appends `…` if anything
 * was cut. Removes null characters, which some brokers and clients reject in headers.
 */
export function cutToBytes(text: string, maxBytes: number): string {
  const clean = text.replaceAll('\0', '');
  if (clean.length <= maxBytes && Buffer.byteLength(clean) <= maxBytes) return clean;
  const maxContentBytes = maxBytes - Buffer.byteLength(truncationMark);
  // Each character has at least one byte, so more than maxBytes characters cannot fit.
  const bytes = Buffer.from(clean.slice(0, maxBytes + 1));
  let end = Math.min(maxContentBytes, bytes.length);
  // Bytes of the form 10xxxxxx continue a character: step back to its first byte.
  while (end > 0 && end < bytes.length && (bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.toString('utf8', 0, end) + truncationMark;
}

/** Text of a message as a log line may show it: quoted and shortened. */
export function quoted(text: string | undefined): string {
  return text === undefined ? 'without' : JSON.stringify(text.slice(0, 300));
}

/** Facts of an attempt that its log lines begin with. */
interface DescribedAttempt {
  readonly subscription: string;
  readonly handler: { readonly id: string };
  readonly delivery: { readonly message: { readonly messageId: string | undefined } };
  readonly pattern: string;
  readonly number: number;
  readonly maxAttempts: number;
}

export function describeAttempt(attempt: DescribedAttempt): string {
  const { subscription, handler, delivery, pattern, number, maxAttempts } = attempt;
  return (
    `${subscription}: handler ${quoted(handler.id)}, message ${quoted(delivery.message.messageId)}, ` +
    `pattern ${quoted(pattern)}, attempt ${number} of ${maxAttempts}`
  );
}

/** A user's function that removes sensitive data. */
type Redact = (text: string) => string;

interface DescribedFailure {
  readonly name: string;
  readonly message: string;
  readonly filtered?: { readonly error: unknown } | undefined;
}

/** The error of a failed attempt, and what the layer above made of the error, as a log line may show them. */
export function describeError({ name, message, filtered }: DescribedFailure, redact?: Redact): string {
  const error = `${name}: ${message}`;
  const text =
    filtered === undefined ? error : `${error}; its exception filter gave ${describeThrown(filtered)}`;
  return redacted(text, redact);
}

export function describeThrown({ error }: { readonly error: unknown }): string {
  return `${nameOf(error)}: ${messageOf(error)}`;
}

/** If `redact` fails, the text is not shown at all. */
export function redacted(text: string, redact: Redact | undefined): string {
  if (redact === undefined) return text;
  try {
    const redactedText: unknown = redact(text);
    ignoreRejection(redactedText);
    return typeof redactedText === 'string' ? redactedText : '(redacted)';
  } catch {
    return '(redacted)';
  }
}

/** A value as an error message may show it: shortened, and without the credentials of a URL. */
export function printable(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(maskAll(value).slice(0, 100));
  if (value === undefined || value === null) return String(value);
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object') return Array.isArray(value) ? `an array of ${value.length}` : 'an object';
  if (typeof value === 'symbol') return 'a symbol';
  return `${(value as number | bigint | boolean).toString()} (${typeof value})`;
}

/** Of one value, with the white space in it: a password that was read from a file ends with a line break. */
function maskAll(text: string): string {
  return text.replace(/\/\/[^]*@/g, '//***@');
}

/**
 * The address of a URL for logs and errors: its scheme, host, port and path, without user, password and
 * query. An `@` behind the host belongs to a password with an unescaped `/`, `?` or `#`: only the scheme is
 * shown.
 */
export function shownAddress(url: string): string {
  if (!URL.canParse(url)) return maskAll(url).replace(/\?[^]*$/, '');
  const { protocol, host, pathname, search, hash } = new URL(url);
  return (pathname + search + hash).includes('@') ? `${protocol}//***` : `${protocol}//${host}${pathname}`;
}

/** `scheme://user:secret@host` → `scheme://***@host`. */
export function maskCredentials(text: string): string {
  // Up to the last @, because passwords in URLs may contain an unescaped @ or /.
  return text.replace(/\/\/\S*@/g, '//***@');
}
