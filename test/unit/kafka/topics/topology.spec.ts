import { describe, expect, it } from 'vitest';
import { StorkConfigError } from '../../../../lib/core/runtime/errors.js';
import { KafkaClientError, type TopicToCreate } from '../../../../lib/kafka/client/client.js';
import { RetryTopics } from '../../../../lib/kafka/topics/retry-topics.js';
import { Topology, type TopologyFields } from '../../../../lib/kafka/topics/topology.js';
import { RecordingLogger } from '../../core/harness.js';

const retries = new RetryTopics('g', []);

interface Broker {
  /** Partitions by topic. */
  readonly topics: Map<string, number>;
  readonly config: Record<string, Record<string, string>>;
  readonly created: TopicToCreate[];
  mayCreate: boolean;
}

function newBench(topics: Record<string, number> = {}, fields: Partial<TopologyFields> = {}) {
  const broker: Broker = {
    topics: new Map(Object.entries(topics)),
    config: {},
    created: [],
    mayCreate: true,
  };
  const logger = new RecordingLogger();
  const admin = {
    partitionCounts: async (asked: readonly string[]) =>
      new Map([...broker.topics].filter(([topic]) => asked.includes(topic))),
    createTopics: async (wanted: readonly TopicToCreate[]) => {
      if (!broker.mayCreate) throw new KafkaClientError('refused', 'TOPIC_AUTHORIZATION_FAILED');
      for (const one of wanted) broker.topics.set(one.topic, one.partitions < 0 ? 4 : one.partitions);
      broker.created.push(...wanted);
    },
    topicConfig: async (topic: string) => broker.config[topic] ?? {},
  };
  const topology = new Topology({
    admin: admin as never,
    brokers: ['h:1'],
    name: 'main',
    partitions: undefined,
    replicationFactor: undefined,
    logger,
    ...fields,
  });
  return { broker, topology, logger };
}

describe('a source topic', () => {
  it('is created with its dead letter topic, which has as many partitions and accepts larger records', async () => {
    const { broker, topology } = newBench({}, { partitions: 3, replicationFactor: 2 });
    broker.config['orders'] = { 'max.message.bytes': '1000000' };
    await topology.declare(['orders'], retries);
    const deadLetters = {
      'cleanup.policy': 'delete',
      'retention.ms': '-1',
      'max.message.bytes': String(1_000_000 + 64 * 1024),
    };
    expect(broker.created.slice(0, 2)).toEqual([
      { topic: 'orders', partitions: 3, replicationFactor: 2, config: {} },
      { topic: 'orders.dlq', partitions: 3, replicationFactor: 2, config: deadLetters },
    ]);
    expect(topology.hasCreated('orders')).toBe(true);
  });

  it('that exists is not changed', async () => {
    const { broker, topology } = newBench({ orders: 7 });
    await topology.declare(['orders'], retries);
    expect(broker.created.map(({ topic, partitions }) => [topic, partitions])).toEqual([
      ['orders.dlq', 7],
      ['orders.retry.g.0', 7],
    ]);
    expect(topology.hasCreated('orders')).toBe(false);
  });

  it('that may not be created is reported with the command that creates it', async () => {
    const { broker, topology } = newBench({ known: 2 }, { partitions: 3, replicationFactor: 2 });
    broker.mayCreate = false;
    const error = await topology.declare(['orders', 'known'], retries).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(StorkConfigError);
    const { problems } = error as StorkConfigError;
    expect(problems.map(({ name }) => name.split(' ')[1])).toEqual([
      'orders',
      'known.dlq',
      'known.retry.g.0',
    ]);
    expect(problems[0]!.expected).toContain(
      'kafka-topics.sh --bootstrap-server h:1 --create --topic orders --partitions 3 --replication-factor 2',
    );
    expect(problems[1]!.expected).toContain('--config retention.ms=-1');
  });
});

describe('an existing dead letter topic', () => {
  const declared = async (config: Record<string, string>) => {
    const { broker, topology, logger } = newBench({ orders: 1, 'orders.dlq': 1, 'orders.retry.g.0': 1 });
    broker.config['orders'] = { 'max.message.bytes': '1000' };
    broker.config['orders.dlq'] = config;
    await topology.declare(['orders'], retries);
    expect(broker.created).toEqual([]);
    return logger.lines.join('\n');
  };

  it('that may lose dead letters is logged with the command that changes it', async () => {
    const logged = await declared({ 'retention.ms': '604800000', 'max.message.bytes': '1000' });
    expect(logged).toContain('kafka-configs.sh --bootstrap-server h:1 --alter --topic orders.dlq');
    expect(logged).toContain(`retention.ms=-1,max.message.bytes=${1_000 + 64 * 1024}`);
    expect(await declared({ 'cleanup.policy': 'compact' })).toContain('cleanup.policy=delete');
  });

  it('that keeps more is accepted', async () => {
    const config = { 'cleanup.policy': 'delete', 'retention.ms': '-1', 'max.message.bytes': '9000000' };
    expect(await declared(config)).toBe('');
    expect(await declared({})).toBe('');
  });
});

it('a reply topic has a retention of one hour; an existing one is not changed', async () => {
  const { broker, topology } = newBench();
  await topology.declareReplies('x.reply', 6);
  await topology.declareReplies('x.reply', 6);
  expect(broker.created).toMatchObject([
    { topic: 'x.reply', partitions: 6, config: { 'retention.ms': '3600000' } },
  ]);
});

it('a topic that is found later and may not get a dead letter topic is logged, not thrown', async () => {
  const { broker, topology, logger } = newBench({ late: 2 });
  broker.mayCreate = false;
  await topology.declareManagedTopics(['late'], retries);
  expect(logger.lines.join('\n')).toContain('--topic late.dlq --partitions 2');
});
