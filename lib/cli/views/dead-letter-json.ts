import { isBytes, type HeaderValue } from '../../core/message/headers.js';
import type { DeadLetterRecord } from '../../core/dead-letter/admin/dead-letter-record.js';
import { safeJson } from './safe-text.js';

/** Bytes that are not UTF-8. */
interface Base64 {
  readonly base64: string;
}

type Json = string | number | boolean | null | Base64 | readonly Json[] | { readonly [name: string]: Json };

/** Headers nest less deeply; JSON.stringify can still write this depth. */
const maxDepth = 100;

/** A dead letter as `--json` prints it: with every field, `null` if it is unknown. */
export function deadLetterJson(deadLetter: DeadLetterRecord): Readonly<Record<string, unknown>> {
  const fields = Object.entries(deadLetter).map(
    ([name, value]) => [name, (value as unknown) ?? null] as const,
  );
  return {
    ...Object.fromEntries(fields),
    error:
      deadLetter.error === undefined ? null : { ...deadLetter.error, stack: deadLetter.error.stack ?? null },
    body: deadLetter.body === null ? null : bytesJson(deadLetter.body),
    headers: headerJson(deadLetter.headers),
  };
}

/** One line. */
export function jsonLine(value: unknown): string {
  return `${safeJson(JSON.stringify(value))}\n`;
}

/** The text, if the bytes are valid UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function bytesJson(bytes: Uint8Array): string | Base64 {
  return textOf(bytes) ?? { base64: Buffer.from(bytes).toString('base64') };
}

function headerJson(value: HeaderValue, depth = 0): Json {
  if (value === undefined || value === null) return null;
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (typeof value !== 'object') return value;
  if (isBytes(value)) return bytesJson(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (depth >= maxDepth) return '…';
  if (Array.isArray(value)) return (value as readonly HeaderValue[]).map((one) => headerJson(one, depth + 1));
  // Entries, so that a header named `__proto__` is only a header.
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, headerJson(one, depth + 1)]));
}
