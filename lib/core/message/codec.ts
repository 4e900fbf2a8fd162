import { isUtf8 } from 'node:buffer';
import type { StorkClock } from '../runtime/clock.js';
import { messageOf, nameOf } from '../runtime/errors.js';
import { isThenable, withTimeout } from '../runtime/with-timeout.js';
import type { MessageHeaders } from './headers.js';

/** The message or reply whose body a codec encodes or decodes. @publicApi */
export interface CodecContext {
  readonly direction: 'inbound' | 'outbound';
  /** The pattern of the message; of a reply, the pattern of its request. */
  readonly pattern: string;
  /** The queue, exchange or topic that the message is read from or published to. Undefined for a reply. */
  readonly destination: string | undefined;
  readonly headers: MessageHeaders;
}

/**
 * Encodes and decodes the bodies of one content type. Either method may return a promise, which must settle
 * within 30 s. Publishes keep the order of the calls, so a slow asynchronous `encode` delays later publishes
 * of its transport.
 *
 * @publicApi
 */
export interface MessageCodec {
  /** In lower case and without parameters, e.g. `application/x-protobuf`. */
  readonly contentType: string;
  /** Throws or rejects if the value cannot be encoded. */
  encode(value: unknown, context: CodecContext): Uint8Array | Promise<Uint8Array>;
  /**
   * Throws or rejects if the bytes cannot be decoded. The message is then dead-lettered as `undecodable`.
   *
   * @returns the value or a promise of it
   */
  decode(body: Buffer, context: CodecContext): unknown;
}

/** How long a codec may take. A codec that never answers would occupy its concurrency slot for ever. */
const codecTimeoutMs = 30_000;

const byteOrderMark = '\uFEFF';

/** Synchronous, and without a context. */
interface BuiltInCodec extends MessageCodec {
  encode(value: unknown): Uint8Array;
  decode(body: Buffer): unknown;
}

const jsonCodec: BuiltInCodec = {
  contentType: 'application/json',
  encode(value) {
    const text: unknown = JSON.stringify(value ?? null);
    if (typeof text !== 'string') throw new TypeError(`application/json carries no ${typeof value}`);
    return Buffer.from(text);
  },
  decode: readJsonText,
};

function readJsonText(body: Buffer): unknown {
  if (body.length === 0) return undefined;
  const text = readUtf8(body);
  const problem = findUnsafeJson(body, text);
  if (problem !== undefined) throw new SyntaxError(problem);
  return JSON.parse(text) as unknown;
}

const textCodec: BuiltInCodec = {
  contentType: 'text/plain',
  encode(value) {
    if (typeof value !== 'string') throw new TypeError(`text/plain carries a string, given ${typeof value}`);
    return Buffer.from(value);
  },
  decode: readUtf8,
};

const bytesCodec: BuiltInCodec = {
  contentType: 'application/octet-stream',
  encode(value) {
    throw new TypeError(`application/octet-stream carries a Buffer or Uint8Array, given ${typeof value}`);
  },
  decode: (body) => body,
};

/** Returns undefined for what is not JSON. */
export function readJson(body: Buffer): unknown {
  try {
    return readJsonText(body);
  } catch {
    return undefined;
  }
}

export const builtInCodecs: readonly BuiltInCodec[] = [jsonCodec, textCodec, bytesCodec];

function readUtf8(body: Buffer): string {
  if (!isUtf8(body)) throw new SyntaxError('the body is not UTF-8');
  const text = body.toString();
  return text.startsWith(byteOrderMark) ? text.slice(1) : text;
}

export type Decoded =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: { readonly name: string; readonly message: string } };

export interface Encoded {
  readonly body: Buffer;
  readonly contentType: string;
}

/** What is decoded. */
export interface EncodedBody {
  readonly body: Buffer | null;
  readonly contentType: string | undefined;
  readonly contentEncoding?: string | undefined;
}

/** The codecs of one transport, by content type. */
export class Codecs {
  readonly #byType = new Map<string, MessageCodec>();
  readonly #defaultContentType: string;
  readonly #clock: StorkClock;

  /** A codec replaces an earlier one with the same content type. */
  constructor(codecs: readonly MessageCodec[], defaultContentType: string, clock: StorkClock) {
    for (const codec of codecs) this.#byType.set(codec.contentType, codec);
    this.#defaultContentType = defaultContentType;
    this.#clock = clock;
  }

  /**
   * Bytes are not encoded, whatever their content type. Any other value is encoded by the codec of its
   * content type.
   *
   * @returns a promise if the codec does
   * @throws TypeError if there is no codec for the content type, or it returns no bytes; the codec's error
   * if it cannot encode the value. A promise rejects with the same.
   */
  encode(
    value: unknown,
    contentType: string | undefined,
    context: () => CodecContext,
  ): Encoded | Promise<Encoded> {
    if (value instanceof Uint8Array) {
      // Copied, because the caller may overwrite its bytes before they are sent.
      return { body: Buffer.from(value), contentType: contentType ?? bytesCodec.contentType };
    }
    const type = contentType ?? this.#defaultContentType;
    const codec = this.codecFor(type);
    if (codec === undefined) throw new TypeError(this.#missingCodec(type));
    const encoded = codec.encode(value, context());
    return isThenable(encoded)
      ? this.#limited(encoded, 'encode', type).then((bytes) => ({
          body: asBuffer(bytes, type),
          contentType: type,
        }))
      : { body: asBuffer(encoded, type), contentType: type };
  }

  /** @returns a promise if the codec does; it never rejects */
  decode(
    { body, contentType, contentEncoding }: EncodedBody,
    context: () => CodecContext,
  ): Decoded | Promise<Decoded> {
    if (body === null) return { ok: true, value: null };
    const type = contentType ?? this.#defaultContentType;
    const codec = this.codecFor(type);
    if (codec === undefined) return { ok: false, error: new TypeError(this.#missingCodec(type)) };
    if (!isIdentityEncoding(contentEncoding)) {
      return {
        ok: false,
        error: new TypeError(`content encoding ${excerpt(contentEncoding)} is not supported`),
      };
    }
    try {
      // Built-in codecs are synchronous and read no context.
      const builtIn = builtInCodecs.find((known) => known === codec);
      if (builtIn !== undefined) return { ok: true, value: builtIn.decode(body) };
      const value = codec.decode(body, context());
      return isThenable(value)
        ? this.#limited(value, 'decode', type).then((read) => ({ ok: true, value: read }), undecoded)
        : { ok: true, value };
    } catch (error) {
      return undecoded(error);
    }
  }

  /**
   * The codec for a content type, ignoring case and parameters. JSON with a type of its own is read as JSON
   * unless it has a codec of its own.
   */
  codecFor(contentType: string): MessageCodec | undefined {
    const type = mediaType(contentType);
    const codec = this.#byType.get(type);
    return codec === undefined && isJson(type) ? this.#byType.get(jsonCodec.contentType) : codec;
  }

  #limited<T>(work: PromiseLike<T>, method: 'encode' | 'decode', contentType: string): Promise<T> {
    const timeoutError = (): Error =>
      new Error(
        `${method} of the codec for ${excerpt(contentType)} has not settled within ${codecTimeoutMs} ms`,
      );
    return withTimeout(work, { clock: this.#clock, limitMs: codecTimeoutMs, timeoutError });
  }

  #missingCodec(contentType: string): string {
    return `no codec for content type ${excerpt(contentType)}; known are ${[...this.#byType.keys()].join(', ')}`;
  }
}

function mediaType(contentType: string): string {
  if (contentType === jsonCodec.contentType) return contentType;
  const end = contentType.indexOf(';');
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}

/** E.g. `application/cloudevents+json`. */
function isJson(type: string): boolean {
  return type === 'text/json' || (type.startsWith('application/') && type.endsWith('+json'));
}

function undecoded(error: unknown): Decoded {
  return { ok: false, error: { name: nameOf(error), message: messageOf(error) } };
}

/** Python clients write the charset into the content encoding. */
function isIdentityEncoding(contentEncoding: string | undefined): boolean {
  return contentEncoding === undefined || /^(|identity|utf-?8|binary)$/i.test(contentEncoding);
}

function excerpt(text: string | undefined): string {
  return JSON.stringify((text ?? '').slice(0, 100));
}

function asBuffer(bytes: unknown, contentType: string): Buffer {
  if (!(bytes instanceof Uint8Array)) {
    const given = bytes === null ? 'null' : typeof bytes;
    throw new TypeError(
      `encode of the codec for ${excerpt(contentType)} returned ${given}, expected a Uint8Array`,
    );
  }
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Deeper documents could overflow the stack of recursive pipes and handlers. */
const maxDepth = 1_000;

const quote = 0x22;
const backslash = 0x5c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/**
 * Why the JSON must not be parsed, or undefined. Most bodies cost one search: a short one cannot be too
 * deep.
 */
export function findUnsafeJson(body: Buffer, text: string): string | undefined {
  if (body.length > maxDepth * 2 && isTooDeep(body)) return `nested deeper than ${maxDepth} levels`;
  return hasPrototypeKey(text) ? 'has a key named __proto__' : undefined;
}

function isTooDeep(body: Buffer): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < body.length; i++) {
    const byte = body[i];
    if (inString) {
      if (byte === backslash) i++;
      else if (byte === quote) inString = false;
    } else if (byte === quote) {
      inString = true;
    } else if (byte === openBracket || byte === openBrace) {
      if (++depth > maxDepth) return true;
    } else if (byte === closeBracket || byte === closeBrace) {
      depth--;
    }
  }
  return false;
}

/** Each character of a key may be written plainly or as a `\u` escape of four hexadecimal digits. */
const escaped = [...'__proto__'].map((character) => {
  const code = character.charCodeAt(0).toString(16).padStart(4, '0');
  return `(?:${character}|\\\\u${code.replace(/[a-f]/g, (digit) => `[${digit}${digit.toUpperCase()}]`)})`;
});
/** A quote after a backslash does not open a key. */
const prototypeKey = new RegExp(`(?<!\\\\)"${escaped.join('')}"\\s*:`);

function hasPrototypeKey(text: string): boolean {
  if (!text.includes('__proto__') && !text.includes('\\u00')) return false;
  return prototypeKey.test(text);
}
