import type { ConfirmChannel } from 'amqplib';

// Messages in the bytes of AMQP 0-9-1, also those that no client library writes.

type Bytes = Buffer | string;

const bytesOf = (given: Bytes): Buffer => (typeof given === 'string' ? Buffer.from(given) : given);

function uint(size: number, value: number): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes;
}

/** A text of at most 255 bytes, behind its length. */
function short(text: Bytes): Buffer {
  const bytes = bytesOf(text);
  if (bytes.length > 255) throw new Error(`a short text has at most 255 bytes, given ${bytes.length}`);
  return Buffer.concat([uint(1, bytes.length), bytes]);
}

/** A header value: its type tag, then its bytes. */
export function value(tag: string, ...content: readonly Bytes[]): Buffer {
  return Buffer.concat([Buffer.from(tag, 'latin1'), ...content.map(bytesOf)]);
}

/** A header value whose bytes stand behind their length: `S` text, `x` bytes, `A` list, `F` table. */
export function sized(tag: 'S' | 'x' | 'A' | 'F', ...content: readonly Bytes[]): Buffer {
  const bytes = Buffer.concat(content.map(bytesOf));
  return value(tag, uint(4, bytes.length), bytes);
}

/** A header: its name, then its value. */
export function header(name: Bytes, encoded: Buffer): Buffer {
  return Buffer.concat([short(name), encoded]);
}

export function integer(
  tag: 'b' | 'B' | 's' | 'u' | 'I' | 'i' | 'l' | 'L' | 'T',
  given: number | bigint,
): Buffer {
  const size = { b: 1, B: 1, s: 2, u: 2, I: 4, i: 4, l: 8, L: 8, T: 8 }[tag];
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, BigInt(given)));
  return value(tag, bytes.subarray(8 - size));
}

export function float(tag: 'd' | 'f', given: number): Buffer {
  const bytes = Buffer.alloc(tag === 'd' ? 8 : 4);
  if (tag === 'd') bytes.writeDoubleBE(given);
  else bytes.writeFloatBE(given);
  return value(tag, bytes);
}

/** Tables within tables, or lists within lists. Not recursive: client libraries are. */
export function nested(tag: 'A' | 'F', depth: number, innermost = Buffer.alloc(0)): Buffer {
  const step = tag === 'F' ? 7 : 5;
  const opening = Buffer.alloc((depth - 1) * step);
  for (let level = 0; level < depth - 1; level++) {
    const at = level * step;
    if (tag === 'F') opening.write('\u0001a', at, 'latin1');
    opening.write(tag, at + step - 5, 'latin1');
    opening.writeUInt32BE(opening.length + innermost.length - at - step, at + step - 4);
  }
  return sized(tag, opening, innermost);
}

/** The properties of a message, in the order in which AMQP writes them. */
export interface RawProperties {
  readonly contentType?: Bytes;
  readonly contentEncoding?: Bytes;
  /** The headers, one behind the other. */
  readonly headers?: Buffer;
  readonly deliveryMode?: number;
  readonly priority?: number;
  readonly correlationId?: Bytes;
  readonly replyTo?: Bytes;
  readonly expiration?: Bytes;
  readonly messageId?: Bytes;
  readonly timestamp?: bigint;
  readonly type?: Bytes;
  readonly userId?: Bytes;
  readonly appId?: Bytes;
}

/** The properties as a header frame has them: flags, then what is set. */
export function encodeProperties(given: RawProperties): Buffer {
  const octet = (number: number): Buffer => uint(1, number);
  const table = (headers: Buffer): Buffer => sized('F', headers).subarray(1);
  const time = (seconds: bigint): Buffer => integer('T', seconds).subarray(1);
  const fields = [
    optional(given.contentType, short),
    optional(given.contentEncoding, short),
    optional(given.headers, table),
    optional(given.deliveryMode, octet),
    optional(given.priority, octet),
    optional(given.correlationId, short),
    optional(given.replyTo, short),
    optional(given.expiration, short),
    optional(given.messageId, short),
    optional(given.timestamp, time),
    optional(given.type, short),
    optional(given.userId, short),
    optional(given.appId, short),
  ];
  const flags = fields.reduce((sum, field, at) => sum + (field === undefined ? 0 : 0x8000 >> at), 0);
  return Buffer.concat([uint(2, flags), ...fields.filter((field) => field !== undefined)]);
}

function optional<T>(given: T | undefined, encode: (given: T) => Buffer): Buffer | undefined {
  return given === undefined ? undefined : encode(given);
}

export function frame(type: 1 | 2 | 3, channel: number, payload: Buffer): Buffer {
  const head = Buffer.concat([uint(1, type), uint(2, channel), uint(4, payload.length)]);
  return Buffer.concat([head, payload, uint(1, 0xce)]);
}

/** The header frame of a message with a body of `bodyBytes` bytes. */
export function headerFrame(channel: number, properties: RawProperties, bodyBytes: number): Buffer {
  const size = integer('l', bodyBytes).subarray(1);
  const payload = Buffer.concat([uint(2, 60), uint(2, 0), size, encodeProperties(properties)]);
  return frame(2, channel, payload);
}

/** amqplib's fields of a confirm channel, which its types do not have. */
interface ChannelInternals {
  readonly ch: number;
  readonly connection: { readonly channels: readonly { readonly buffer: { write(bytes: Buffer): void } }[] };
  pushConfirmCallback(callback: (error: unknown) => void): void;
}

/** Publishes to a queue. Resolves when the broker has confirmed the message. */
export function publishRaw(
  channel: ConfirmChannel,
  queue: string,
  body: Buffer,
  properties: RawProperties,
): Promise<void> {
  const { ch, connection } = channel as unknown as ChannelInternals;
  const method = Buffer.concat([uint(2, 60), uint(2, 40), uint(2, 0), short(''), short(queue), uint(1, 0)]);
  const frames = [frame(1, ch, method), headerFrame(ch, properties, body.length)];
  if (body.length > 0) frames.push(frame(3, ch, body));
  return new Promise((resolve, reject) => {
    (channel as unknown as ChannelInternals).pushConfirmCallback((error) =>
      error === null || error === undefined ? resolve() : reject(error),
    );
    connection.channels[ch]!.buffer.write(Buffer.concat(frames));
  });
}
