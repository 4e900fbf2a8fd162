import kafkajs, {
  type Assigner,
  type Consumer,
  type EachBatchPayload,
  type Kafka,
  type PartitionAssigner,
} from 'kafkajs';
import { withResolvers } from '../../core/runtime/with-timeout.js';
import { decodeHeld, encodeHeld } from '../consume/assigner.js';
import { errorType, toClientError } from './client-errors.js';
import {
  KafkaClientError,
  type CommittedOffset,
  type ConsumerEvents,
  type ConsumerSettings,
  type GroupMember,
  type KafkaAdmin,
  type KafkaConsumer,
  type OffsetToCommit,
  type TopicPartition,
} from '../client/client.js';
import {
  coordinatorTypes,
  fewRetries,
  metadataMaxAgeMs,
  quietly,
  whyNoCoordinator,
  type Cluster,
} from './kafkajs-common.js';

/**
 * One member of a group by the client: its joins, which are waited for and divided by our assigner; its fetches, pauses and positions;
 * and commits of our own, in the generation in which they are asked for.
 */
export class KafkaJsConsumer implements KafkaConsumer {
  readonly #settings: ConsumerSettings;
  readonly #events: ConsumerEvents;
  readonly #admin: KafkaAdmin;
  readonly #consumer: Consumer;
  /** The commit that each coordinator had before it was watched. */
  readonly #commits = new WeakMap<Coordinator, Coordinator['offsetCommit']>();
  #findCoordinator!: ConsumingCluster['findGroupCoordinator'];
  #coordinator: Coordinator | undefined;
  #generation: Generation | undefined;
  /** Of the join under way. */
  #joining: Generation | undefined;
  #held: readonly TopicPartition[] = [];
  #evicted = false;
  #starting: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(kafka: Kafka, admin: KafkaAdmin, settings: ConsumerSettings, events: ConsumerEvents) {
    this.#settings = settings;
    this.#events = events;
    this.#admin = admin;
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
      // It would restart some failures every 0.3 s without end and others never; here its owner decides.
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
    // A batch of aborted transactions and markers alone never reaches `eachBatch`.
    this.#consumer.on('consumer.end_batch_process', ({ payload }) => {
      const { batchSize, topic, partition, lastOffset } = payload;
      if (batchSize === 0) void this.#events.fetched({ topic, partition }, [], Number(lastOffset) + 1);
    });
    // Whoever does not wait for the start must not leave a rejection behind.
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
    this.#whileRunning(() => this.#consumer.pause(byTopic(at)));
  }

  resume(at: readonly TopicPartition[]): void {
    this.#whileRunning(() => this.#consumer.resume(byTopic(at)));
  }

  seek({ topic, partition }: TopicPartition, offset: number): void {
    this.#whileRunning(() => this.#consumer.seek({ topic, partition, offset: String(offset) }));
  }

  async committed(topic: string, partitions: readonly number[]): Promise<readonly CommittedOffset[]> {
    try {
      const coordinator = await this.#connectedCoordinator();
      const topics = [{ topic, partitions: partitions.map((partition) => ({ partition })) }];
      const { responses } = await coordinator.offsetFetch({ groupId: this.#settings.group, topics });
      return responses.flatMap((response) =>
        response.partitions.map(({ partition, offset, metadata }) => ({
          topic: response.topic,
          partition,
          offset: Number(offset),
          metadata,
        })),
      );
    } catch (error) {
      throw this.#forgetCoordinator(error);
    }
  }

  async commit(offsets: readonly OffsetToCommit[]): Promise<void> {
    // Of this tick: after a rebalance the broker would take offsets of partitions that went to others.
    const generation = this.#generation;
    if (generation === undefined) throw new KafkaClientError('unavailable', 'not a member of the group');
    try {
      const coordinator = await this.#connectedCoordinator();
      const topics = groupByTopic(offsets, ({ partition, offset, metadata }) => ({
        partition,
        offset: String(offset),
        metadata,
      }));
      const { memberId, generationId: groupGenerationId } = generation;
      const request = { groupId: this.#settings.group, memberId, groupGenerationId, topics };
      await this.#commits.get(coordinator)!(request);
    } catch (error) {
      throw this.#forgetCoordinator(error);
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    // Disconnecting in the middle of a join would leave a ghost member behind.
    await quietly(this.#starting ?? Promise.resolve());
    this.#generation = undefined;
    await quietly(this.#consumer.stop());
    await quietly(this.#consumer.disconnect());
  }

  #assigned(assignment: Readonly<Record<string, number[]>>): void {
    this.#evicted = false;
    // Not a moment sooner: the broker would take offsets of partitions that have just gone to others.
    this.#generation = this.#joining;
    this.#held = Object.entries(assignment).flatMap(([topic, partitions]) =>
      partitions.map((partition) => ({ topic, partition })),
    );
    this.#events.assigned(this.#held);
  }

  async #eachBatch(payload: EachBatchPayload): Promise<void> {
    if (payload.isStale() || !payload.isRunning()) return;
    const { batch } = payload;
    const { topic, partition } = batch;
    const last = batch.lastOffset();
    // Taken means fetched no more; what is settled is committed by ourselves.
    payload.resolveOffset(batch.messages.at(-1)!.offset);
    await this.#events.fetched({ topic, partition }, batch.messages, Number(last) + 1);
  }

  /** Between a crash and the end the client has nothing to pause, and throws. */
  #whileRunning(step: () => void): void {
    try {
      step();
    } catch {
      // Whoever replaces this consumer begins anew.
    }
  }

  async #connectedCoordinator(): Promise<Coordinator> {
    if (this.#coordinator?.isConnected() === true) return this.#coordinator;
    this.#coordinator = this.#watch(await this.#findCoordinator({ groupId: this.#settings.group }));
    return this.#coordinator;
  }

  #forgetCoordinator(error: unknown): KafkaClientError {
    this.#coordinator = undefined;
    return toClientError(error, 'unavailable');
  }

  readonly #assigner: PartitionAssigner = ({ cluster }): Assigner => {
    this.#attach(cluster as unknown as ConsumingCluster);
    // The name under which members of the client's own, and of Nest's, share a group with ours.
    const name = 'RoundRobinAssigner';
    const version = 0;
    const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol;
    return {
      name,
      version,
      protocol: ({ topics }) => ({
        name,
        metadata: MemberMetadata.encode({ version, topics, userData: encodeHeld(this.#held) }),
      }),
      assign: async ({ members }) => {
        const wishes: GroupMember[] = members.map(({ memberId, memberMetadata }) => {
          const { topics, userData } = MemberMetadata.decode(memberMetadata)!;
          return { id: memberId, topics, held: decodeHeld(userData) };
        });
        const topics = [...new Set(wishes.flatMap((member) => member.topics))];
        const counts = await this.#countsOf(topics);
        const partitionsOf = (topic: string): number[] =>
          Array.from({ length: counts.get(topic) ?? 0 }, (_, partition) => partition);
        const assignment = this.#settings.assign(wishes, partitionsOf);
        return members.map(({ memberId }) => ({
          memberId,
          memberAssignment: MemberAssignment.encode({
            version,
            assignment: Object.fromEntries(
              byTopic(assignment.get(memberId) ?? []).map(({ topic, partitions }) => [topic, partitions]),
            ),
            userData: Buffer.alloc(0),
          }),
        }));
      },
    };
  };

  /** A topic of another member that we may not look at must not keep the whole group from its partitions. */
  async #countsOf(topics: readonly string[]): Promise<ReadonlyMap<string, number>> {
    try {
      return await this.#admin.partitionCounts(topics);
    } catch {
      const counts = await Promise.all(
        topics.map((topic) => this.#admin.partitionCounts([topic]).catch(() => new Map<string, number>())),
      );
      return new Map(counts.flatMap((found) => [...found]));
    }
  }

  /** The one place at which a join can be waited for: the client looks for the coordinator before each, and awaits it. */
  #attach(cluster: ConsumingCluster): void {
    const find = cluster.findGroupCoordinator.bind(cluster);
    const findCoordinator = async (query: { groupId: string }): Promise<Coordinator> => {
      try {
        return await find(query);
      } catch (error) {
        throw (
          (await whyNoCoordinator(cluster, { ...query, coordinatorType: coordinatorTypes.group })) ?? error
        );
      }
    };
    this.#findCoordinator = findCoordinator;
    cluster.findGroupCoordinator = async (query) => {
      await this.#events.beforeJoin(this.#evicted);
      this.#coordinator = this.#watch(await findCoordinator(query));
      return this.#coordinator;
    };
    const findBroker = cluster.findBroker.bind(cluster);
    cluster.findBroker = async (node) => this.#watch(await findBroker(node));
  }

  /** Learns the generation, whether we were evicted, and keeps the client from committing where it jumps to. */
  #watch(coordinator: Coordinator): Coordinator {
    if (this.#commits.has(coordinator)) return coordinator;
    const heartbeat = coordinator.heartbeat.bind(coordinator);
    const syncGroup = coordinator.syncGroup.bind(coordinator);
    const leaveGroup = coordinator.leaveGroup.bind(coordinator);
    this.#commits.set(coordinator, coordinator.offsetCommit.bind(coordinator));
    coordinator.heartbeat = async (request) => {
      try {
        return await heartbeat(request);
      } catch (error) {
        const type = errorType(error);
        if (type === 'UNKNOWN_MEMBER_ID' || type === 'ILLEGAL_GENERATION') this.#evicted = true;
        throw error;
      }
    };
    coordinator.syncGroup = async (request) => {
      const response = await syncGroup(request);
      this.#joining = { memberId: request.memberId, generationId: request.generationId };
      return response;
    };
    // A consumer that crashes leaves the group before it says so: what was settled until then would come again.
    coordinator.leaveGroup = async (request) => {
      await this.#events.beforeJoin(false);
      return leaveGroup(request);
    };
    // Only for a position out of range the client commits by itself: a special offset, and what is kept would be skipped.
    coordinator.offsetCommit = async ({ topics }) => {
      for (const { topic, partitions } of topics) {
        for (const { partition } of partitions) await this.#events.outOfRange({ topic, partition });
      }
    };
    return coordinator;
  }
}

/** What is used of the client's inside; an assigner is given the cluster, and that finds the coordinator before each join. */
interface ConsumingCluster extends Cluster {
  findGroupCoordinator(query: { groupId: string }): Promise<Coordinator>;
  findBroker(node: { nodeId: number | string }): Promise<Coordinator>;
}

interface Coordinator {
  readonly nodeId: number | string;
  isConnected(): boolean;
  heartbeat(request: object): Promise<unknown>;
  syncGroup(request: { generationId: number; memberId: string }): Promise<unknown>;
  leaveGroup(request: object): Promise<unknown>;
  offsetCommit(request: OffsetCommit): Promise<unknown>;
  offsetFetch(request: object): Promise<{
    readonly responses: readonly {
      readonly topic: string;
      readonly partitions: readonly { partition: number; offset: string; metadata: string | null }[];
    }[];
  }>;
}

interface OffsetCommit {
  readonly groupId: string;
  readonly memberId: string;
  readonly groupGenerationId: number;
  readonly topics: readonly {
    readonly topic: string;
    readonly partitions: readonly { partition: number; offset: string; metadata?: string | null }[];
  }[];
}

/** In which the broker takes our commits. */
interface Generation {
  readonly memberId: string;
  readonly generationId: number;
}

function byTopic(at: readonly TopicPartition[]): { topic: string; partitions: number[] }[] {
  return groupByTopic(at, ({ partition }) => partition);
}

function groupByTopic<T extends TopicPartition, R>(
  all: readonly T[],
  entry: (one: T) => R,
): { topic: string; partitions: R[] }[] {
  const topics = new Map<string, R[]>();
  for (const one of all) {
    const partitions = topics.get(one.topic) ?? [];
    topics.set(one.topic, partitions);
    partitions.push(entry(one));
  }
  return [...topics].map(([topic, partitions]) => ({ topic, partitions }));
}
