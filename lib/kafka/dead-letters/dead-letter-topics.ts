import { markersTopic } from '../../driver-kit/log/dead-letter-markers.js';
import { retryTopic } from '../../driver-kit/log/topic-names.js';
import { replayDelayMs } from '../../driver-kit/log/retry-topic-delays.js';
import type { KafkaAdmin, PartitionOffsets } from '../client/client.js';
import { retryTopicConfig } from '../topics/managed-topics.js';
import type { KafkaDeadLetterLocation } from './dead-letter-location.js';
import type { TargetTopic } from './dead-letter-records.js';
import type { TopicDefinition, Topology } from '../topics/topology.js';

export interface DeadLetterTopicsFields {
  readonly location: KafkaDeadLetterLocation;
  readonly admin: KafkaAdmin;
  readonly topology: Pick<Topology, 'declareTopic' | 'partitionsOf'>;
}

/**
 * Topics of a dead letter store: the dead letter topic; its markers topic, which records what was replayed
 * or discarded; and the replay topic, the retry topic without delay that returns dead letters to their
 * group. The last two are created on first use. Results are cached, so an instance serves one scan.
 */
export class DeadLetterTopics {
  readonly markersTopic: string;
  readonly #fields: DeadLetterTopicsFields;
  #declaredMarkersTopic: Promise<TargetTopic> | undefined;
  #declaredReplayTopic: Promise<TargetTopic | undefined> | undefined;

  constructor(fields: DeadLetterTopicsFields) {
    this.#fields = fields;
    this.markersTopic = markersTopic(fields.location.from);
  }

  /** Low and high offsets of the dead letter topic, ordered by partition. */
  async deadLetterOffsets(): Promise<readonly PartitionOffsets[]> {
    const ends = await this.#fields.admin.fetchOffsets(this.#fields.location.from);
    return ends.toSorted((a, b) => a.partition - b.partition);
  }

  /**
   * Low and high offsets of the markers topic; empty if it does not exist yet.
   *
   * @throws StorkConfigError if the topic may not be described
   */
  async markerOffsets(): Promise<readonly PartitionOffsets[]> {
    const { topology, admin } = this.#fields;
    const partitions = await topology.partitionsOf(await this.#markersDefinition());
    return partitions === undefined ? [] : admin.fetchOffsets(this.markersTopic);
  }

  declareMarkersTopic(): Promise<TargetTopic> {
    this.#declaredMarkersTopic ??= this.#declare(this.#markersDefinition());
    return this.#declaredMarkersTopic;
  }

  /** Undefined if neither the source topic nor the replay topic exists. */
  declareReplayTopic(): Promise<TargetTopic | undefined> {
    this.#declaredReplayTopic ??= this.#declareReplayTopic();
    return this.#declaredReplayTopic;
  }

  async #declareReplayTopic(): Promise<TargetTopic | undefined> {
    const { source, group } = this.#fields.location;
    const topic = retryTopic(source, group, replayDelayMs);
    const partitions = (await this.#fields.admin.partitionCounts([source])).get(source);
    const { 'max.message.bytes': maxBytes } = partitions === undefined ? {} : await this.#configOf(source);
    const config = retryTopicConfig(replayDelayMs, maxBytes === undefined ? undefined : Number(maxBytes));
    const definition = { topic, partitions: partitions ?? 1, config };
    if (partitions !== undefined) return this.#declare(Promise.resolve(definition));
    const existing = await this.#fields.topology.partitionsOf(definition);
    return existing === undefined ? undefined : { topic, partitions: existing };
  }

  /** The topic may exist already, with another partition count than the definition. */
  async #declare(defining: Promise<TopicDefinition>): Promise<TargetTopic> {
    const definition = await defining;
    const { topology } = this.#fields;
    await topology.declareTopic(definition);
    const partitions = (await topology.partitionsOf(definition)) ?? definition.partitions;
    return { topic: definition.topic, partitions };
  }

  /** Has the dead letter topic's retention: with an earlier expired marker, a dead letter would reappear. */
  async #markersDefinition(): Promise<TopicDefinition> {
    const { 'retention.ms': retention = '-1' } = await this.#configOf(this.#fields.location.from);
    const config = { 'cleanup.policy': 'compact,delete', 'retention.ms': retention };
    return { topic: this.markersTopic, partitions: 1, config };
  }

  /** Empty without permission to describe the configuration: the defaults apply. */
  #configOf(topic: string): Promise<Readonly<Record<string, string>>> {
    return this.#fields.admin.topicConfig(topic).catch(() => ({}));
  }
}
