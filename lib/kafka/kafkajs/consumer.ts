import type { Assigner, Consumer, EachBatchPayload, Kafka, PartitionAssigner } from 'kafkajs';
import { withResolvers } from '../../core/runtime/with-timeout.js';
import { toClientError } from './errors.js';
import {
  KafkaClientError,
  type CommittedOffset,
  type ConsumerEvents,
  type ConsumerSettings,
  type KafkaAdmin,
  type KafkaConsumer,
  type OffsetToCommit,
  type TopicPartition,
} from '../client/client.js';
import { newAssigner } from './assigner-protocol.js';
import { fewRetries, ignoringErrors, metadataMaxAgeMs } from './common.js';
import { GroupCoordinator, type ConsumingCluster, type Generation } from './group-coordinator.js';
import { partitionsByTopic } from './group-by-topic.js';

/** A kafkajs consumer with the transport's assigner, and commits in the generation of the calling tick. */
export class KafkaJsConsumer implements KafkaConsumer {
  readonly #settings: ConsumerSettings;
  readonly #events: ConsumerEvents;
  readonly #admin: KafkaAdmin;
  readonly #consumer: Consumer;
  readonly #coordinator: GroupCoordinator;
  /** Undefined while it is not a member of the group. */
  #generation: Generation | undefined;
  #ownedPartitions: readonly TopicPartition[] = [];
  #starting: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(kafka: Kafka, admin: KafkaAdmin, settings: ConsumerSettings, events: ConsumerEvents) {
    this.#settings = settings;
    this.#events = events;
    this.#admin = admin;
    this.#coordinator = new GroupCoordinator(settings.group, events);
    this.#consumer = kafka.consumer({
      groupId: settings.group,
      partitionAssigners: [this.#assigner],
      sessionTimeout: settings.sessionTimeoutMs,
      heartbeatInterval: settings.heartbeatIntervalMs,
      rebalanceTimeout: Math.max(60_000, settings.sessionTimeoutMs),
      maxBytes: settings.maxBytes,
      maxBytesPerPartition: settings.maxBytesPerPartition,
      maxWaitTimeInMs: settings.maxWaitMs,
      readUncommitted: settings.isolation === 'read-uncommitted',
      metadataMaxAge: metadataMaxAgeMs,
      allowAutoTopicCreation: false,
      // kafkajs would restart after some failures every 0.3 s forever, and after others never.
      // GroupConsumer restarts.
      retry: { ...fewRetries, restartOnFailure: async () => false },
    });
  }

  start(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    const joined = withResolvers<void>();
    this.#consumer.on('consumer.group_join', ({ payload }) => {
      this.#assigned(payload.memberAssignment);
      joined.resolve();
    });
    this.#consumer.on('consumer.crash', ({ payload }) => {
      const error = toClientError(payload.error, 'unavailable');
      joined.reject(error);
      this.#generation = undefined;
      this.#events.crashed(error);
    });
    // kafkajs calls no `eachBatch` for a batch of only aborted records and markers; it is skipped here.
    this.#consumer.on('consumer.end_batch_process', ({ payload }) => {
      const { batchSize, topic, partition, lastOffset } = payload;
      if (batchSize === 0) void this.#events.fetched({ topic, partition }, [], Number(lastOffset) + 1);
    });
    // `run` may reject before `joined` is awaited: no unhandled rejection.
    joined.promise.catch(() => {});
    try {
      await this.#consumer.connect();
      await this.#consumer.subscribe({ topics: [...this.#settings.topics], fromBeginning: true });
      await this.#consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch: (payload) => this.#eachBatch(payload),
      });
      await joined.promise;
    } catch (error) {
      throw toClientError(error, 'unavailable');
    }
  }

  pause(at: readonly TopicPartition[]): void {
    this.#whileRunning(() => this.#consumer.pause(partitionsByTopic(at)));
  }

  resume(at: readonly TopicPartition[]): void {
    this.#whileRunning(() => this.#consumer.resume(partitionsByTopic(at)));
  }

  seek({ topic, partition }: TopicPartition, offset: number): void {
    this.#whileRunning(() => this.#consumer.seek({ topic, partition, offset: String(offset) }));
  }

  committed(topic: string, partitions: readonly number[]): Promise<readonly CommittedOffset[]> {
    return this.#coordinator.committed(topic, partitions);
  }

  async commit(offsets: readonly OffsetToCommit[]): Promise<void> {
    // Of this tick: in a later generation the broker would accept offsets of partitions of other members.
    const generation = this.#generation;
    if (generation === undefined)
      throw new KafkaClientError('unavailable', 'not a member of the consumer group');
    await this.#coordinator.commit(generation, offsets);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    // Disconnecting during a join would leave a member in the group until its session times out.
    await ignoringErrors(this.#starting ?? Promise.resolve());
    this.#generation = undefined;
    await ignoringErrors(this.#consumer.stop());
    await ignoringErrors(this.#consumer.disconnect());
  }

  #assigned(assignment: Readonly<Record<string, number[]>>): void {
    // Set here and not with the SyncGroup response: until `assigned` has run, revoked partitions count as
    // owned, and the broker would accept their offsets in the new generation.
    this.#generation = this.#coordinator.joined();
    this.#ownedPartitions = Object.entries(assignment).flatMap(([topic, partitions]) =>
      partitions.map((partition) => ({ topic, partition })),
    );
    this.#events.assigned(this.#ownedPartitions);
  }

  async #eachBatch(payload: EachBatchPayload): Promise<void> {
    if (payload.isStale() || !payload.isRunning()) return;
    const { batch } = payload;
    const { topic, partition } = batch;
    const last = batch.lastOffset();
    // Only moves kafkajs's fetch position. Commits are the transport's own.
    payload.resolveOffset(batch.messages.at(-1)!.offset);
    await this.#events.fetched({ topic, partition }, batch.messages, Number(last) + 1);
  }

  /** Between a crash and `close`, kafkajs throws because it has no consumer group. */
  #whileRunning(step: () => void): void {
    try {
      step();
    } catch {
      // The consumer that replaces this one sets pauses and positions itself.
    }
  }

  readonly #assigner: PartitionAssigner = ({ cluster }): Assigner => {
    this.#coordinator.attach(cluster as unknown as ConsumingCluster);
    return newAssigner(this.#settings.assign, this.#admin, () => this.#ownedPartitions);
  };
}
