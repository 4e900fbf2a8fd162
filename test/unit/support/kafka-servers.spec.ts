import { randomUUID } from 'node:crypto';
import { ConfigResourceTypes, Kafka, logLevel, type KafkaConfig, type SASLOptions } from 'kafkajs';
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { throwAway, throwAwayCluster } from '../../support/brokers/index.mjs';
import { isListening } from '../../support/brokers/parts.mjs';
import { KafkaTopicReader } from '../../support/kafka-topic-reader.js';
import { createTopic } from '../../support/kafka-topics.js';
import { startProxiedKafka } from '../../support/proxied-kafka.js';

const version = inject('kafkaVersion');
const connectTo = (brokers: readonly string[], more: Partial<KafkaConfig> = {}): Kafka =>
  new Kafka({
    brokers: [...brokers],
    logLevel: logLevel.NOTHING,
    // The default of a second is too short on a busy machine for clients without retries.
    connectionTimeout: 30_000,
    retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 60 },
    ...more,
  });

async function adminOf(kafka: Kafka) {
  const admin = kafka.admin();
  onTestFinished(() => admin.disconnect());
  await admin.connect();
  return admin;
}

async function producerOf(kafka: Kafka) {
  const producer = kafka.producer({ allowAutoTopicCreation: false });
  onTestFinished(() => producer.disconnect());
  await producer.connect();
  return producer;
}

async function readerOf(kafka: Kafka): Promise<KafkaTopicReader> {
  const reader = new KafkaTopicReader(kafka);
  onTestFinished(() => reader.close());
  await reader.connect();
  return reader;
}

describe.skipIf(inject('kafkaBrokers') === undefined)('a Kafka of its own', { timeout: 240_000 }, () => {
  it('takes settings, and keeps its data and address when stopped and when killed', async () => {
    const config = ['message.max.bytes=5000', 'offsets.topic.num.partitions=3'];
    const server = await throwAway('kafka', { version, config });
    onTestFinished(() => server.remove());
    const topic = randomUUID();
    const kafka = connectTo(server.brokers);
    const admin = await adminOf(kafka);
    await createTopic(admin, topic, 2);
    const name = 'offsets.topic.num.partitions';
    const broker = { type: ConfigResourceTypes.BROKER, name: '1', configNames: [name] };
    const { resources } = await admin.describeConfigs({ resources: [broker], includeSynonyms: false });
    expect(resources[0]!.configEntries).toMatchObject([{ configName: name, configValue: '3' }]);
    const producer = await producerOf(kafka);
    const tooLarge = { topic, messages: [{ value: Buffer.alloc(6_000) }] };
    await expect(producer.send(tooLarge)).rejects.toMatchObject({ type: 'MESSAGE_TOO_LARGE' });
    await producer.send({ topic, messages: [{ value: 'a', partition: 0 }] });
    await server.stop();
    expect(await isListening(Number(server.brokers[0]!.split(':')[1]))).toBe(false);
    await server.start();
    await producer.send({ topic, messages: [{ value: 'b', partition: 1 }] });
    await server.kill();
    await server.start();
    const reader = await readerOf(kafka);
    const kept = await reader.records(topic);
    expect(kept.map(({ value }) => value!.toString())).toEqual(['a', 'b']);
    await producer.send({ topic, messages: [{ value: 'c', partition: 1 }] });
    const again = await reader.records(topic);
    expect(again.map(({ value, offset }) => `${offset} ${value!.toString()}`)).toEqual(['0 a', '0 b', '1 c']);
    expect(await reader.records(randomUUID())).toEqual([]);
  });

  it('accepts clients that log in, by each mechanism, and no others', async () => {
    const sasl = { user: 'alice', password: 'open.sesame' };
    const server = await throwAway('kafka', { version, sasl });
    onTestFinished(() => server.remove());
    const retry = { retries: 0 };
    const listTopics = async (more: Partial<KafkaConfig>): Promise<string[]> =>
      (await adminOf(connectTo(server.brokers, { retry, ...more }))).listTopics();
    for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512'] as const) {
      // A new object each time: kafkajs stores state of the login in it.
      const login = (password: string): SASLOptions => ({ mechanism, username: sasl.user, password });
      expect(await listTopics({ sasl: login(sasl.password) })).toEqual([]);
      const refused = listTopics({ sasl: login('wrong') });
      await expect(refused).rejects.toMatchObject({ name: 'KafkaJSSASLAuthenticationError' });
    }
    await expect(listTopics({})).rejects.toThrow('Closed connection');
  });

  it('rejects a login that its settings cannot contain', async () => {
    const refused = throwAway('kafka', { sasl: { user: 'alice', password: 'a"b' } });
    await expect(refused).rejects.toThrow('sasl.password: expected letters');
    await expect(throwAway('redis', { sasl: { user: 'a', password: 'b' } })).rejects.toThrow('redis has no');
  });

  it('sends all traffic of a client through its proxy, which can be cut', async () => {
    const own = await startProxiedKafka({ version });
    onTestFinished(() => own.close());
    const { server, proxied, proxy } = own;
    const behind = connectTo(proxied);
    const admin = await adminOf(behind);
    const { brokers } = await admin.describeCluster();
    expect(brokers.map(({ host, port }) => `${host}:${port}`)).toEqual(proxied);
    const topic = randomUUID();
    await createTopic(admin, topic, 1);
    const impatient = connectTo(proxied, { retry: { retries: 1, maxRetryTime: 50 } });
    const [cutOff, givingUp, direct] = await Promise.all([
      producerOf(behind),
      producerOf(impatient),
      producerOf(connectTo(server.brokers)),
    ]);
    await cutOff.send({ topic, messages: [{ value: '1' }] });
    proxy.cut();
    await cutOff.send({ topic, messages: [{ value: '2' }] });
    await proxy.close();
    await expect(givingUp.send({ topic, messages: [{ value: 'lost' }] })).rejects.toThrow('ECONNREFUSED');
    await direct.send({ topic, messages: [{ value: '3' }] });
    const reader = await readerOf(connectTo(server.brokers));
    const values = (await reader.records(topic)).map(({ value }) => value!.toString());
    expect(values).toEqual(['1', '2', '3']);
  });
});

describe.skipIf(inject('kafkaBrokers') === undefined)('a Kafka cluster', { timeout: 240_000 }, () => {
  it('stays writable without one of three nodes, lets it rejoin, and leaves nothing behind', async () => {
    const cluster = await throwAwayCluster('kafka', { version });
    onTestFinished(() => cluster.remove());
    const kafka = connectTo(cluster.brokers);
    const admin = await adminOf(kafka);
    const topic = randomUUID();
    await createTopic(admin, topic, 3);
    const producer = await producerOf(kafka);
    const sendToEach = (value: string) =>
      Promise.all(
        [0, 1, 2].map((partition) => producer.send({ topic, acks: -1, messages: [{ partition, value }] })),
      );
    const replicasInSync = async (): Promise<number[]> => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      return topics[0]!.partitions.map(({ isr }) => isr.length);
    };
    await sendToEach('whole');
    await expect.poll(replicasInSync).toEqual([3, 3, 3]);
    const [first] = cluster.nodes;
    await first!.kill();
    await sendToEach('without one');
    await expect.poll(replicasInSync).toEqual([2, 2, 2]);
    await first!.start();
    await expect.poll(replicasInSync, { timeout: 60_000 }).toEqual([3, 3, 3]);
    const records = await (await readerOf(kafka)).records(topic);
    // This producer is not idempotent: it may write twice where a leader moves meanwhile.
    const valuesOf = (partition: number): string[] => [
      ...new Set(records.filter((each) => each.partition === partition).map(({ value }) => String(value))),
    ];
    for (const partition of [0, 1, 2]) expect(valuesOf(partition)).toEqual(['whole', 'without one']);
    await cluster.remove();
    for (const { address } of cluster.nodes)
      expect(await isListening(Number(address.split(':')[1]))).toBe(false);
  });
});
