import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Admin, type Kafka } from 'kafkajs';
import { toClientError } from './errors.js';
import {
  KafkaClientError,
  type KafkaAdmin,
  type PartitionOffsets,
  type TopicToCreate,
} from '../client/client.js';
import { fewRetries, ignoringErrors, mapErrors } from './common.js';

/**
 * Long, because after a CreateTopics timeout it is unknown whether the controller still creates the topic.
 */
const creationLimitMs = 20_000;
const creationPollMs = 50;

export class KafkaJsAdmin implements KafkaAdmin {
  readonly #kafka: Kafka;
  #admin: Admin;
  #replacing: Promise<void> | undefined;
  #isClosed = false;

  constructor(kafka: Kafka) {
    this.#kafka = kafka;
    this.#admin = kafka.admin({ retry: fewRetries });
  }

  connect(): Promise<void> {
    return mapErrors(this.#admin.connect());
  }

  async clusterId(): Promise<string> {
    return (await mapErrors(this.#admin.describeCluster())).clusterId;
  }

  async advertisedAddresses(): Promise<readonly string[]> {
    const { brokers } = await mapErrors(this.#admin.describeCluster());
    return brokers.map(({ host, port }) => `${host}:${port}`);
  }

  topicNames(): Promise<readonly string[]> {
    return mapErrors(this.#admin.listTopics());
  }

  async partitionCounts(topics: readonly string[]): Promise<ReadonlyMap<string, number>> {
    if (topics.length === 0) return new Map();
    const counts = new Map<string, number>();
    for (const { name, partitions } of await this.#describe(topics)) {
      if (topics.includes(name)) counts.set(name, partitions.length);
    }
    return counts;
  }

  async createTopics(topics: readonly TopicToCreate[]): Promise<void> {
    for (const { topic, partitions, replicationFactor = -1, config } of topics) {
      const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
      const toCreate = { topic, numPartitions: partitions, replicationFactor, configEntries };
      const create = (): Promise<unknown> =>
        mapErrors(
          this.#admin.createTopics({ topics: [toCreate], waitForLeaders: false, timeout: creationLimitMs }),
        );
      await this.#withFreshMetadata(create);
      await this.#untilLeadersKnown(topic);
    }
  }

  async fetchOffsets(topic: string): Promise<readonly PartitionOffsets[]> {
    const counts = await this.partitionCounts([topic]);
    let ends = await this.#admin.fetchTopicOffsets(topic).catch(() => []);
    if (ends.length === 0 || ends.length < (counts.get(topic) ?? 0)) {
      await this.#replaceAdmin();
      ends = await mapErrors(this.#admin.fetchTopicOffsets(topic));
    }
    return ends.map(({ partition, low, high }) => ({ partition, low: Number(low), high: Number(high) }));
  }

  async topicConfig(topic: string): Promise<Readonly<Record<string, string>>> {
    const topicType = kafkajs.ConfigResourceTypes.TOPIC;
    const { resources } = await mapErrors(
      this.#admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: topicType, name: topic }],
      }),
    );
    const entries = resources.flatMap(({ configEntries }) => configEntries);
    return Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue]));
  }

  async deleteGroup(group: string): Promise<void> {
    await mapErrors(this.#admin.deleteGroups([group]));
  }

  async memberCount(group: string): Promise<number> {
    const { groups } = await mapErrors(this.#admin.describeGroups([group]));
    return groups.reduce((count, { members }) => count + members.length, 0);
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return ignoringErrors(this.#admin.disconnect());
  }

  /**
   * Waits until each partition of a new topic has a leader. The metadata reaches the brokers after the
   * controller has confirmed the topic; until then kafkajs's `waitForLeaders` fails.
   */
  async #untilLeadersKnown(topic: string): Promise<void> {
    for (const until = Date.now() + creationLimitMs; ; await sleep(creationPollMs)) {
      try {
        // ListOffsets is answered by the leader of each partition.
        return void (await this.#withFreshMetadata(() => mapErrors(this.#admin.fetchTopicOffsets(topic))));
      } catch (error) {
        // Without permission to describe the topic, its leaders cannot be determined.
        if ((error as KafkaClientError).failure === 'refused') return;
        if (this.#isClosed || Date.now() > until) throw error;
      }
    }
  }

  /** Retries with a new admin: a deleted topic stays in a kafkajs admin's requests and fails them all. */
  async #withFreshMetadata<T>(request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof KafkaClientError) || error.failure !== 'unknown-topic') throw error;
      await this.#replaceAdmin();
      return request();
    }
  }

  /** A kafkajs admin never refreshes its metadata. Parallel calls share one replacement. */
  #replaceAdmin(): Promise<void> {
    this.#replacing ??= this.#openNewAdmin().finally(() => {
      this.#replacing = undefined;
    });
    return this.#replacing;
  }

  async #openNewAdmin(): Promise<void> {
    if (this.#isClosed) throw new KafkaClientError('unavailable', 'the client is closed');
    const fresh = this.#kafka.admin({ retry: fewRetries });
    await mapErrors(fresh.connect());
    const old = this.#admin;
    this.#admin = fresh;
    // Not awaited: requests of other callers may still be in flight on it.
    void ignoringErrors(old.disconnect());
    if (this.#isClosed) await ignoringErrors(fresh.disconnect());
  }

  /** Metadata of at least these topics. One missing topic fails the request: then all are listed. */
  async #describe(topics: readonly string[]) {
    try {
      return (await this.#admin.fetchTopicMetadata({ topics: [...topics] })).topics;
    } catch (error) {
      const isMissing = toClientError(error, 'unavailable').failure === 'unknown-topic';
      // kafkajs throws a TypeError if no broker answered: it reads a property of null.
      if (!isMissing && !(error instanceof TypeError)) throw toClientError(error, 'unavailable');
      return (await mapErrors(this.#admin.fetchTopicMetadata())).topics;
    }
  }
}
