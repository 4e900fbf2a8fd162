import { messageOf, NoRouteError, PublishRejectedError } from '../../core/runtime/errors.js';
import { KafkaClientError } from '../client/client.js';
import type { PartitionBatcher, PendingRecord } from './partition-batcher.js';
import { isPartition, partitionBy, partitionOfKey, type Partitioner } from './partitioner.js';
import type { RetryBackoffs } from './retry-backoffs.js';
import { TopicAccumulator } from './topic-accumulator.js';
import type { TopicMetadataCache } from './topic-metadata-cache.js';

export interface RecordRouterFields {
  readonly topics: TopicMetadataCache;
  readonly partitioner?: Partitioner | undefined;
  readonly retryBackoffs: RetryBackoffs;
  readonly random: () => number;
  /** An idle batcher got its first record. */
  onReady(batcher: PartitionBatcher): void;
  reject(pending: readonly PendingRecord[], error: Error): void;
}

/** Appends each record to the batcher of its partition, once the partition count of its topic is known. */
export class RecordRouter {
  readonly #fields: RecordRouterFields;
  readonly #accumulators = new Map<string, TopicAccumulator>();
  #isStopped = false;

  constructor(fields: RecordRouterFields) {
    this.#fields = fields;
  }

  get accumulators(): Iterable<TopicAccumulator> {
    return this.#accumulators.values();
  }

  *batchers(): Iterable<PartitionBatcher> {
    for (const { batchers } of this.#accumulators.values()) yield* batchers;
  }

  accumulator(topic: string): TopicAccumulator {
    let accumulator = this.#accumulators.get(topic);
    if (accumulator === undefined) {
      accumulator = new TopicAccumulator(topic);
      this.#accumulators.set(topic, accumulator);
    }
    return accumulator;
  }

  add(topic: string, pending: PendingRecord): void {
    const accumulator = this.accumulator(topic);
    // A record queues behind the unrouted ones, or it would overtake them.
    if (accumulator.unrouted.length === 0) {
      const partitionCount = this.#fields.topics.cachedPartitionCount(topic);
      const isBeyond = pending.partition !== undefined && pending.partition >= (partitionCount ?? 0);
      if (partitionCount !== undefined && !isBeyond) return this.#route(accumulator, pending, partitionCount);
    }
    accumulator.unrouted.push(pending);
    if (!accumulator.isFetchingMetadata) {
      accumulator.isFetchingMetadata = true;
      void this.#fetchMetadata(accumulator);
    }
  }

  /** Removes a record that is not in flight. Returns false if it is in flight or settled. */
  remove(topic: string, pending: PendingRecord): boolean {
    return this.#accumulators.get(topic)?.remove(pending) ?? false;
  }

  /** Removes the records that have no partition yet. */
  takeUnrouted(accumulator: TopicAccumulator): readonly PendingRecord[] {
    const { unrouted } = accumulator;
    accumulator.unrouted = [];
    return unrouted;
  }

  /** Ignores metadata that arrives from now on. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Fetches the partition count and routes the records that wait for it. Never rejects. */
  async #fetchMetadata(accumulator: TopicAccumulator): Promise<void> {
    const { topics } = this.#fields;
    let partitionCount: number | undefined;
    try {
      // Not the cached count: a record may name a partition beyond it, which was added since.
      partitionCount = await topics.currentPartitionCount(accumulator.topic);
    } catch (error) {
      partitionCount = topics.cachedPartitionCount(accumulator.topic);
      if (partitionCount === undefined) return this.#fetchFailed(accumulator, clientErrorOf(error));
    }
    if (this.#isStopped) return;
    if (partitionCount === undefined) {
      const error = new NoRouteError(`there is no topic ${JSON.stringify(accumulator.topic)}`);
      return this.#rejectUnrouted(accumulator, error);
    }
    for (const pending of this.#endFetch(accumulator)) this.#route(accumulator, pending, partitionCount);
  }

  #fetchFailed(accumulator: TopicAccumulator, error: KafkaClientError): void {
    if (this.#isStopped) return;
    if (error.failure !== 'refused') {
      const retry = (): void => void this.#fetchMetadata(accumulator);
      return this.#fields.retryBackoffs.schedule(accumulator, error, retry);
    }
    const topic = JSON.stringify(accumulator.topic);
    const why = `the broker refused to describe the topic ${topic}: ${error.message}`;
    this.#rejectUnrouted(accumulator, new PublishRejectedError(why, { cause: error }));
  }

  /** The broker has responded. Returns the records that waited for the response. */
  #endFetch(accumulator: TopicAccumulator): readonly PendingRecord[] {
    this.#fields.retryBackoffs.clear(accumulator);
    accumulator.isFetchingMetadata = false;
    return this.takeUnrouted(accumulator);
  }

  #rejectUnrouted(accumulator: TopicAccumulator, error: Error): void {
    // Remote peers name reply topics: accumulators of topics that do not exist must not accumulate.
    if (accumulator.batchers.length === 0) this.#accumulators.delete(accumulator.topic);
    this.#fields.reject(this.#endFetch(accumulator), error);
  }

  #route(accumulator: TopicAccumulator, pending: PendingRecord, partitionCount: number): void {
    let partition: number;
    try {
      partition = this.#partitionFor(accumulator, pending, partitionCount);
    } catch (error) {
      return this.#fields.reject([pending], error as Error);
    }
    const batcher = accumulator.batcher(partition);
    batcher.push(pending);
    if (batcher.phase === 'idle') this.#fields.onReady(batcher);
  }

  #partitionFor(
    accumulator: TopicAccumulator,
    { partition, record }: PendingRecord,
    partitionCount: number,
  ): number {
    const { topic } = accumulator;
    if (partition !== undefined) {
      if (isPartition(partition, partitionCount)) return partition;
      throw new NoRouteError(
        `the topic ${JSON.stringify(topic)} has no partition ${partition}, only ${partitionCount}`,
      );
    }
    const { partitioner, random } = this.#fields;
    const { key } = record;
    if (partitioner !== undefined)
      return partitionBy(partitioner, { topic, key, partitions: partitionCount });
    return key === null
      ? accumulator.stickyPartition(partitionCount, random)
      : partitionOfKey(key, partitionCount);
  }
}

/** An error that the client did not classify leaves the outcome unknown: `unconfirmed`. */
export function clientErrorOf(error: unknown): KafkaClientError {
  if (error instanceof KafkaClientError) return error;
  return new KafkaClientError('unconfirmed', messageOf(error), { cause: error });
}
