import { combineLatest, type Subscription as RxSubscription } from 'rxjs';
import { settlesWithin } from '../core/runtime/with-timeout.js';
import { ConnectionStateCell, worstState } from '../core/port/connection-state.js';
import { validateTargetsNotConsumed } from '../driver-kit/source-settings.js';
import { validateDeadLetterTopics, deadLetterTopic } from '../driver-kit/log/topic-names.js';
import type {
  DeliverySink,
  Driver,
  ReplyInbox,
  ReplyListener,
  Subscription,
  SubscriptionSpec,
} from '../core/port/driver.js';
import { ClientClosedError, StorkConfigError, type ConfigProblem } from '../core/runtime/errors.js';
import type { DeadLetterLocation } from '../core/port/dead-letter-store.js';
import type { PublishCancellation } from '../core/port/publish-cancellation.js';
import type {
  InboundMessage,
  OutboundMessage,
  ReplyAddress,
  OutboundReply,
  ReplyOutcome,
  ReplyTarget,
} from '../core/port/message.js';
import { replyPartitions } from '../driver-kit/log/reply-record.js';
import { defaultDeliveryLimit, logCapabilities } from '../driver-kit/log/log-capabilities.js';
import type { DriverEnvironment } from '../nest/bootstrap/transport-definition.js';
import { assignSticky } from './consume/assigner.js';
import type { ConsumerSettings, KafkaClient } from './client/client.js';
import { checkCluster } from './connection/cluster-check.js';
import { connectWithRetries } from './connection/connect.js';
import { explainJoinError, explainReplyInboxError } from './connection/explain-errors.js';
import { Republisher } from './retry/republisher.js';
import { GroupConsumer } from './consume/group-consumer.js';
import { KafkaJsClient } from './kafkajs/client.js';
import { consumerTimeouts, kafkaDefaults } from './options/defaults.js';
import type { KafkaOptions } from './options/options.js';
import { KafkaDeadLetterStore } from './dead-letters/dead-letter-store.js';
import { resolveDeadLetterLocation } from './dead-letters/dead-letter-location.js';
import { outboundRecord } from './produce/outbound-record.js';
import { destinationOf } from '../driver-kit/log/outbound-record.js';
import { Producer } from './produce/producer.js';
import { KafkaReplyInbox } from './replies/reply-inbox.js';
import { ReplySender } from './replies/reply-sender.js';
import { RetryTopics } from './topics/retry-topics.js';
import { TopicMetadataCache } from './produce/topic-metadata-cache.js';
import { findPatternProblems, TopicSelection } from '../driver-kit/log/topic-selection.js';
import { Topology } from './topics/topology.js';
import { guessContentType } from './wire.js';

/**
 * The Kafka side of one transport: connects, declares topics, consumes as a member of a group, publishes,
 * sends and receives replies, and opens dead letter stores.
 */
export class KafkaDriver implements Driver {
  readonly capabilities = logCapabilities;
  readonly deliveryLimit: number;
  readonly state = new ConnectionStateCell();
  readonly consumerName: string | undefined;
  readonly clockSkewMs: number;
  readonly #options: KafkaOptions;
  readonly #environment: DriverEnvironment;
  readonly #clientId: string;
  readonly #client: KafkaClient;
  readonly #topics: TopicMetadataCache;
  readonly #topology: Topology;
  readonly #producer: Producer;
  readonly #replies: ReplySender;
  /** Aborted by `close`: ends the attempts to connect. */
  readonly #closeSignal = new AbortController();
  #connected: Promise<void> | undefined;
  #hasConnected = false;
  /** Set by `declare`. */
  #retries: RetryTopics | undefined;
  #consumer: GroupConsumer | undefined;
  #inbox: KafkaReplyInbox | undefined;
  readonly #deadLetterStores = new Set<KafkaDeadLetterStore>();
  #stateSubscription: RxSubscription | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: KafkaOptions, environment: DriverEnvironment) {
    const { name, clock, logger } = environment;
    this.#options = options;
    this.#environment = environment;
    this.consumerName = options.groupId;
    this.clockSkewMs = options.clockSkewMs ?? kafkaDefaults.clockSkewMs;
    this.deliveryLimit = options.deliveryLimit ?? defaultDeliveryLimit;
    this.#clientId = options.clientId ?? options.groupId ?? name;
    this.#client = new KafkaJsClient({
      brokers: options.brokers ?? [],
      clientId: this.#clientId,
      ssl: options.ssl ?? false,
      sasl: options.sasl,
      connectTimeoutMs: options.connectTimeoutMs ?? kafkaDefaults.connectTimeoutMs,
      requestTimeoutMs: options.requestTimeoutMs ?? kafkaDefaults.requestTimeoutMs,
      compressionCodecs: options.compressionCodecs ?? {},
      logger,
    });
    const { admin } = this.#client;
    this.#topics = new TopicMetadataCache(admin, clock);
    this.#topology = new Topology({
      admin,
      brokers: options.brokers ?? [],
      name,
      partitions: options.partitions,
      replicationFactor: options.replicationFactor,
      logger,
    });
    this.#producer = new Producer({
      client: this.#client,
      topics: this.#topics,
      settings: {
        acks: options.acks ?? 'all',
        idempotent: options.idempotent ?? false,
        compression: options.compression ?? 'none',
      },
      name,
      maxBufferedMessages: options.maxBufferedMessages ?? kafkaDefaults.maxBufferedMessages,
      maxBufferedBytes: options.maxBufferedBytes ?? kafkaDefaults.maxBufferedBytes,
      maxBatchBytes: options.maxBatchBytes ?? kafkaDefaults.maxBatchBytes,
      partitioner: options.partitioner,
      reconnect: this.#reconnect,
      clock,
      random: Math.random,
      logger,
    });
    this.#replies = new ReplySender({
      options,
      topics: this.#topics,
      producer: this.#producer,
      clock,
      isConsumed: (topic) => this.#consumer?.reads(topic) ?? false,
    });
  }

  validate(spec: SubscriptionSpec | undefined): readonly ConfigProblem[] {
    if (spec === undefined) return [];
    const { name } = this.#environment;
    const selection = new TopicSelection(this.#options, spec);
    const problems = [
      ...findPatternProblems(spec, this.#options, name),
      ...validateDeadLetterTopics(spec.deadLetterTargets, name),
      ...validateTargetsNotConsumed(spec.deadLetterTargets, (topic) => selection.reads(topic), name),
    ];
    if (this.#options.groupId === undefined) {
      const expected = 'the name of the consumer group: the transport has handlers';
      problems.push({ name: `transports.${name}.groupId`, expected, given: 'undefined' });
    }
    return problems;
  }

  connect(signal: AbortSignal): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(this.#closedError());
    this.#connected ??= this.#connect(signal).catch((error: unknown) => {
      this.#connected = undefined;
      throw error;
    });
    return this.#connected;
  }

  async declare(spec: SubscriptionSpec): Promise<void> {
    if (this.#closing !== undefined) throw this.#closedError();
    const selection = new TopicSelection(this.#options, spec);
    const retries = new RetryTopics(this.#options.groupId!, spec.redeliverDelaysMs);
    this.#retries = retries;
    const { deadLetterTargets } = spec;
    await this.#topology.declare(selection.names, retries, deadLetterTargets);
    if (!selection.isOpen) return;
    const names = await this.#client.admin.topicNames();
    const matching = names.filter((topic) => selection.reads(topic));
    await this.#topology.declareManagedTopics(matching, retries, deadLetterTargets);
  }

  async subscribe(spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { name, clock, logger, counters } = this.#environment;
    const { patternHeader, fromBeginning, maxOffsetGap, topicRefreshMs, groupId } = this.#options;
    const retries = this.#retries!;
    const { deadLetterTargets } = spec;
    const shared = {
      patternHeader,
      retries,
      reconnect: this.#reconnect,
      name,
      clock,
      random: Math.random,
      logger,
    };
    const republisher = new Republisher({
      ...shared,
      producer: this.#producer,
      group: groupId!,
      declareManagedTopics: (source) => this.#redeclareManagedTopics(source, retries, deadLetterTargets),
    });
    this.#consumer = new GroupConsumer({
      ...shared,
      client: this.#client,
      settings: { ...this.#consumerSettings(), group: groupId!, assign: assignSticky },
      selection: new TopicSelection(this.#options, spec),
      maxOffsetGap: maxOffsetGap ?? kafkaDefaults.maxOffsetGap,
      fromBeginning: fromBeginning ?? false,
      clockSkewMs: this.clockSkewMs,
      revokeTimeoutMs: consumerTimeouts(this.#options).revokeTimeoutMs,
      topicRefreshMs: topicRefreshMs ?? kafkaDefaults.topicRefreshMs,
      sink,
      counters,
      hasCreated: (topic) => this.#topology.hasCreated(topic),
      declareManagedTopics: (topics) =>
        this.#topology.declareManagedTopics(topics, retries, deadLetterTargets),
      republish: (source, delivery, message) => republisher.republish(source, delivery, message),
      forwardRemainingDelay: (remaining) => republisher.forwardRemainingDelay(remaining),
      guessContentType: (headers, body) => guessContentType(headers, body, this.#options.wire),
    });
    this.#watchStates();
    try {
      await this.#consumer.start();
    } catch (error) {
      throw explainJoinError(error, groupId!, name);
    }
    return this.#consumer;
  }

  /** A publish to a managed topic of the source topic failed because it was deleted. */
  async #redeclareManagedTopics(
    source: string,
    retries: RetryTopics,
    targets: readonly string[],
  ): Promise<void> {
    await this.#topology.declareManagedTopics([source], retries, targets);
    for (const topic of [deadLetterTopic(source), ...targets, ...retries.topicsOf(source).keys()])
      this.#topics.forget(topic);
  }

  publish(message: OutboundMessage, cancellation: PublishCancellation): Promise<void> {
    const topic = destinationOf(message, this.#options);
    const record = outboundRecord(message, topic, this.#options);
    return this.#producer.publish(topic, record, { partition: message.partition, cancellation });
  }

  roundDelay(delayMs: number): number | undefined {
    return this.#retries?.round(delayMs);
  }

  destinationOf(message: Pick<OutboundMessage, 'pattern' | 'to'>): string {
    return destinationOf(message, this.#options);
  }

  /** Kafka cannot tell whether a group consumes the topic, only whether the topic exists. */
  describeTarget(message: Pick<OutboundMessage, 'pattern' | 'to'>): string | undefined {
    if (this.#inbox?.isReading === false) return 'replies cannot be read at present';
    const topic = destinationOf(message, this.#options);
    if (this.#topics.cachedPartitionCount(topic) === undefined) return undefined;
    return `the topic ${JSON.stringify(topic)} exists, but no consumer replied in time`;
  }

  async openReplies(listener: ReplyListener): Promise<ReplyInbox> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { groupId, replyTopic } = this.#options;
    const topic = replyTopic ?? `${groupId ?? this.#clientId}.reply`;
    try {
      await this.#topology.declareReplies(topic, replyPartitions);
      return { address: await this.#openInbox(topic, listener) };
    } catch (error) {
      throw explainReplyInboxError(error, topic, this.#environment.name);
    }
  }

  parseReplyAddress(message: InboundMessage): ReplyTarget | Promise<ReplyTarget> {
    return this.#replies.targetOf(message);
  }

  reply(to: ReplyAddress, reply: OutboundReply): Promise<ReplyOutcome> {
    return this.#replies.send(to, reply);
  }

  deadLetterName(source: string): string {
    return deadLetterTopic(source);
  }

  async deadLetters(location: DeadLetterLocation): Promise<KafkaDeadLetterStore> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { name, clock, logger } = this.#environment;
    const { fetch, compression = 'none', maxBatchBytes = kafkaDefaults.maxBatchBytes } = this.#options;
    const store = new KafkaDeadLetterStore({
      ...(await resolveDeadLetterLocation(location, this.#options, name, this.#client.admin)),
      client: this.#client,
      topology: this.#topology,
      maxFetchBytes: { ...kafkaDefaults.fetch, ...fetch }.maxBytesPerPartition,
      maxBatchBytes,
      compression,
      partitioner: this.#options.partitioner,
      patternHeader: this.#options.patternHeader,
      isolation: this.#options.isolation ?? 'read-committed',
      guessContentType: (headers, body) => guessContentType(headers, body, this.#options.wire),
      name,
      clock,
      random: Math.random,
      logger,
      closed: () => this.#deadLetterStores.delete(store),
    });
    this.#deadLetterStores.add(store);
    return store;
  }

  unwrap(): unknown {
    return this.#hasConnected ? this.#client.unwrap() : undefined;
  }

  close(limitMs: number): Promise<void> {
    this.#closing ??= this.#close(limitMs);
    return this.#closing;
  }

  async #openInbox(topic: string, listener: ReplyListener): Promise<ReplyAddress> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { groupId, wire } = this.#options;
    const inbox = new KafkaReplyInbox(
      {
        ...this.#environment,
        client: this.#client,
        topic,
        groupPrefix: groupId ?? this.#clientId,
        settings: this.#consumerSettings(),
        untaggedReplyKind: wire === 'nest' ? 'item' : 'value',
        reconnect: this.#reconnect,
        random: Math.random,
      },
      listener,
    );
    this.#inbox = inbox;
    try {
      await inbox.open();
    } catch (error) {
      await inbox.close();
      throw error;
    }
    return inbox.address;
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const fields = {
      options: this.#options,
      environment: this.#environment,
      reconnect: this.#reconnect,
      state: this.state,
      connectOnce: () => this.#connectOnce(),
    };
    try {
      await connectWithRetries(fields, AbortSignal.any([signal, this.#closeSignal.signal]));
    } catch (error) {
      if (this.#closing === undefined || error instanceof StorkConfigError) throw error;
      throw this.#closedError();
    }
  }

  async #connectOnce(): Promise<void> {
    await this.#client.admin.connect();
    await checkCluster(this.#client.admin, this.#options, this.#environment);
    await this.#producer.open();
    this.#hasConnected = true;
    this.#watchStates();
  }

  async #close(limitMs: number): Promise<void> {
    const { clock } = this.#environment;
    this.#closeSignal.abort();
    const endMs = clock.now() + limitMs;
    const remainingMs = (): number => Math.max(0, endMs - clock.now());
    const deadLetterStores = [...this.#deadLetterStores].map((store) => store.close());
    await settlesWithin(
      clock,
      Promise.all([this.#consumer?.close(limitMs / 2), this.#inbox?.close(), ...deadLetterStores]),
      limitMs / 2,
    );
    await this.#producer.close(remainingMs() / 2);
    await settlesWithin(clock, this.#client.close(), remainingMs());
    // A start that was under way may have opened connections meanwhile.
    this.#client.abort();
    this.#stateSubscription?.unsubscribe();
    this.state.move({ value: 'closed' });
  }

  /** The driver's state is the worst state of its producer and its consumer. */
  #watchStates(): void {
    this.#stateSubscription?.unsubscribe();
    const cells = [this.#producer.state, ...(this.#consumer === undefined ? [] : [this.#consumer.state])];
    this.#stateSubscription = combineLatest(cells.map(({ changes }) => changes)).subscribe((states) => {
      const worst = worstState(states);
      if (worst !== undefined && worst.value !== 'closed') this.state.move(worst);
    });
  }

  #consumerSettings(): Omit<ConsumerSettings, 'group' | 'topics' | 'assign'> {
    const { isolation = 'read-committed', fetch } = this.#options;
    const { sessionTimeoutMs, heartbeatIntervalMs } = consumerTimeouts(this.#options);
    return { sessionTimeoutMs, heartbeatIntervalMs, isolation, ...kafkaDefaults.fetch, ...fetch };
  }

  get #reconnect() {
    return this.#options.reconnect ?? kafkaDefaults.reconnect;
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`the transport ${JSON.stringify(this.#environment.name)} is closed`);
  }
}
