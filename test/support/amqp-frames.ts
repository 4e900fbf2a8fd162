import { createRequire } from 'node:module';
import type { ChannelModel, ConsumeMessage, MessageProperties, Options } from 'amqplib';
import { headerFrame, type RawProperties } from './amqp-bytes.js';

// amqplib's own decoder and encoder, which it does not export.

interface FrameReader {
  rest: Buffer;
  recvFrame(): { readonly fields: MessageProperties } | false;
}

const lib = (file: string): unknown =>
  createRequire(import.meta.url)(`../../node_modules/amqplib/lib/${file}.js`) as unknown;
const { Connection } = lib('connection') as { Connection: { readonly prototype: FrameReader } };
const { encodeProperties, BasicProperties } = lib('defs') as {
  readonly encodeProperties: (id: number, channel: number, size: number, properties: object) => Buffer;
  readonly BasicProperties: number;
};
const { encodeTable } = lib('codec') as {
  readonly encodeTable: (buffer: Buffer, table: object, offset: number) => number;
};

/** An amqplib connection that receives these chunks, and no more. */
export function connectionOf(...chunks: readonly Buffer[]): {
  readonly model: ChannelModel;
  readonly reader: FrameReader;
} {
  const waiting = [...chunks];
  const reader = Object.assign(Object.create(Connection.prototype) as FrameReader, {
    rest: Buffer.alloc(0),
    maxFrameSize: 0,
    stream: { read: () => waiting.shift() ?? null },
  });
  return { model: { connection: reader } as unknown as ChannelModel, reader };
}

/** A message as amqplib delivers it, of the bytes of its header frame. */
export function decodeMessage(
  given: RawProperties,
  body: Buffer,
  prepare: (model: ChannelModel) => void = () => {},
): ConsumeMessage {
  const { model, reader } = connectionOf(headerFrame(1, given, body.length));
  prepare(model);
  const frame = reader.recvFrame();
  if (frame === false) throw new Error('the frame is incomplete');
  const fields = { exchange: 'x', routingKey: 'key', deliveryTag: 1, redelivered: false, consumerTag: 't' };
  return { fields, properties: frame.fields, content: body };
}

/** What a consumer of the published message gets. Throws as amqplib does if it cannot encode the options. */
export function published(options: Options.Publish): MessageProperties {
  const properties = { ...options, deliveryMode: options.persistent === true ? 2 : 1 };
  const { reader } = connectionOf(encodeProperties(BasicProperties, 1, 0, properties));
  const frame = reader.recvFrame();
  return (frame as { readonly fields: MessageProperties }).fields;
}

const scratch = Buffer.alloc(1024 * 1024);

/** The bytes of one header, name included. Throws as amqplib does if it cannot encode it. */
export function encodedHeaderBytes(name: string, value: unknown): number {
  return encodeTable(scratch, Object.fromEntries([[name, value]]), 0) - 4;
}
