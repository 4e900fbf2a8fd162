import { setTimeout as sleep } from 'node:timers/promises';
import { Kafka, logLevel, Partitioners, type Admin, type Producer } from 'kafkajs';
import { inject, vi } from 'vitest';
import { kafka, type KafkaOptions } from 'nestjs-stork/kafka';
import { kafkaCapabilities } from '../../lib/kafka/driver.js';
import { KafkaTopicReader } from '../support/kafka-topic-reader.js';
import { committedOffsets, createTopic } from '../support/kafka-topics.js';
import { startProxiedKafka, type ProxiedKafka } from '../support/proxied-kafka.js';
import { driverContract } from './driver-contract.js';

const patternHeader = 'stork-pattern';
const deserted = 'deserted.reply';
const reconnect = { delayMs: 50, maxDelayMs: 200 };
/** A consumer that is away for longer loses its partitions. Long: what a busy machine holds up is not away. */
const times = { sessionTimeoutMs: 15_000, heartbeatIntervalMs: 300 };
const soonMs = 2_000;
const impatient: Partial<KafkaOptions> = { ...times, sessionTimeoutMs: soonMs };
const partitions = 3;
/** The suite sends 5 MB, and times of a far future, and waits for sessions to end; by default Kafka takes one, an hour, and 6 s at least. */
const config = [
  `message.max.bytes=${8 * 1024 * 1024}`,
  'group.min.session.timeout.ms=1000',
  'log.message.timestamp.after.max.ms=9223372036854775807',
];
/** What publishRaw has made sure of. */
const topics = new Map<string, Promise<void>>();
let own: ProxiedKafka;
/** Beside the proxy: what foreign programs do. */
let admin: Admin;
let producer: Producer;
let reader: KafkaTopicReader;

function ensureTopic(topic: string, numPartitions = partitions): Promise<void> {
  const ensured = topics.get(topic) ?? createTopic(admin, topic, numPartitions);
  topics.set(topic, ensured);
  return ensured;
}

// A broker is started, which takes longer on a busy machine than a hook may by default.
vi.setConfig({ hookTimeout: 240_000 });

driverContract({
  name: 'kafka',
  capabilities: kafkaCapabilities,
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
    // The first group that is asked for makes the topic of all groups, which takes a moment.
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
        // No topic here has so many: whoever answers there is told that nobody listens.
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
  deadLetterSource: (source) => `${source}.dlq`,
  waiting: async (topic) => {
    const records = await reader.records(topic);
    if (records.length === 0) return 0;
    const committed = await committedOffsets(admin, topic, topic);
    return records.filter(({ partition, offset }) => offset >= (committed.get(partition) ?? 0)).length;
  },
  impatient,
  // A connection that comes back at once costs a member of a group nothing. So it stays away until others would have its partitions.
  dropConnections: async () => {
    own.proxy.breakOff();
    await sleep(soonMs + 500);
    own.proxy.restore();
  },
  forgedReplyAddresses: (topic) => [topic, 'no.such.topic.reply', '__consumer_offsets', 'x'.repeat(10_000)],
  deserted,
  oneAtATime: {},
  withPriority: {},
  propertiesOf: () => ({ appId: undefined, persistent: undefined }),
  close: async () => {
    await Promise.all([admin.disconnect(), producer.disconnect(), reader.close()]);
    await own.close();
  },
});
