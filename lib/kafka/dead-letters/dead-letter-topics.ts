import { markersTopic } from '../../driver-kit/log/dead-letter-markers.js';
import { retryTopic } from '../../driver-kit/log/topic-names.js';
import { replayDelayMs } from '../../driver-kit/log/retry-topic-delays.js';
import type { KafkaAdmin, PartitionEnds } from '../client/client.js';
import { retryConfig } from '../topics/managed-topics.js';
import type { KafkaDeadLetterLocation } from './dead-letter-location.js';
import type { WritableTopic } from './dead-letter-records.js';
import type { Topology, WantedTopic } from '../topics/topology.js';

export interface DeadLetterTopicsFields {
  readonly place: KafkaDeadLetterLocation;
  readonly admin: KafkaAdmin;
  readonly topology: Pick<Topology, 'declareTopic' | 'partitionsOf'>;
}

/** The topics beside the letters' own, made when they are first needed. */
export class DeadLetterTopics {
  readonly marksName: string;
  readonly #fields: DeadLetterTopicsFields;
  #marks: Promise<WritableTopic> | undefined;
  #replays: Promise<WritableTopic | undefined> | undefined;

  constructor(fields: DeadLetterTopicsFields) {
    this.#fields = fields;
    this.marksName = markersTopic(fields.place.from);
  }

  /** Where each partition of the letters begins and ends, the first partition first. */
  async deadLetterEndOffsets(): Promise<readonly PartitionEnds[]> {
    const ends = await this.#fields.admin.ends(this.#fields.place.from);
    return ends.toSorted((a, b) => a.partition - b.partition);
  }

  /** The same of the marks; none where there is no such topic yet. @throws StorkConfigError where we may not know */
  async markEnds(): Promise<readonly PartitionEnds[]> {
    const { topology, admin } = this.#fields;
    const isThere = (await topology.partitionsOf(await this.#wantedMarks())) !== undefined;
    return isThere ? admin.ends(this.marksName) : [];
  }

  /** Where it is remembered which letters are done with. */
  marks(): Promise<WritableTopic> {
    this.#marks ??= this.#declare(this.#wantedMarks());
    return this.#marks;
  }

  /** Where the group takes back what it failed; undefined where the source is gone. */
  replays(): Promise<WritableTopic | undefined> {
    this.#replays ??= this.#declareReplays();
    return this.#replays;
  }

  async #declareReplays(): Promise<WritableTopic | undefined> {
    const { source, group } = this.#fields.place;
    const topic = retryTopic(source, group, replayDelayMs);
    const partitions = (await this.#fields.admin.partitionCounts([source])).get(source);
    const { 'max.message.bytes': largest } = partitions === undefined ? {} : await this.#configOf(source);
    const config = retryConfig(replayDelayMs, largest === undefined ? undefined : Number(largest));
    const wanted = { topic, partitions: partitions ?? 1, config };
    if (partitions !== undefined) return this.#declare(Promise.resolve(wanted));
    const found = await this.#fields.topology.partitionsOf(wanted);
    return found === undefined ? undefined : { topic, partitions: found };
  }

  /** It may be there already, and have another number of partitions. */
  async #declare(asked: Promise<WantedTopic>): Promise<WritableTopic> {
    const wanted = await asked;
    const { topology } = this.#fields;
    await topology.declareTopic(wanted);
    return { topic: wanted.topic, partitions: (await topology.partitionsOf(wanted)) ?? wanted.partitions };
  }

  /** A mark lives as long as its letter. */
  async #wantedMarks(): Promise<WantedTopic> {
    const { 'retention.ms': retention = '-1' } = await this.#configOf(this.#fields.place.from);
    const config = { 'cleanup.policy': 'compact,delete', 'retention.ms': retention };
    return { topic: this.marksName, partitions: 1, config };
  }

  /** Without the right to look, the broker's defaults must do. */
  #configOf(topic: string): Promise<Readonly<Record<string, string>>> {
    return this.#fields.admin.topicConfig(topic).catch(() => ({}));
  }
}
