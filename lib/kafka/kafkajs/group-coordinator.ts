import { errorType, toClientError } from './errors.js';
import type { CommittedOffset, ConsumerEvents, KafkaClientError, OffsetToCommit } from '../client/client.js';
import { coordinatorTypes, findCoordinatorRefusal, type Cluster } from './common.js';
import { groupByTopic } from './group-by-topic.js';

/** The members of kafkajs's private cluster object that a consumer uses. */
export interface ConsumingCluster extends Cluster {
  findGroupCoordinator(query: { groupId: string }): Promise<Broker>;
  findBroker(node: { nodeId: number | string }): Promise<Broker>;
}

interface Broker {
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

/** The group generation in which the broker accepts commits of the member. */
export interface Generation {
  readonly memberId: string;
  readonly generationId: number;
}

/**
 * Hooks into a kafkajs consumer's requests to its group coordinator: they delay a join until offsets are
 * committed, detect the generation and evictions, and replace kafkajs's own commits.
 */
export class GroupCoordinator {
  readonly #group: string;
  readonly #events: Pick<ConsumerEvents, 'beforeJoin' | 'outOfRange'>;
  /** The original `offsetCommit` of each watched broker. */
  readonly #commits = new WeakMap<Broker, Broker['offsetCommit']>();
  #findCoordinator!: ConsumingCluster['findGroupCoordinator'];
  #broker: Broker | undefined;
  /** Of the join in progress. */
  #joining: Generation | undefined;
  #evicted = false;

  constructor(group: string, events: Pick<ConsumerEvents, 'beforeJoin' | 'outOfRange'>) {
    this.#group = group;
    this.#events = events;
  }

  /**
   * Watches the requests of the consumer's cluster. kafkajs awaits `findGroupCoordinator` before each
   * JoinGroup; that is the only place at which a join can be delayed, since kafkajs does not await
   * listeners of its REBALANCING event.
   */
  attach(cluster: ConsumingCluster): void {
    const find = cluster.findGroupCoordinator.bind(cluster);
    const findCoordinator = async (query: { groupId: string }): Promise<Broker> => {
      try {
        return await find(query);
      } catch (error) {
        const coordinatorType = coordinatorTypes.group;
        throw (await findCoordinatorRefusal(cluster, { ...query, coordinatorType })) ?? error;
      }
    };
    this.#findCoordinator = findCoordinator;
    cluster.findGroupCoordinator = async (query) => {
      await this.#events.beforeJoin(this.#evicted);
      this.#broker = this.#watch(await findCoordinator(query));
      return this.#broker;
    };
    const findBroker = cluster.findBroker.bind(cluster);
    cluster.findBroker = async (node) => this.#watch(await findBroker(node));
  }

  /** Called when a join has succeeded. @returns its generation */
  joined(): Generation | undefined {
    this.#evicted = false;
    return this.#joining;
  }

  async committed(topic: string, partitions: readonly number[]): Promise<readonly CommittedOffset[]> {
    try {
      const broker = await this.#connected();
      const topics = [{ topic, partitions: partitions.map((partition) => ({ partition })) }];
      const { responses } = await broker.offsetFetch({ groupId: this.#group, topics });
      return responses.flatMap((response) =>
        response.partitions.map(({ partition, offset, metadata }) => ({
          topic: response.topic,
          partition,
          offset: Number(offset),
          metadata,
        })),
      );
    } catch (error) {
      throw this.#disconnected(error);
    }
  }

  async commit(
    { memberId, generationId: groupGenerationId }: Generation,
    offsets: readonly OffsetToCommit[],
  ): Promise<void> {
    try {
      const broker = await this.#connected();
      const topics = groupByTopic(offsets, ({ partition, offset, metadata }) => ({
        partition,
        offset: String(offset),
        metadata,
      }));
      const request = { groupId: this.#group, memberId, groupGenerationId, topics };
      await this.#commits.get(broker)!(request);
    } catch (error) {
      throw this.#disconnected(error);
    }
  }

  async #connected(): Promise<Broker> {
    if (this.#broker?.isConnected() === true) return this.#broker;
    this.#broker = this.#watch(await this.#findCoordinator({ groupId: this.#group }));
    return this.#broker;
  }

  /** After an error, the next request finds the coordinator again. */
  #disconnected(error: unknown): KafkaClientError {
    this.#broker = undefined;
    return toClientError(error, 'unavailable');
  }

  #watch(broker: Broker): Broker {
    if (this.#commits.has(broker)) return broker;
    const heartbeat = broker.heartbeat.bind(broker);
    const syncGroup = broker.syncGroup.bind(broker);
    const leaveGroup = broker.leaveGroup.bind(broker);
    this.#commits.set(broker, broker.offsetCommit.bind(broker));
    broker.heartbeat = async (request) => {
      try {
        return await heartbeat(request);
      } catch (error) {
        const type = errorType(error);
        if (type === 'UNKNOWN_MEMBER_ID' || type === 'ILLEGAL_GENERATION') this.#evicted = true;
        throw error;
      }
    };
    broker.syncGroup = async (request) => {
      const response = await syncGroup(request);
      this.#joining = { memberId: request.memberId, generationId: request.generationId };
      return response;
    };
    // kafkajs sends LeaveGroup before its CRASH event: settled offsets are committed first.
    broker.leaveGroup = async (request) => {
      await this.#events.beforeJoin(false);
      return leaveGroup(request);
    };
    // With autoCommit off, kafkajs commits only if a position is out of range: it commits the special
    // offset of `fromBeginning` and seeks to it, which would skip records that retention has kept.
    broker.offsetCommit = async ({ topics }) => {
      for (const { topic, partitions } of topics) {
        for (const { partition } of partitions) await this.#events.outOfRange({ topic, partition });
      }
    };
    return broker;
  }
}
