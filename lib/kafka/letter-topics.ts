import { marksTopic } from '../core/letter-marks.js';
import { retryTopic } from '../core/log-records.js';
import type { KafkaAdmin, PartitionEnds, TopicToCreate } from './client.js';
import { retryConfig } from './companions.js';
import type { LetterPlace } from './letter-place.js';
import type { WritableTopic } from './letter-records.js';

export interface LetterTopicsFields {
  readonly place: LetterPlace;
  readonly admin: KafkaAdmin;
  readonly topology: { declareTopic(wanted: Omit<TopicToCreate, 'replicationFactor'>): Promise<void> };
}

/** The topics beside the letters' own; made when they are first needed. */
export class LetterTopics {
  readonly marksName: string;
  readonly #fields: LetterTopicsFields;
  #marks: Promise<WritableTopic> | undefined;
  #replays: Promise<WritableTopic | undefined> | undefined;

  constructor(fields: LetterTopicsFields) {
    this.#fields = fields;
    this.marksName = marksTopic(fields.place.from);
  }

  /** Where each partition of a topic begins and ends, the first partition first; none where there is no such topic. */
  async ends(topic: string): Promise<readonly PartitionEnds[]> {
    const { admin } = this.#fields;
    if (!(await admin.partitionCounts([topic])).has(topic)) return [];
    return (await admin.ends(topic)).toSorted((a, b) => a.partition - b.partition);
  }

  /** Where it is remembered which letters are done with. */
  marks(): Promise<WritableTopic> {
    this.#marks ??= this.#declareMarks();
    return this.#marks;
  }

  /** Where the group takes back what it failed; undefined where the source is gone. */
  replays(): Promise<WritableTopic | undefined> {
    this.#replays ??= this.#declareReplays();
    return this.#replays;
  }

  async #declareMarks(): Promise<WritableTopic> {
    const { 'retention.ms': retention = '-1' } = await this.#configOf(this.#fields.place.from);
    const config = { 'cleanup.policy': 'compact,delete', 'retention.ms': retention };
    await this.#fields.topology.declareTopic({ topic: this.marksName, partitions: 1, config });
    return (await this.#find(this.marksName))!;
  }

  async #declareReplays(): Promise<WritableTopic | undefined> {
    const { source, group } = this.#fields.place;
    const topic = retryTopic(source, group, 0);
    const found = await this.#find(topic);
    if (found !== undefined) return found;
    const like = await this.#find(source);
    if (like === undefined) return undefined;
    const { 'max.message.bytes': largest } = await this.#configOf(source);
    const config = retryConfig(0, largest === undefined ? undefined : Number(largest));
    await this.#fields.topology.declareTopic({ topic, partitions: like.partitions, config });
    return this.#find(topic);
  }

  async #find(topic: string): Promise<WritableTopic | undefined> {
    const partitions = (await this.#fields.admin.partitionCounts([topic])).get(topic);
    return partitions === undefined ? undefined : { topic, partitions };
  }

  /** Without the right to look, the broker's defaults must do. */
  #configOf(topic: string): Promise<Readonly<Record<string, string>>> {
    return this.#fields.admin.topicConfig(topic).catch(() => ({}));
  }
}
