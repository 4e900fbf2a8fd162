import { isUtf8 } from 'node:buffer';
import { messageOf, nameOf } from './errors.js';
import { findHostileJson } from './hostile-json.js';
const byteOrderMark = '\uFEFF';
const jsonCodec = {
  contentType: 'application/json',
  encode: (value) => Buffer.from(JSON.stringify(value ?? null)),
  decode(body) {
    const text = readUtf8(body);
    const hostile = findHostileJson(body, text);
    if (hostile !== undefined) throw new SyntaxError(hostile);
    return JSON.parse(text);
  },
};
const textCodec = {
  contentType: 'text/plain',
  encode(value) {
    if (typeof value !== 'string') throw new TypeError(`text/plain carries a string, given ${typeof value}`);
    return Buffer.from(value);
  },
  decode: readUtf8,
};
const bytesCodec = {
  contentType: 'application/octet-stream',
  encode(value) {
    throw new TypeError(`application/octet-stream carries a Buffer or Uint8Array, given ${typeof value}`);
  },
  decode: (body) => body,
};
export const builtInCodecs = [jsonCodec, textCodec, bytesCodec];
function readUtf8(body) {
  if (!isUtf8(body)) throw new SyntaxError('the body is not UTF-8');
  const text = body.toString();
  return text.startsWith(byteOrderMark) ? text.slice(1) : text;
}
/** The codecs of one transport, by content type. */
export class Codecs {
  #byType = new Map();
  #defaultContentType;
  /** Later codecs replace earlier ones of the same content type. */
  constructor(codecs, defaultContentType) {
    for (const codec of codecs) this.#byType.set(codec.contentType, codec);
    this.#defaultContentType = defaultContentType;
  }
  /**
   * Bytes pass through as they are, whatever their content type; other values are written by the codec of theirs.
   *
   * @throws TypeError where there is no codec for the content type or the value cannot be written
   */
  encode(value, contentType) {
    if (value instanceof Uint8Array) {
      // A copy: the caller may write into its own bytes after we have returned.
      return { body: Buffer.from(value), contentType: contentType ?? bytesCodec.contentType };
    }
    const named = contentType ?? this.#defaultContentType;
    const codec = this.knows(named);
    if (codec === undefined) throw new TypeError(this.#unknown(named));
    return { body: asBuffer(codec.encode(value)), contentType: named };
  }
  decode(body, contentType, contentEncoding) {
    if (body === null) return { ok: true, value: null };
    const named = contentType ?? this.#defaultContentType;
    const codec = this.knows(named);
    if (codec === undefined) return { ok: false, error: new TypeError(this.#unknown(named)) };
    if (!isPlain(contentEncoding)) {
      return {
        ok: false,
        error: new TypeError(`content encoding ${shown(contentEncoding)} is not supported`),
      };
    }
    try {
      return { ok: true, value: codec.decode(body) };
    } catch (error) {
      return { ok: false, error: { name: nameOf(error), message: messageOf(error) } };
    }
  }
  /** The codec for a content type, parameters and case aside. */
  knows(contentType) {
    return this.#byType.get(mediaType(contentType));
  }
  #unknown(contentType) {
    return `no codec for content type ${shown(contentType)}; known are ${[...this.#byType.keys()].join(', ')}`;
  }
}
function mediaType(contentType) {
  if (contentType === jsonCodec.contentType) return contentType;
  const end = contentType.indexOf(';');
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}
/** Python clients write the character set where the encoding belongs. */
function isPlain(contentEncoding) {
  return contentEncoding === undefined || /^(|identity|utf-?8|binary)$/i.test(contentEncoding);
}
function shown(text) {
  return JSON.stringify((text ?? '').slice(0, 100));
}
function asBuffer(bytes) {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
