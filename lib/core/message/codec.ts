import { isUtf8 } from 'node:buffer';
import { messageOf, nameOf } from '../runtime/errors.js';

/** Encodes and decodes the bodies of one content type. @publicApi */
export interface MessageCodec {
  /** In lower case and without parameters, e.g. `application/x-protobuf`. */
  readonly contentType: string;
  /** Throws if the value cannot be encoded. */
  encode(value: unknown): Uint8Array;
  /** Throws if the bytes cannot be decoded. The message is then dead-lettered as `undecodable`. */
  decode(body: Buffer): unknown;
}

const byteOrderMark = '\uFEFF';

const jsonCodec: MessageCodec = {
  contentType: 'application/json',
  encode(value) {
    const text: unknown = JSON.stringify(value ?? null);
    if (typeof text !== 'string') throw new TypeError(`application/json carries no ${typeof value}`);
    return Buffer.from(text);
  },
  decode(body) {
    const text = readUtf8(body);
    const problem = findUnsafeJson(body, text);
    if (problem !== undefined) throw new SyntaxError(problem);
    return JSON.parse(text) as unknown;
  },
};

const textCodec: MessageCodec = {
  contentType: 'text/plain',
  encode(value) {
    if (typeof value !== 'string') throw new TypeError(`text/plain carries a string, given ${typeof value}`);
    return Buffer.from(value);
  },
  decode: readUtf8,
};

const bytesCodec: MessageCodec = {
  contentType: 'application/octet-stream',
  encode(value) {
    throw new TypeError(`application/octet-stream carries a Buffer or Uint8Array, given ${typeof value}`);
  },
  decode: (body) => body,
};

export const builtInCodecs: readonly MessageCodec[] = [jsonCodec, textCodec, bytesCodec];

function readUtf8(body: Buffer): string {
  if (!isUtf8(body)) throw new SyntaxError('the body is not UTF-8');
  const text = body.toString();
  return text.startsWith(byteOrderMark) ? text.slice(1) : text;
}

export type Decoded =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: { readonly name: string; readonly message: string } };

/** The codecs of one transport, by content type. */
export class Codecs {
  readonly #byType = new Map<string, MessageCodec>();
  readonly #defaultContentType: string;

  /** A codec replaces an earlier one with the same content type. */
  constructor(codecs: readonly MessageCodec[], defaultContentType: string) {
    for (const codec of codecs) this.#byType.set(codec.contentType, codec);
    this.#defaultContentType = defaultContentType;
  }

  /**
   * Bytes are not encoded, whatever their content type. Any other value is encoded by the codec of its
   * content type.
   *
   * @throws TypeError if there is no codec for the content type; the codec's error if it cannot encode the
   * value
   */
  encode(value: unknown, contentType: string | undefined): { body: Buffer; contentType: string } {
    if (value instanceof Uint8Array) {
      // Copied, because the caller may overwrite its bytes before they are sent.
      return { body: Buffer.from(value), contentType: contentType ?? bytesCodec.contentType };
    }
    const type = contentType ?? this.#defaultContentType;
    const codec = this.codecFor(type);
    if (codec === undefined) throw new TypeError(this.#missingCodec(type));
    return { body: asBuffer(codec.encode(value)), contentType: type };
  }

  decode(body: Buffer | null, contentType: string | undefined, contentEncoding?: string): Decoded {
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
      return { ok: true, value: codec.decode(body) };
    } catch (error) {
      return { ok: false, error: { name: nameOf(error), message: messageOf(error) } };
    }
  }

  /** The codec for a content type, ignoring case and parameters. */
  codecFor(contentType: string): MessageCodec | undefined {
    return this.#byType.get(mediaType(contentType));
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

/** Python clients write the charset into the content encoding. */
function isIdentityEncoding(contentEncoding: string | undefined): boolean {
  return contentEncoding === undefined || /^(|identity|utf-?8|binary)$/i.test(contentEncoding);
}

function excerpt(text: string | undefined): string {
  return JSON.stringify((text ?? '').slice(0, 100));
}

function asBuffer(bytes: Uint8Array): Buffer {
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
