import { backoffMs, type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import type { Counters, StorkLogger } from '../../core/runtime/reporting.js';
import { messageOf } from '../../core/runtime/errors.js';
import {
  partitionName,
  type KafkaClient,
  type KafkaConsumer,
  type TopicPartition,
} from '../client/client.js';
import { encodeCommit } from './commit-metadata.js';
import type { OffsetCommitter } from './offset-committer.js';
import type { OwnedPartition } from './owned-partition.js';
import { chooseStartOffset, type StartOffset } from './choose-start-offset.js';

export interface StartOffsetsFields {
  readonly client: Pick<KafkaClient, 'admin'>;
  readonly consumer: Pick<KafkaConsumer, 'committed' | 'commit' | 'seek'>;
  readonly committer: Pick<OffsetCommitter, 'scheduleCommit'>;
  readonly fromBeginning: boolean;
  /** True for a topic that was created after this consumer started: all of its records are new. */
  readonly createdAfterStart: (topic: string) => boolean;
  /** Whether the topic is a retry topic of a consumed source. */
  readonly isRetryTopic: (topic: string) => boolean;
  readonly reconnect: BackoffOptions;
  readonly name: string;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  /** False while the sink is paused. */
  readonly isFlowing: () => boolean;
  readonly resume: (partition: OwnedPartition) => void;
  /** Ends the assignment, and returns a new one of the same partition that has not started. */
  readonly replace: (old: OwnedPartition) => OwnedPartition;
  /** Aborts when the membership ends. */
  readonly signal: AbortSignal;
}

/** The offsets at which partitions start: after an assignment, and after a position became out of range. */
export class StartOffsets {
  readonly #fields: StartOffsetsFields;

  constructor(fields: StartOffsetsFields) {
    this.#fields = fields;
  }

  /** Chooses, commits and seeks the start offsets of new partitions. Retries until they are revoked. */
  async initialize(topic: string, partitions: readonly OwnedPartition[]): Promise<void> {
    const { consumer, clock, reconnect, random, logger, name, isFlowing, resume, signal } = this.#fields;
    for (let attempt = 1; partitions.some(({ assignment }) => assignment.isActive); attempt++) {
      try {
        const starts = await this.#chooseAndCommit(topic, partitions);
        for (const [partition, start] of starts) {
          if (!partition.assignment.isActive) continue;
          this.#reportLost(partition, start.lost, start.offset);
          partition.start(start);
          consumer.seek(partition, start.offset);
          if (isFlowing()) resume(partition);
        }
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (attempt === 1)
          logger.warn(
            `${name}: the start offsets of ${topic} cannot be determined yet, retrying: ${messageOf(error)}`,
          );
        await sleep(clock, backoffMs(attempt, reconnect, random), signal);
      }
    }
  }

  /**
   * After retention deleted the position, or the topic was created again: continues at the earliest offset.
   */
  async recoverOutOfRange(partition: OwnedPartition): Promise<void> {
    const { client, consumer } = this.#fields;
    const ends = await client.admin.fetchOffsets(partition.topic);
    const own = ends.find((one) => one.partition === partition.partition);
    if (own === undefined || !partition.assignment.isActive) return;
    const { position } = partition;
    if (position > own.high) return this.#resetToEarliest(partition, own.low, ends.length);
    if (position >= own.low) return consumer.seek(partition, position);
    this.#reportLost(partition, own.low - position, own.low);
    partition.skipTo(own.low);
    consumer.seek(partition, own.low);
  }

  async #chooseAndCommit(
    topic: string,
    partitions: readonly OwnedPartition[],
  ): Promise<ReadonlyMap<OwnedPartition, StartOffset>> {
    const { client, consumer, fromBeginning, createdAfterStart, isRetryTopic } = this.#fields;
    const ends = await client.admin.fetchOffsets(topic);
    const committed = await consumer.committed(
      topic,
      ends.map(({ partition }) => partition),
    );
    const starts = new Map<OwnedPartition, StartOffset>();
    for (const partition of partitions) {
      const own = ends.find((one) => one.partition === partition.partition);
      if (own === undefined) throw new Error(`the broker does not know partition ${partition.partition}`);
      const start = chooseStartOffset({
        partition: partition.partition,
        ends: own,
        committed,
        partitions: ends.length,
        // Records of a retry topic are messages that the group has read before.
        fromBeginning: fromBeginning || isRetryTopic(topic),
        createdAfterStart: createdAfterStart(topic),
      });
      starts.set(partition, start);
    }
    const chosen = [...starts].filter(
      ([{ assignment }, { metadata }]) => assignment.isActive && metadata === null,
    );
    if (chosen.length > 0) {
      // Committed before the first record is settled: after a crash until then, the next owner would choose
      // the end offset at that time and skip what was written meanwhile.
      const commits = chosen.map(([{ partition }, { offset, partitionsAtFirstCommit }]) => {
        const { metadata } = encodeCommit({ offset, settled: [], partitions: partitionsAtFirstCommit });
        return { topic, partition, offset, metadata };
      });
      await consumer.commit(commits);
    }
    return starts;
  }

  #resetToEarliest(old: OwnedPartition, offset: number, partitionsAtFirstCommit: number): void {
    const { consumer, committer, logger, name, replace, resume } = this.#fields;
    logger.warn(
      `${name}: the log of ${partitionName(old)} ends before the consumer's position, as after the topic was deleted and ` +
        `created again; it is read from its beginning, offset ${offset}`,
    );
    const partition = replace(old);
    partition.start({ offset, metadata: null, partitionsAtFirstCommit, lost: 0 });
    consumer.seek(partition, offset);
    resume(partition);
    committer.scheduleCommit('now');
  }

  #reportLost(at: TopicPartition, lost: number, offset: number): void {
    if (lost === 0) return;
    const { logger, counters, name } = this.#fields;
    counters.add('offset-out-of-range', lost);
    logger.error(
      `${name}: ${lost} records of ${partitionName(at)} were deleted by retention before they were read; ` +
        `the consumer continues at offset ${offset}`,
    );
  }
}
