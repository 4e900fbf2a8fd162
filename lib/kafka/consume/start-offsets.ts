import { backoffMs, type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import type { Counters } from '../../core/runtime/counters.js';
import { messageOf } from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import { nameOf, type KafkaClient, type KafkaConsumer, type TopicPartition } from '../client/client.js';
import { encodeCommit } from './commit-metadata.js';
import type { OffsetCommitter } from './offset-committer.js';
import type { OwnedPartition } from './owned-partition.js';
import { chooseStart, type StartOffset } from './choose-start-offset.js';

/** What it takes to find out where partitions begin, and to have them begin there. */
export interface PartitionStartsFields {
  readonly client: Pick<KafkaClient, 'admin'>;
  readonly consumer: Pick<KafkaConsumer, 'committed' | 'commit' | 'seek'>;
  readonly committer: Pick<OffsetCommitter, 'note'>;
  readonly fromBeginning: boolean;
  /** True for a topic that was made after we began: nothing in it is old. */
  readonly isNewTopic: (topic: string) => boolean;
  /** Whether it is a retry topic of one of our sources. */
  readonly isRetryTopic: (topic: string) => boolean;
  readonly reconnect: BackoffOptions;
  readonly name: string;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  /** Whether the sink takes more. */
  readonly isFlowing: () => boolean;
  readonly resume: (partition: OwnedPartition) => void;
  /** Ends it, and gives one that stands for the same partition and has not started. */
  readonly replace: (old: OwnedPartition) => OwnedPartition;
  /** Aborts with the membership. */
  readonly signal: AbortSignal;
}

/** Where partitions begin: when they are assigned, when retention was faster than we, and when another log has their name. */
export class StartOffsets {
  readonly #fields: PartitionStartsFields;

  constructor(fields: PartitionStartsFields) {
    this.#fields = fields;
  }

  /** Finds out where each begins, commits what was chosen, and reads. Tries until they begin or are lost. */
  async begin(topic: string, partitions: readonly OwnedPartition[]): Promise<void> {
    const { consumer, clock, reconnect, random, logger, name, isFlowing, resume, signal } = this.#fields;
    for (let attempt = 1; partitions.some(({ session }) => session.isActive); attempt++) {
      try {
        const starts = await this.#chooseStarts(topic, partitions);
        for (const [partition, start] of starts) {
          if (!partition.session.isActive) continue;
          this.#noteLost(partition, start.lost, start.offset);
          partition.start(start);
          consumer.seek(partition, start.offset);
          if (isFlowing()) resume(partition);
        }
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (attempt === 1)
          logger.warn(`${name}: where to read ${topic} is not known yet: ${messageOf(error)}`);
        await sleep(clock, backoffMs(attempt, reconnect, random), signal);
      }
    }
  }

  /** Retention was faster than we, or another log has the name now. What is left is read from its beginning. */
  async beginWithin(partition: OwnedPartition): Promise<void> {
    const { client, consumer } = this.#fields;
    const ends = await client.admin.ends(partition.topic);
    const mine = ends.find((one) => one.partition === partition.partition);
    if (mine === undefined || !partition.session.isActive) return;
    const { position } = partition;
    if (position > mine.high) return this.#beginAnew(partition, mine.low, ends.length);
    if (position >= mine.low) return consumer.seek(partition, position);
    this.#noteLost(partition, mine.low - position, mine.low);
    partition.jump(mine.low);
    consumer.seek(partition, mine.low);
  }

  async #chooseStarts(
    topic: string,
    partitions: readonly OwnedPartition[],
  ): Promise<ReadonlyMap<OwnedPartition, StartOffset>> {
    const { client, consumer, fromBeginning, isNewTopic, isRetryTopic } = this.#fields;
    const ends = await client.admin.ends(topic);
    const committed = await consumer.committed(
      topic,
      ends.map(({ partition }) => partition),
    );
    const starts = new Map<OwnedPartition, StartOffset>();
    for (const partition of partitions) {
      const mine = ends.find((one) => one.partition === partition.partition);
      if (mine === undefined) throw new Error(`the broker does not know partition ${partition.partition}`);
      const start = chooseStart({
        partition: partition.partition,
        ends: mine,
        committed,
        partitions: ends.length,
        // What waits for another run was handled here before.
        fromBeginning: fromBeginning || isRetryTopic(topic),
        isNewTopic: isNewTopic(topic),
      });
      starts.set(partition, start);
    }
    const chosen = [...starts].filter(([{ session }, { metadata }]) => session.isActive && metadata === null);
    if (chosen.length > 0) {
      // At once: what comes before the first settlement must not be skipped by whoever starts after us.
      const commits = chosen.map(([{ partition }, { offset, knownPartitions }]) => {
        const { metadata } = encodeCommit({ offset, settled: [], partitions: knownPartitions });
        return { topic, partition, offset, metadata };
      });
      await consumer.commit(commits);
    }
    return starts;
  }

  #beginAnew(old: OwnedPartition, offset: number, knownPartitions: number): void {
    const { consumer, committer, logger, name, replace, resume } = this.#fields;
    logger.warn(
      `${name}: ${nameOf(old)} is another log now and is read from its beginning, offset ${offset}`,
    );
    const partition = replace(old);
    partition.start({ offset, metadata: null, knownPartitions, lost: 0 });
    consumer.seek(partition, offset);
    resume(partition);
    committer.note('now');
  }

  #noteLost(at: TopicPartition, lost: number, offset: number): void {
    if (lost === 0) return;
    const { logger, counters, name } = this.#fields;
    counters.add('offset-out-of-range', lost);
    logger.error(
      `${name}: ${lost} records of ${nameOf(at)} were deleted by retention before they were read; it goes on at ${offset}`,
    );
  }
}
