import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';
import { order } from './order.mjs';

const keys = 1_000;
const fillBatch = 1_000;
const pollMs = 50;
const settleTimeoutMs = 10_000;

/**
 * How long a fetch without records waits: stork's default. With kafkajs's default of five seconds closing a
 * consumer would take that long.
 */
export const fetchWaitMs = 250;

/** The key of the i-th message. */
export function keyOf(i) {
  return `k-${i % keys}`;
}

/** Manages the topic of a subject, by a client that takes no part in the measurement. */
export class Topic {
  /** Also the prefix of the names of its retry, dead letter and reply topics and of its groups. */
  name;
  #partitions;
  #admin;
  #producer;
  #written = 0;

  static async open(brokers, subject, partitions) {
    const topic = new Topic();
    topic.name = `bench.${subject}.${randomUUID().slice(0, 8)}`;
    topic.#partitions = partitions;
    const kafka = new Kafka({ brokers, clientId: topic.name, logLevel: logLevel.ERROR });
    topic.#admin = kafka.admin();
    topic.#producer = kafka.producer({ allowAutoTopicCreation: false });
    await topic.#admin.connect();
    await topic.#producer.connect();
    await topic.create(topic.name);
    return topic;
  }

  async create(name) {
    await this.#admin.createTopics({
      waitForLeaders: true,
      topics: [{ topic: name, numPartitions: this.#partitions, replicationFactor: 1 }],
    });
  }

  /** Fills the topic, all partitions equally. All subjects get the headers that stork's client writes. */
  async fill(messages) {
    for (let first = 0; first < messages; first += fillBatch) {
      const count = Math.min(fillBatch, messages - first);
      const batch = Array.from({ length: count }, (_, i) => this.#record(first + i));
      await this.#producer.send({ topic: this.name, messages: batch });
    }
    this.#written += messages;
    globalThis.gc();
  }

  /**
   * Called before a consumer is closed: waits until its group has committed the end offsets, after the last
   * handler has ended. Throws if it never does.
   */
  async settled(group) {
    const deadline = performance.now() + settleTimeoutMs;
    for (;;) {
      const left = (await this.#end(this.name)) - (await this.#committed(group));
      if (left === 0) return;
      if (performance.now() > deadline)
        throw new Error(`counts do not add up: ${group} has not committed ${left} messages of ${this.name}`);
      await setTimeout(pollMs);
    }
  }

  /**
   * Throws unless the topic holds the filled messages and `messages` more, which the subject has published.
   */
  async expect(messages) {
    this.#written += messages;
    const end = await this.#end(this.name);
    if (end !== this.#written)
      throw new Error(`counts do not add up: ${end} messages in ${this.name}, not ${this.#written}`);
  }

  /** Throws if the retry or dead letter topic with that suffix holds a record. */
  async expectNone(suffix) {
    const name = `${this.name}${suffix}`;
    if (!(await this.#admin.listTopics()).includes(name)) return;
    const end = await this.#end(name);
    if (end > 0) throw new Error(`counts do not add up: ${end} messages in ${name}`);
  }

  async delete() {
    await this.#producer.disconnect();
    const mine = (name) => name.startsWith(this.name);
    await this.#admin.deleteTopics({ topics: (await this.#admin.listTopics()).filter(mine) });
    const { groups } = await this.#admin.listGroups();
    await this.#admin.deleteGroups(groups.map(({ groupId }) => groupId).filter(mine));
    await this.#admin.disconnect();
  }

  #record(i) {
    return {
      key: keyOf(i),
      partition: (i % keys) % this.#partitions,
      value: JSON.stringify(order(i)),
      headers: { 'stork-message-id': randomUUID(), 'content-type': 'application/json' },
    };
  }

  async #end(name) {
    const ends = await this.#admin.fetchTopicOffsets(name);
    return ends.reduce((sum, { offset }) => sum + Number(offset), 0);
  }

  async #committed(groupId) {
    const [{ partitions }] = await this.#admin.fetchOffsets({ groupId, topics: [this.name] });
    return partitions.reduce((sum, { offset }) => sum + Math.max(Number(offset), 0), 0);
  }
}
