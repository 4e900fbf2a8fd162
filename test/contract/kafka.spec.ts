import { setTimeout as sleep } from 'node:timers/promises';
import { Kafka, logLevel, Partitioners, type Admin, type Producer } from 'kafkajs';
import { inject, vi } from 'vitest';
import { kafka, type KafkaOptions } from 'nestjs-stork/kafka';
import { logCapabilities } from '../../lib/driver-kit/log/log-capabilities.js';
import { KafkaTopicReader } from '../support/kafka-topic-reader.js';
import { committedOffsets, createTopic } from '../support/kafka-topics.js';
import { startProxiedKafka, type ProxiedKafka } from '../support/proxied-kafka.js';
import { driverContract } from './driver-contract.js';

const patternHeader = 'stork-pattern';
const deserted = 'deserted.reply';
const reconnect = { delayMs: 50, maxDelayMs: 200 };
/**
 * Kafka revokes the partitions of a consumer after this time. Long, because a busy machine delays
 * heartbeats.
 */
const times = { sessionTimeoutMs: 15_000, heartbeatIntervalMs: 300 };
const soonMs = 2_000;
const impatient: Partial<KafkaOptions> = { ...times, sessionTimeoutMs: soonMs };
const partitions = 3;
/**
 * The suite sends 5 MB, timestamps in the far future, and waits for sessions to expire. Kafka's defaults
 * allow 1 MB, an hour, and sessions of at least 6 s.
 */
const config = [
  `message.max.bytes=${8 * 1024 * 1024}`,
  'group.min.session.timeout.ms=1000',
  'log.message.timestamp.after.max.ms=9223372036854775807',
];
/** Topics that `publishRaw` has created. */
const topics = new Map<string, Promise<void>>();
let own: ProxiedKafka;
/** Connected without the proxy, as foreign programs are. */
let admin: Admin;
let producer: Producer;
let reader: KafkaTopicReader;

function ensureTopic(topic: string, numPartitions = partitions): Promise<void> {
  const ensured = topics.get(topic) ?? createTopic(admin, topic, numPartitions);
  topics.set(topic, ensured);
  return ensured;
}

// Starting a broker may take longer on a busy machine than vitest's default timeout of hooks.
vi.setConfig({ hookTimeout: 240_000 });

driverContract({
  name: 'kafka',
  capabilities: logCapabilities,
  skip: inject('kafkaBrokers') === undefined,
  open: async () => {
    own = await startProxiedKafka({ version: inject('kafkaVersion'), config });
    const foreign = new Kafka({
      brokers: own.server.brokers,
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 50, retries: 20 },
    });
    admin = foreign.admin();
    producer = foreign.producer({
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner,
    });
    reader = new KafkaTopicReader(foreign);
    await Promise.all([admin.connect(), producer.connect(), reader.connect()]);
    await ensureTopic(deserted, 1);
    // Looking up the first group creates `__consumer_offsets`, which takes a moment.
    await committedOffsets(admin, 'first', deserted);
  },
  transport: (topic, options) =>
    kafka({
      brokers: own.proxied,
      groupId: topic,
      topic,
      patternHeader,
      onUnhandled: 'dead-letter',
      partitions,
      reconnect,
      // One machine, one clock.
      clockSkewMs: 0,
      ...times,
      ...options,
    }),
  publishRaw: async (topic, { body, pattern, contentType, headers, messageId, key, replyTo, timestamp }) => {
    const written: Record<string, string> = Object.fromEntries(
      Object.entries({
        ...headers,
        [patternHeader]: pattern,
        'content-type': contentType,
        'stork-message-id': messageId,
        kafka_correlationId: messageId,
        kafka_replyTopic: replyTo,
        // No topic has that many partitions: a reply there is undeliverable.
        kafka_replyPartition: replyTo === undefined ? undefined : '7',
      }).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
    await ensureTopic(topic);
    const at = timestamp === undefined ? {} : { timestamp: String(timestamp) };
    await producer.send({ topic, messages: [{ key: key ?? null, value: body, headers: written, ...at }] });
  },
  deadLetters: async (topic) => {
    const deadLetters = await reader.records(`${topic}.dlq`);
    return deadLetters.map(({ value, headers }) => ({ body: value, headers }));
  },
  sendsBackUnhandled: false,
  deadLetterSource: (source) => `${source}.dlq`,
  waiting: async (topic) => {
    const records = await reader.records(topic);
    if (records.length === 0) return 0;
    const committed = await committedOffsets(admin, topic, topic);
    return records.filter(({ partition, offset }) => offset >= (committed.get(partition) ?? 0)).length;
  },
  impatient,
  // A member that reconnects at once keeps its partitions, so the connection stays cut until its session
  // has expired.
  dropConnections: async () => {
    own.proxy.breakOff();
    await sleep(soonMs + 500);
    own.proxy.restore();
  },
  outage: { begin: () => own.proxy.breakOff(), end: () => own.proxy.restore() },
  forgedReplyAddresses: (topic) => [topic, 'no.such.topic.reply', '__consumer_offsets', 'x'.repeat(10_000)],
  deserted,
  oneAtATime: {},
  withDeliveryLimit: (deliveryLimit): Partial<KafkaOptions> => ({ deliveryLimit }),
  withPriority: {},
  propertiesOf: () => ({ appId: undefined, persistent: undefined }),
  close: async () => {
    await Promise.all([admin.disconnect(), producer.disconnect(), reader.close()]);
    await own.close();
  },
});
