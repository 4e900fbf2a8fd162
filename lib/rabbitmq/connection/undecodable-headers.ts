import type { ChannelModel, MessageProperties } from 'amqplib';
import { messageOf } from '../../core/runtime/errors.js';

/** Fields of amqplib's connection that its type definitions omit. */
interface FrameReader {
  /** Received bytes that are not decoded yet. */
  rest: Buffer;
  /** Decodes the next frame; false while it is incomplete. Removes the frame from `rest` first. */
  recvFrame(): Frame | false;
}

interface Frame {
  /** In the header frame of a message: its properties, which amqplib hands out as they are. */
  readonly fields: MessageProperties;
}

const headerFrame = 2;
/** Type, channel and size, before the payload; after it one octet. */
const frameHeadBytes = 7;
const frameEndBytes = 1;
/** Class, weight and body size, before the flags of the properties. */
const contentHeadBytes = 12;
const flagsBytes = 2;
const contentTypeFlag = 0x8000;
const contentEncodingFlag = 0x4000;
const headersFlag = 0x2000;

/** Why the headers of these properties were left out. */
const headersErrors = new WeakMap<object, string>();

/** Why the headers of a message could not be decoded; undefined if it has none or they were decoded. */
export function headersErrorOf(properties: object): string | undefined {
  return headersErrors.get(properties);
}

/**
 * Keeps the connection when amqplib cannot decode the headers of a message: nested too deeply, or a type that
 * RabbitMQ knows and amqplib does not. amqplib closes the connection then, and the broker delivers the
 * message again. Here the frame is decoded without the headers; the other properties are readable.
 */
export function tolerateUndecodableHeaders(model: ChannelModel): void {
  const reader = model.connection as unknown as FrameReader;
  const recvFrame = reader.recvFrame.bind(reader);
  reader.recvFrame = () => {
    const received = reader.rest;
    try {
      return recvFrame();
    } catch (error) {
      const frame = received.subarray(0, Math.max(0, received.length - reader.rest.length));
      const rewritten = withoutHeaders(frame);
      if (rewritten === undefined) throw error;
      reader.rest = Buffer.concat([rewritten, reader.rest]);
      const decoded = recvFrame();
      if (decoded !== false)
        headersErrors.set(decoded.fields, `the headers cannot be decoded: ${messageOf(error)}`);
      return decoded;
    }
  };
}

/** Undefined if the bytes are not one header frame with headers. */
function withoutHeaders(frame: Buffer): Buffer | undefined {
  const flagsAt = frameHeadBytes + contentHeadBytes;
  if (frame[0] !== headerFrame || frame.length < flagsAt + flagsBytes + frameEndBytes) return undefined;
  if (frame.length !== frameHeadBytes + frame.readUInt32BE(3) + frameEndBytes) return undefined;
  const flags = frame.readUInt16BE(flagsAt);
  if ((flags & headersFlag) === 0) return undefined;
  // Content type and content encoding stand before the headers, each behind one octet with its length.
  let start = flagsAt + flagsBytes;
  for (const flag of [contentTypeFlag, contentEncodingFlag])
    if ((flags & flag) !== 0) start += 1 + (frame[start] ?? 0);
  if (start + 4 > frame.length) return undefined;
  const end = start + 4 + frame.readUInt32BE(start);
  if (end > frame.length - frameEndBytes) return undefined;
  const rewritten = Buffer.concat([frame.subarray(0, start), frame.subarray(end)]);
  rewritten.writeUInt32BE(rewritten.length - frameHeadBytes - frameEndBytes, 3);
  rewritten.writeUInt16BE(flags & ~headersFlag, flagsAt);
  return rewritten;
}
