import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Admin, type Kafka } from 'kafkajs';
import { toClientError } from './client-errors.js';
import {
  KafkaClientError,
  type KafkaAdmin,
  type PartitionEnds,
  type TopicToCreate,
} from '../client/client.js';
import { asked, fewRetries, quietly } from './kafkajs-common.js';

/** A busy controller takes its time; told that it took too long, nobody knows whether the topic comes. */
const creationLimitMs = 20_000;
const creationPollMs = 50;

export class KafkaJsAdmin implements KafkaAdmin {
  readonly #kafka: Kafka;
  #admin: Admin;
  #renewing: Promise<void> | undefined;
  #isClosed = false;

  constructor(kafka: Kafka) {
    this.#kafka = kafka;
    this.#admin = kafka.admin({ retry: fewRetries });
  }

  connect(): Promise<void> {
    return asked(this.#admin.connect());
  }

  async clusterId(): Promise<string> {
    return (await asked(this.#admin.describeCluster())).clusterId;
  }

  async advertised(): Promise<readonly string[]> {
    const { brokers } = await asked(this.#admin.describeCluster());
    return brokers.map(({ host, port }) => `${host}:${port}`);
  }

  topicNames(): Promise<readonly string[]> {
    return asked(this.#admin.listTopics());
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
      const wanted = { topic, numPartitions: partitions, replicationFactor, configEntries };
      const create = (): Promise<unknown> =>
        asked(
          this.#admin.createTopics({ topics: [wanted], waitForLeaders: false, timeout: creationLimitMs }),
        );
      await this.#orRenewed(create);
      await this.#untilLed(topic);
    }
  }

  async ends(topic: string): Promise<readonly PartitionEnds[]> {
    const counts = await this.partitionCounts([topic]);
    let ends = await this.#admin.fetchTopicOffsets(topic).catch(() => []);
    if (ends.length === 0 || ends.length < (counts.get(topic) ?? 0)) {
      await this.#renew();
      ends = await asked(this.#admin.fetchTopicOffsets(topic));
    }
    return ends.map(({ partition, low, high }) => ({ partition, low: Number(low), high: Number(high) }));
  }

  async topicConfig(topic: string): Promise<Readonly<Record<string, string>>> {
    const topicType = kafkajs.ConfigResourceTypes.TOPIC;
    const { resources } = await asked(
      this.#admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: topicType, name: topic }],
      }),
    );
    const entries = resources.flatMap(({ configEntries }) => configEntries);
    return Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue]));
  }

  async deleteGroup(group: string): Promise<void> {
    await asked(this.#admin.deleteGroups([group]));
  }

  async members(group: string): Promise<number> {
    const { groups } = await asked(this.#admin.describeGroups([group]));
    return groups.reduce((count, { members }) => count + members.length, 0);
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return quietly(this.#admin.disconnect());
  }

  /** Brokers hear of a topic only after the controller has confirmed it; the client's own way of waiting fails for one that has not. */
  async #untilLed(topic: string): Promise<void> {
    for (const until = Date.now() + creationLimitMs; ; await sleep(creationPollMs)) {
      try {
        // Answered by the leader of each partition.
        return void (await this.#orRenewed(() => asked(this.#admin.fetchTopicOffsets(topic))));
      } catch (error) {
        // Whoever may not ask has nothing to wait for.
        if ((error as KafkaClientError).failure === 'refused') return;
        if (Date.now() > until) throw error;
      }
    }
  }

  /** A topic that was deleted stays among those that the client's admin asks for, and fails whatever it is asked. */
  async #orRenewed<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof KafkaClientError) || error.failure !== 'unknown-topic') throw error;
      await this.#renew();
      return ask();
    }
  }

  /** The client's admin never refreshes what it knows of leaders and partitions. */
  #renew(): Promise<void> {
    this.#renewing ??= this.#replaceAdmin().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #replaceAdmin(): Promise<void> {
    if (this.#isClosed) throw new KafkaClientError('unavailable', 'the client is closed');
    const fresh = this.#kafka.admin({ retry: fewRetries });
    await asked(fresh.connect());
    const old = this.#admin;
    this.#admin = fresh;
    // Others may still have an answer to come on it.
    void quietly(old.disconnect());
    if (this.#isClosed) await quietly(fresh.disconnect());
  }

  /** One missing topic fails the question for all of them; the list of everything fails for none. */
  async #describe(topics: readonly string[]) {
    try {
      return (await this.#admin.fetchTopicMetadata({ topics: [...topics] })).topics;
    } catch (error) {
      const isMissing = toClientError(error, 'unavailable').failure === 'unknown-topic';
      // Where no broker answered, the client reads fields of null.
      if (!isMissing && !(error instanceof TypeError)) throw toClientError(error, 'unavailable');
      return (await asked(this.#admin.fetchTopicMetadata())).topics;
    }
  }
}
