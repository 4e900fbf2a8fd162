import { Kafka, PartitionAssigners, type Cluster, type IHeaders } from 'kafkajs';
import { untilDone } from './kafka-topics.js';

export interface StoredRecord {
  readonly partition: number;
  readonly offset: number;
  readonly timestamp: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: IHeaders;
}

/** As kafkajs decodes it; its types do not declare it. */
interface FetchResponse {
  readonly responses: readonly {
    readonly partitions: readonly {
      readonly partition: number;
      readonly highWatermark: string;
      readonly messages: readonly {
        readonly offset: string;
        readonly timestamp: string;
        readonly key: Buffer | null;
        readonly value: Buffer | null;
        readonly headers: IHeaders;
        readonly isControlRecord: boolean;
      }[];
    }[];
  }[];
}

interface Topic {
  readonly records: StoredRecord[];
  /** The next offset of each partition. */
  readonly next: Map<number, number>;
}

/**
 * Reads topics without a group. Read records are cached, so that the next call sends one request that returns
 * only new ones. kafkajs exposes its cluster only to a partition assigner, which gets it when a consumer is
 * created.
 */
export class KafkaTopicReader {
  readonly #consumer;
  readonly #topics = new Map<string, Topic>();
  /** Two concurrent fetches would cache the same records twice. */
  readonly #underWay = new Map<string, Promise<readonly StoredRecord[]>>();
  #cluster!: Cluster;

  constructor(kafka: Kafka) {
    this.#consumer = kafka.consumer({
      groupId: 'never-joined',
      allowAutoTopicCreation: false,
      partitionAssigners: [
        (config) => {
          this.#cluster = config.cluster;
          return PartitionAssigners.roundRobin(config);
        },
      ],
    });
  }

  async connect(): Promise<void> {
    await this.#consumer.connect();
  }

  async close(): Promise<void> {
    await this.#consumer.disconnect();
  }

  /** Every record, oldest first, those of aborted transactions too; none if the topic does not exist. */
  records(topic: string): Promise<readonly StoredRecord[]> {
    const before = this.#underWay.get(topic);
    if (before !== undefined) return before;
    const reading = this.#readUntilDone(topic).finally(() => this.#underWay.delete(topic));
    this.#underWay.set(topic, reading);
    return reading;
  }

  /** A new leader refuses for a moment, and the leader may have changed since the metadata was fetched. */
  #readUntilDone(name: string): Promise<readonly StoredRecord[]> {
    let isRepeated = false;
    return untilDone(async () => {
      if (isRepeated) await this.#cluster.refreshMetadata();
      isRepeated = true;
      return this.#read(name);
    });
  }

  async #read(name: string): Promise<readonly StoredRecord[]> {
    const topic = await this.#find(name);
    if (topic === undefined) return [];
    const count = topic.records.length;
    try {
      const leaders = this.#cluster.findLeaderForPartitions(name, [...topic.next.keys()]);
      for (const [nodeId, partitions] of Object.entries(leaders))
        while (await this.#fetch(name, topic, nodeId, partitions));
    } finally {
      if (topic.records.length > count) topic.records.sort(byAge);
    }
    return topic.records;
  }

  async #find(name: string): Promise<Topic | undefined> {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    try {
      await this.#cluster.addTargetTopic(name);
    } catch (error) {
      if ((error as { type?: unknown }).type === 'UNKNOWN_TOPIC_OR_PARTITION') return undefined;
      throw error;
    }
    const partitions = this.#cluster.findTopicPartitionMetadata(name);
    const topic = { records: [], next: new Map(partitions.map(({ partitionId }) => [partitionId, 0])) };
    this.#topics.set(name, topic);
    return topic;
  }

  /** Whether there is more. */
  async #fetch(name: string, topic: Topic, nodeId: string, partitions: readonly number[]): Promise<boolean> {
    const broker = await this.#cluster.findBroker({ nodeId });
    const asked = partitions.map((partition) => ({
      partition,
      fetchOffset: String(topic.next.get(partition)),
      maxBytes: 16 * 1024 * 1024,
    }));
    const request = { maxWaitTime: 0, minBytes: 0, maxBytes: 64 * 1024 * 1024 };
    const response = (await broker.fetch({
      ...request,
      topics: [{ topic: name, partitions: asked }],
    })) as FetchResponse;
    let isMore = false;
    for (const { partition, highWatermark, messages } of response.responses.flatMap(
      (each) => each.partitions,
    )) {
      let next = topic.next.get(partition)!;
      // A batch comes as a whole, even where only its last records were asked for.
      for (const { offset, timestamp, key, value, headers, isControlRecord } of messages) {
        if (Number(offset) < next) continue;
        next = Number(offset) + 1;
        if (isControlRecord) continue;
        topic.records.push({
          partition,
          offset: Number(offset),
          timestamp: Number(timestamp),
          key,
          value,
          headers,
        });
      }
      isMore ||= next > topic.next.get(partition)! && next < Number(highWatermark);
      topic.next.set(partition, next);
    }
    return isMore;
  }
}

function byAge(a: StoredRecord, b: StoredRecord): number {
  return a.timestamp - b.timestamp || a.partition - b.partition || a.offset - b.offset;
}
