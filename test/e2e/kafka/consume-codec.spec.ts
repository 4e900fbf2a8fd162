import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { CompressionCodec } from 'nestjs-stork/kafka';
import { brokers, eventually, later, range, Seen, startKafkaApp, uniqueName, useRaw } from './support.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** LZ4 frames of one uncompressed block: brokers accept them, and the test needs no LZ4 library. */
const head = Buffer.from('04224d18604082', 'hex');
const frames: CompressionCodec = {
  compress: (bytes) => Buffer.concat([head, lengthOf(bytes), bytes, Buffer.alloc(4)]),
  decompress: (bytes) => bytes.subarray(head.length + 4, -4),
};

function lengthOf(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE((bytes.length | 0x8000_0000) >>> 0);
  return length;
}

/** kafkajs keeps one codec registry per process, so the producer that knows the codec is another process. */
async function sendPacked(topic: string, partition: number, bodies: readonly unknown[]): Promise<void> {
  const program = `
    import kafkajs from 'kafkajs';
    const [brokers, topic, partition, bodies] = process.argv.slice(1).map((text) => JSON.parse(text));
    kafkajs.CompressionCodecs[kafkajs.CompressionTypes.LZ4] = () => ({
      compress: async ({ buffer }) => {
        const length = Buffer.alloc(4);
        length.writeUInt32LE((buffer.length | 0x80000000) >>> 0);
        return Buffer.concat([Buffer.from('04224d18604082', 'hex'), length, buffer, Buffer.alloc(4)]);
      },
    });
    const producer = new kafkajs.Kafka({ brokers, logLevel: 0 }).producer();
    await producer.connect();
    const messages = bodies.map((body) => ({ value: JSON.stringify(body), partition }));
    await producer.send({ topic, messages, compression: kafkajs.CompressionTypes.LZ4 });
    await producer.disconnect();
  `;
  const given = [brokers, topic, partition, bodies].map((value) => JSON.stringify(value));
  await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program, '--', ...given], {
    cwd: root,
  });
}

describe.skipIf(brokers === undefined)('Kafka: compressed records', () => {
  const raw = useRaw();

  it('with gzip are read, and ours are read by other clients', async () => {
    const [topic, group] = [await raw().topic(1), uniqueName()];
    const seen = new Seen<number>();
    const handlers = { [topic]: (body: unknown) => seen.add(body as number) };
    const { client } = await startKafkaApp({ group, handlers, options: { compression: 'gzip' } });
    const messages = range(0, 100).map((n) => ({ value: String(n) }));
    await raw().producer.send({ topic, messages, compression: 1 });
    expect(await seen.count(100)).toEqual(range(0, 100));
    await Promise.all(range(100, 100).map((n) => client.publish(topic, n)));
    await seen.count(200);
    expect((await raw().reader.records(topic)).map(({ value }) => Number(value))).toEqual(range(0, 200));
  });

  it('in an unregistered codec block the consumer, are logged, and are read once the codec is registered', async () => {
    const [packed, group] = [await raw().topic(2), uniqueName()];
    const beside = await raw().topic(1);
    const seen = new Seen<number>();
    const handle = (body: unknown): void => seen.add(body as number);
    const handlers = { [packed]: handle, [beside]: handle };
    const { state, service, close } = await startKafkaApp({ group, handlers });
    await raw().send(packed, range(0, 5), { partition: 0 });
    await raw().send(beside, [1_000]);
    await seen.count(6);
    await sendPacked(packed, 0, range(10, 5));
    await raw().send(packed, range(20, 5), { partition: 0 });
    const reason = await eventually(() => {
      const { connection } = state();
      return connection.value === 'blocked' ? connection.reason : undefined;
    }, 'the codec to be named');
    expect(reason.toLowerCase()).toContain('lz4');
    expect(reason).toContain('compressionCodecs');
    // However often it retries, it never becomes ready.
    const values = new Set<string>();
    for (const until = Date.now() + 3_000; Date.now() < until; await later(5)) {
      values.add(service.state()['main']!.connection.value);
    }
    expect([...values]).toEqual(['blocked']);
    expect(seen.all.filter((n) => n >= 10 && n < 30)).toEqual([]);
    // One fetch response holds all partitions of the broker.
    await raw().send(beside, [1_001]);
    expect((await raw().committed(group, packed)).get(0)).toBe(5);
    await close();
    const options = { compressionCodecs: { lz4: frames } };
    const given = await startKafkaApp({ group, handlers, options });
    onTestFinished(given.close);
    await raw().settled(group, packed);
    await raw().settled(group, beside);
    expect(seen.all.filter((n) => n < 1_000)).toEqual([...range(0, 5), ...range(10, 5), ...range(20, 5)]);
    expect(seen.all.filter((n) => n >= 1_000)).toEqual([1_000, 1_001]);
  });
});
