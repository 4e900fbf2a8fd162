import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import kafkajs, {
  type Admin,
  type Assigner,
  type Consumer,
  type EachBatchPayload,
  type ISocketFactoryArgs,
  type Kafka,
  type KafkaConfig,
  type PartitionAssigner,
  type Producer,
  type ProducerConfig,
  type RetryOptions,
} from 'kafkajs';
import type { StorkLogger } from '../core/logger.js';
import { withResolvers } from '../core/promises.js';
import { decodeHeld, encodeHeld } from './assigner.js';
import { errorType, toClientError } from './client-errors.js';
import {
  KafkaClientError,
  type CommittedOffset,
  type ConsumerEvents,
  type ConsumerSettings,
  type GroupMember,
  type KafkaAdmin,
  type KafkaClient,
  type KafkaConsumer,
  type KafkaProducer,
  type OffsetToCommit,
  type PartitionEnds,
  type ProducerSettings,
  type RecordToSend,
  type TopicPartition,
  type TopicToCreate,
} from './client.js';
import type { CompressionCodec, KafkaSasl } from './options.js';
import { ProduceRequests, type ProducingCluster } from './produce-requests.js';

// The one file that knows kafkajs 2.2.4. What it does that nobody would guess is said where it is dealt with.

export interface KafkaClientSettings {
  readonly brokers: readonly string[];
  readonly clientId: string;
  readonly ssl: boolean | tls.ConnectionOptions;
  readonly sasl: KafkaSasl | undefined;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly compressionCodecs: Readonly<Partial<Record<'snappy' | 'lz4' | 'zstd', CompressionCodec>>>;
  readonly logger: StorkLogger;
}

/** Few and quick: what lasts longer is our own back-off's. Never left out: the client's own depend on NODE_ENV. */
const fewRetries: RetryOptions = {
  retries: 3,
  initialRetryTime: 100,
  maxRetryTime: 1_000,
  factor: 0.2,
  multiplier: 2,
};
const metadataMaxAgeMs = 60_000;
const creationLimitMs = 10_000;
const creationPollMs = 50;
const compressionTypes = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const;
/** As the protocol numbers them; transactions have others. */
const groupCoordinator = 0;
const acknowledgements = { all: -1, leader: 1, none: 0 } as const;

export class KafkaJsClient implements KafkaClient {
  readonly admin: KafkaJsAdmin;
  readonly #kafka: Kafka;

  constructor(settings: KafkaClientSettings) {
    registerCodecs(settings.compressionCodecs);
    this.#kafka = new kafkajs.Kafka({
      brokers: [...settings.brokers],
      clientId: settings.clientId,
      ...(settings.ssl === false ? {} : { ssl: settings.ssl }),
      ...(settings.sasl === undefined ? {} : { sasl: settings.sasl as NonNullable<KafkaConfig['sasl']> }),
      connectionTimeout: settings.connectTimeoutMs,
      authenticationTimeout: settings.connectTimeoutMs,
      requestTimeout: settings.requestTimeoutMs,
      retry: fewRetries,
      socketFactory: openSocket,
      logCreator: () => logTo(settings.logger),
    });
    this.admin = new KafkaJsAdmin(this.#kafka);
  }

  async openProducer(settings: ProducerSettings): Promise<KafkaProducer> {
    const requests = new ProduceRequests();
    const producer = producerOf(this.#kafka, requests, {
      allowAutoTopicCreation: false,
      idempotent: settings.idempotent,
      metadataMaxAge: metadataMaxAgeMs,
      // The partition is chosen before a batch is made.
      createPartitioner:
        () =>
        ({ message }) =>
          message.partition!,
      // A repeated send could double records and hide that the outcome of the first is unknown. An idempotent one may repeat.
      retry: { ...fewRetries, retries: settings.idempotent ? 5 : 0 },
    });
    try {
      await producer.connect();
    } catch (error) {
      await quietly(producer.disconnect());
      throw toClientError(error, 'unavailable');
    }
    return new KafkaJsProducer(producer, requests, settings);
  }

  openConsumer(settings: ConsumerSettings, events: ConsumerEvents): KafkaConsumer {
    return new KafkaJsConsumer(this.#kafka, this.admin, settings, events);
  }

  close(): Promise<void> {
    return this.admin.close();
  }
}

class KafkaJsAdmin implements KafkaAdmin {
  readonly #kafka: Kafka;
  #admin: Admin;
  #renewing: Promise<void> | undefined;
  #isClosed = false;

  constructor(kafka: Kafka) {
    this.#kafka = kafka;
    this.#admin = kafka.admin({ retry: fewRetries });
  }

  connect(): Promise<void> {
    return asked(this.#admin.connect());
  }

  async clusterId(): Promise<string> {
    return (await asked(this.#admin.describeCluster())).clusterId;
  }

  async advertised(): Promise<readonly string[]> {
    const { brokers } = await asked(this.#admin.describeCluster());
    return brokers.map(({ host, port }) => `${host}:${port}`);
  }

  topicNames(): Promise<readonly string[]> {
    return asked(this.#admin.listTopics());
  }

  async partitionCounts(topics: readonly string[]): Promise<ReadonlyMap<string, number>> {
    if (topics.length === 0) return new Map();
    const counts = new Map<string, number>();
    for (const { name, partitions } of await this.#describe(topics)) {
      if (topics.includes(name)) counts.set(name, partitions.length);
    }
    return counts;
  }

  async createTopics(topics: readonly TopicToCreate[]): Promise<void> {
    for (const { topic, partitions, replicationFactor = -1, config } of topics) {
      const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
      const wanted = { topic, numPartitions: partitions, replicationFactor, configEntries };
      const create = (): Promise<unknown> =>
        asked(this.#admin.createTopics({ topics: [wanted], waitForLeaders: false }));
      await this.#orRenewed(create);
      await this.#untilLed(topic);
    }
  }

  async ends(topic: string): Promise<readonly PartitionEnds[]> {
    const counts = await this.partitionCounts([topic]);
    let ends = await this.#admin.fetchTopicOffsets(topic).catch(() => []);
    if (ends.length === 0 || ends.length < (counts.get(topic) ?? 0)) {
      await this.#renew();
      ends = await asked(this.#admin.fetchTopicOffsets(topic));
    }
    return ends.map(({ partition, low, high }) => ({ partition, low: Number(low), high: Number(high) }));
  }

  async topicConfig(topic: string): Promise<Readonly<Record<string, string>>> {
    const topicType = kafkajs.ConfigResourceTypes.TOPIC;
    const { resources } = await asked(
      this.#admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: topicType, name: topic }],
      }),
    );
    const entries = resources.flatMap(({ configEntries }) => configEntries);
    return Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue]));
  }

  async deleteGroup(group: string): Promise<void> {
    await asked(this.#admin.deleteGroups([group]));
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return quietly(this.#admin.disconnect());
  }

  /** Brokers hear of a topic only after the controller has confirmed it; the client's own way of waiting fails for one that has not. */
  async #untilLed(topic: string): Promise<void> {
    for (const until = Date.now() + creationLimitMs; ; await sleep(creationPollMs)) {
      try {
        // Answered by the leader of each partition.
        return void (await this.#orRenewed(() => asked(this.#admin.fetchTopicOffsets(topic))));
      } catch (error) {
        // Whoever may not ask has nothing to wait for.
        if ((error as KafkaClientError).failure === 'refused') return;
        if (Date.now() > until) throw error;
      }
    }
  }

  /** A topic that was deleted stays among those that the client's admin asks for, and fails whatever it is asked. */
  async #orRenewed<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof KafkaClientError) || error.failure !== 'unknown-topic') throw error;
      await this.#renew();
      return ask();
    }
  }

  /** The client's admin never refreshes what it knows of leaders and partitions. */
  #renew(): Promise<void> {
    this.#renewing ??= this.#replaceAdmin().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #replaceAdmin(): Promise<void> {
    if (this.#isClosed) throw new KafkaClientError('unavailable', 'the client is closed');
    const fresh = this.#kafka.admin({ retry: fewRetries });
    await asked(fresh.connect());
    const old = this.#admin;
    this.#admin = fresh;
    // Others may still have an answer to come on it.
    void quietly(old.disconnect());
    if (this.#isClosed) await quietly(fresh.disconnect());
  }

  /** One missing topic fails the question for all of them; the list of everything fails for none. */
  async #describe(topics: readonly string[]) {
    try {
      return (await this.#admin.fetchTopicMetadata({ topics: [...topics] })).topics;
    } catch (error) {
      const isMissing = toClientError(error, 'unavailable').failure === 'unknown-topic';
      // Where no broker answered, the client reads fields of null.
      if (!isMissing && !(error instanceof TypeError)) throw toClientError(error, 'unavailable');
      return (await asked(this.#admin.fetchTopicMetadata())).topics;
    }
  }
}

class KafkaJsProducer implements KafkaProducer {
  readonly #producer: Producer;
  readonly #requests: ProduceRequests;
  readonly #settings: ProducerSettings;

  constructor(producer: Producer, requests: ProduceRequests, settings: ProducerSettings) {
    this.#producer = producer;
    this.#requests = requests;
    this.#settings = settings;
  }

  async send(topic: string, partition: number, records: readonly RecordToSend[]): Promise<void> {
    const { acks, compression } = this.#settings;
    const messages = records.map(({ key, value, headers, timestamp }) => ({
      key,
      value,
      headers: headers as Record<string, Buffer | string | (Buffer | string)[]>,
      timestamp: String(timestamp),
      partition,
    }));
    this.#requests.begin(topic, partition);
    let written;
    try {
      written = await this.#producer.send({
        topic,
        messages,
        acks: acknowledgements[acks],
        compression: compressionTypes[compression],
      });
    } catch (error) {
      throw this.#requests.failure(topic, partition, error);
    }
    // The client resolves although it has never asked a leader that moved meanwhile.
    if (acks === 'none' || written.some((answer) => answer.partition === partition)) return;
    throw new KafkaClientError('unconfirmed', `the broker's answer does not name ${topic}/${partition}`);
  }

  close(): Promise<void> {
    return quietly(this.#producer.disconnect());
  }
}

/** The client shows a producer's cluster to nobody, and makes it while it makes the producer. */
function producerOf(kafka: Kafka, requests: ProduceRequests, config: ProducerConfig): Producer {
  const makers = kafka as unknown as Record<symbol, (settings: object) => ProducingCluster>;
  const name = Object.getOwnPropertySymbols(kafka).find(
    ({ description }) => description === 'private:Kafka:createCluster',
  );
  if (name === undefined)
    throw new Error('kafkajs: expected version 2.2.4, given one that is made otherwise');
  const make = makers[name]!;
  makers[name] = (settings) => requests.watch(make(settings));
  try {
    return kafka.producer(config);
  } finally {
    makers[name] = make;
  }
}

/** What is used of the client's inside; an assigner is given the cluster, and that finds the coordinator before each join. */
interface Cluster {
  findGroupCoordinator(query: { groupId: string }): Promise<Coordinator>;
  findBroker(node: { nodeId: number | string }): Promise<Coordinator>;
  readonly brokerPool: {
    withBroker<T>(ask: (on: { broker: CoordinatorFinder }) => Promise<T>): Promise<T>;
  };
}

interface CoordinatorFinder {
  findGroupCoordinator(query: { groupId: string; coordinatorType: number }): Promise<unknown>;
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

class KafkaJsConsumer implements KafkaConsumer {
  readonly #settings: ConsumerSettings;
  readonly #events: ConsumerEvents;
  readonly #admin: KafkaAdmin;
  readonly #consumer: Consumer;
  /** The commit that each coordinator had before it was watched. */
  readonly #commits = new WeakMap<Coordinator, Coordinator['offsetCommit']>();
  #findCoordinator!: Cluster['findGroupCoordinator'];
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
    this.#attach(cluster as unknown as Cluster);
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
  #attach(cluster: Cluster): void {
    const find = cluster.findGroupCoordinator.bind(cluster);
    const findCoordinator = async (query: { groupId: string }): Promise<Coordinator> => {
      try {
        return await find(query);
      } catch (error) {
        throw (await whyNoCoordinator(cluster, query)) ?? error;
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
      const answer = await syncGroup(request);
      this.#joining = { memberId: request.memberId, generationId: request.generationId };
      return answer;
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

/** The client drops what the brokers answer, e.g. that the group is not ours to join, and would look for its coordinator without end. */
async function whyNoCoordinator({ brokerPool }: Cluster, { groupId }: { groupId: string }): Promise<unknown> {
  const query = { groupId, coordinatorType: groupCoordinator };
  try {
    return await brokerPool.withBroker(({ broker }) =>
      broker.findGroupCoordinator(query).then(
        () => undefined,
        (error: unknown) => (toClientError(error, 'unavailable').failure === 'refused' ? error : undefined),
      ),
    );
  } catch {
    return undefined;
  }
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

/** An answer after a request waits for nothing: without this, up to 40 ms for the peer's delayed acknowledgement. */
function openSocket({ host, port, ssl, onConnect }: ISocketFactoryArgs): net.Socket {
  // False or nothing without TLS, whatever the client's types say.
  const secure = ssl as tls.ConnectionOptions | false | null | undefined;
  const named = net.isIP(host) === 0 ? { servername: host } : {};
  const socket =
    secure === undefined || secure === null || secure === false
      ? net.connect({ host, port }, onConnect)
      : tls.connect({ host, port, ...named, ...secure }, onConnect);
  socket.setKeepAlive(true, 60_000);
  socket.setNoDelay(true);
  // The client lets go of a connection again with every failure after it; on a closed socket each time would leave a listener behind.
  socket.once('close', () => {
    socket.unref = () => socket;
  });
  return socket;
}

/** The client's registry is one for the process. */
function registerCodecs(codecs: KafkaClientSettings['compressionCodecs']): void {
  for (const [name, codec] of Object.entries(codecs)) {
    kafkajs.CompressionCodecs[compressionTypes[name as keyof typeof codecs]] = () => ({
      compress: async (encoder: { buffer: Buffer }) => codec.compress(encoder.buffer),
      decompress: async (bytes: Buffer) => codec.decompress(bytes),
    });
  }
}

/** What the client says of itself, for whoever looks closely: what matters is said by us, once. */
function logTo(logger: StorkLogger) {
  return ({
    label,
    namespace,
    log,
  }: {
    label: string;
    namespace: string;
    log: { message: string };
  }): void => {
    logger.debug(`kafkajs ${label} ${namespace}: ${log.message}`);
  };
}

async function asked<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw toClientError(error, 'unavailable');
  }
}

async function quietly(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch {
    // It is over either way.
  }
}
