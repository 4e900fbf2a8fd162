import { describe, expect, it } from 'vitest';
import type { CompressionCodec } from 'nestjs-stork/kafka';
import { uniqueTopic } from './kafka-app.js';
import { bodyOf, brokers, startSender, useBeside } from './support-produce.js';

// A process of its own: kafkajs keeps one codec registry per process.

const longestLiteral = 60;

/**
 * Snappy without compression: literals only, as the format allows. The broker decompresses and validates
 * them.
 */
const snappy: CompressionCodec = {
  compress: (bytes) => {
    const parts = [varint(bytes.length)];
    for (let at = 0; at < bytes.length; at += longestLiteral) {
      const literal = bytes.subarray(at, at + longestLiteral);
      parts.push(Buffer.from([(literal.length - 1) << 2]), literal);
    }
    return Buffer.concat(parts);
  },
  decompress: (bytes) => {
    let at = bytes.findIndex((byte) => byte < 0x80) + 1;
    const parts: Buffer[] = [];
    while (at < bytes.length) {
      const length = (bytes[at]! >> 2) + 1;
      parts.push(bytes.subarray(at + 1, at + 1 + length));
      at += 1 + length;
    }
    return Buffer.concat(parts);
  },
};

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value >= 0x80; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Buffer.from([...bytes, value]);
}

describe.skipIf(brokers === undefined)('Kafka: a codec of the user’s', () => {
  const beside = useBeside(() => brokers!);

  it('is refused by name at boot if it is missing, and compresses and decompresses if it is registered', async () => {
    const topic = await beside().topic(uniqueTopic());
    await expect(startSender({ compression: 'snappy' })).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('compressionCodecs'),
    });
    let packed = 0;
    const compress = (bytes: Buffer): Buffer | Promise<Buffer> => {
      packed++;
      return snappy.compress(bytes);
    };
    const { client } = await startSender({
      compression: 'snappy',
      compressionCodecs: { snappy: { ...snappy, compress } },
    });
    const bodies = Array.from({ length: 100 }, (_, n) => JSON.stringify(`message ${n}`));
    await Promise.all(bodies.map((_, n) => client.publish(topic, `message ${n}`)));
    expect(packed).toBeGreaterThan(0);
    expect((await beside().records(topic, 100)).map(bodyOf)).toEqual(bodies);
  });
});
