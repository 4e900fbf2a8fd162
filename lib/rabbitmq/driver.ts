import { randomUUID } from 'node:crypto';
import { queueCapabilities } from '../driver-kit/queue/queue-capabilities.js';
import { validateQueueSubscription } from '../driver-kit/queue/validate-subscription.js';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { combineLatest, type Subscription as RxSubscription } from 'rxjs';
import { headerNames } from '../core/message/headers.js';
import { ConnectionStateCell, worstState } from '../core/port/connection-state.js';
import type { DeadLetterLocation, DeadLetterStore } from '../core/port/dead-letter-store.js';
import type { PublishCancellation } from '../core/port/publish-cancellation.js';
import type {
  DeliverySink,
  Driver,
  ReplyInbox,
  ReplyListener,
  Subscription,
  SubscriptionSpec,
} from '../core/port/driver.js';
import type {
  InboundMessage,
  OutboundMessage,
  OutboundReply,
  ReplyAddress,
  ReplyOutcome,
  ReplyTarget,
} from '../core/port/message.js';
import { ClientClosedError, StorkConfigError, type ConfigProblem } from '../core/runtime/errors.js';
import type { BackoffOptions } from '../core/runtime/clock.js';
import { settlesWithin, withTimeout } from '../core/runtime/with-timeout.js';
import {
  destinationName,
  directReplyQueue,
  queueAddress,
  replyTarget,
} from '../driver-kit/queue/addressing.js';
import { sourceSettingsOf } from '../driver-kit/source-settings.js';
import type { DriverEnvironment } from '../nest/bootstrap/transport-definition.js';
import { Connection, type ConnectionFields } from './connection/connection.js';
import { quorumSettleWindow } from './consume/consumer-channel.js';
import { Consumer } from './consume/consumer.js';
import { validateHoldTime } from './consume/hold-time.js';
import { QueueDeadLetterStore } from './dead-letters/dead-letter-store.js';
import type { RabbitMqOptions } from './options.js';
import { DelayQueues, roundDelayUp } from './publish/delay-queues.js';
import { ExchangeCheck } from './publish/exchange-check.js';
import { publishOptions } from './publish/messages.js';
import { Publisher, type PublisherFields } from './publish/publisher.js';
import { ReplyPublisher } from './publish/reply-publisher.js';
import { createRequestPublisher } from './publish/request-publisher.js';
import { declareTopology, type QueueTopology } from './topology/topology.js';
import {
  deadLetterQueue,
  defaultDeliveryLimit,
  isDeadLetterQueue,
  retryQueueDelays,
} from '../driver-kit/queue/queue-topology.js';

const defaults = {
  deliveryLimit: defaultDeliveryLimit,
  consumerTimeoutMs: 30 * 60 * 1_000,
  maxBufferedMessages: 10_000,
  maxBufferedBytes: 64 * 1024 * 1024,
  reconnect: { delayMs: 500, maxDelayMs: 30_000 },
};

/**
 * Uses one connection to consume, one to publish and one to send replies, because RabbitMQ blocks and
 * closes whole connections: it blocks a publisher during an alarm, and closes the connection of a reply to
 * a forged address.
 */
export class RabbitMqDriver implements Driver {
  readonly capabilities = queueCapabilities;
  readonly consumerName: string | undefined;
  readonly state = new ConnectionStateCell();
  readonly #options: RabbitMqOptions;
  readonly #environment: DriverEnvironment;
  readonly #keyHeader: string;
  readonly #publishing: Connection;
  readonly #consuming: Connection;
  readonly #replying: Connection;
  readonly #publisher: Publisher;
  /** Of dead letters and redeliveries. */
  readonly #republishPublisher: Publisher;
  readonly #delayQueues: DelayQueues;
  readonly #exchangeCheck: ExchangeCheck;
  #replies: ReplyPublisher | undefined;
  #replyPublisher: Publisher | undefined;
  /** For first replies, once an address was forged: see `ReplyPublisher`. */
  #isolatedReplying: Connection | undefined;
  #isolatedReplyPublisher: Publisher | undefined;
  readonly #deadLetterStores = new Set<QueueDeadLetterStore>();
  /** Delays of the retry queues that are declared at start. */
  readonly #declaredDelays = new Set<number>();
  #started: Promise<void> | undefined;
  #consumer: Consumer | undefined;
  #requestPublisher: Publisher | undefined;
  #replyingStarted: Promise<void> | undefined;
  #stateSubscription: RxSubscription | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: RabbitMqOptions, environment: DriverEnvironment) {
    this.#options = options;
    this.consumerName = options.queue;
    this.#environment = environment;
    this.#keyHeader = options.keyHeader ?? headerNames.key;
    this.#publishing = this.#connection('publish');
    this.#consuming = this.#connection('consume');
    this.#replying = this.#connection('reply');
    this.#publisher = this.#openPublisher(this.#publishing, 'publisher');
    this.#republishPublisher = this.#openPublisher(this.#consuming, 'dead letters');
    this.#delayQueues = new DelayQueues(this.#publisher, environment.clock);
    this.#exchangeCheck = new ExchangeCheck(this.#publishing, environment.clock);
  }

  validate(spec: SubscriptionSpec | undefined): readonly ConfigProblem[] {
    if (spec === undefined) return [];
    return [
      ...validateQueueSubscription(spec, this.#options, this.#environment.name),
      ...validateHoldTime(spec, {
        prefetch: this.#prefetch(spec),
        consumerTimeoutMs: this.#options.consumerTimeoutMs ?? defaults.consumerTimeoutMs,
        transport: this.#environment.name,
      }),
    ];
  }

  connect(signal: AbortSignal): Promise<void> {
    this.#started ??= this.#start(signal);
    return this.#started;
  }

  /**
   * At boot, so that a refused declaration fails the start. After a loss of its channel the consumer
   * redeclares.
   */
  async declare(spec: SubscriptionSpec): Promise<void> {
    for (const delayMs of retryQueueDelays(spec)) this.#declaredDelays.add(delayMs);
    const model = await this.#publishing.ready();
    const channel = await model.createChannel();
    // Without a listener, Node would throw the channel error in amqplib's read loop.
    channel.on('error', () => {});
    await declareTopology(channel, this.#topology(), spec);
    await channel.close();
  }

  async subscribe(spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription> {
    await this.#consuming.open(new AbortController().signal);
    await this.#republishPublisher.start();
    this.#consumer = new Consumer({
      ...this.#supervision(this.#consuming, 'consumer'),
      topology: this.#topology(),
      spec,
      prefetch: this.#prefetch(spec),
      keyHeader: this.#keyHeader,
      sink,
      republishPublisher: this.#republishPublisher,
    });
    await this.#consumer.start();
    this.#watchStates();
    return this.#consumer;
  }

  destinationOf(message: Pick<OutboundMessage, 'pattern' | 'to'>): string {
    return destinationName(queueAddress(message, this.#options));
  }

  async publish(message: OutboundMessage, cancellation: PublishCancellation): Promise<void> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { exchange, routingKey } = queueAddress(message, this.#options);
    const options = publishOptions(message, this.#keyHeader);
    const publication = { exchange, routingKey, body: message.body ?? Buffer.alloc(0), options };
    if (message.replyTo !== undefined) {
      if (exchange !== '') await this.#exchangeCheck.assertExists(exchange);
      const request = { ...publication, options: { ...options, replyTo: directReplyQueue } };
      return this.#requestPublisher!.publish(request, cancellation);
    }
    return message.delayMs === undefined
      ? this.#publisher.publish(publication, cancellation)
      : this.#delayQueues.publish(publication, message.delayMs, cancellation);
  }

  /**
   * Only delays that are known at start have a retry queue each; other delays are rounded up to share queues.
   */
  roundDelay(delayMs: number): number {
    return this.#declaredDelays.has(delayMs) ? delayMs : roundDelayUp(delayMs);
  }

  async openReplies(listener: ReplyListener): Promise<ReplyInbox> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { name } = this.#environment;
    const fields = this.#publisherFields(this.#publishing, 'requests');
    const publisher = createRequestPublisher(fields, listener, name);
    await publisher.start();
    this.#requestPublisher = publisher;
    return { address: directReplyQueue };
  }

  parseReplyAddress(message: InboundMessage): ReplyTarget {
    const { replyTo } = (message.raw as ConsumeMessage).properties;
    return replyTarget(replyTo, this.#options.replyQueues);
  }

  async reply(to: ReplyAddress, reply: OutboundReply): Promise<ReplyOutcome> {
    this.#replyingStarted ??= this.#startReplying().catch((error: unknown) => {
      // The next reply starts again.
      this.#replyingStarted = undefined;
      throw error;
    });
    await this.#replyingStarted;
    return this.#replies!.send(to as string, reply);
  }

  deadLetterName(source: string): string {
    return deadLetterQueue(source);
  }

  async deadLetters(location: DeadLetterLocation): Promise<DeadLetterStore> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { queue, consumerTimeoutMs } = this.#options;
    const source = location.source ?? queue;
    if (source === undefined) {
      const expected = `a queue: the transport ${JSON.stringify(this.#environment.name)} consumes none`;
      throw new StorkConfigError([{ name: 'source', expected, given: 'undefined' }]);
    }
    const store: QueueDeadLetterStore = new QueueDeadLetterStore({
      name: location.from ?? deadLetterQueue(source),
      source,
      deliveryLimit: location.deliveryLimit,
      connection: this.#connection('dead letters'),
      consumerTimeoutMs: consumerTimeoutMs ?? defaults.consumerTimeoutMs,
      keyHeader: this.#keyHeader,
      clock: this.#environment.clock,
      closed: () => this.#deadLetterStores.delete(store),
    });
    this.#deadLetterStores.add(store);
    await store.open();
    return store;
  }

  /** The connection that publishes: a channel of the one that consumes would be blocked by memory alarms. */
  unwrap(): ChannelModel | undefined {
    return this.#publishing.current;
  }

  close(limitMs: number): Promise<void> {
    this.#closing ??= this.#close(limitMs);
    return this.#closing;
  }

  async #start(signal: AbortSignal): Promise<void> {
    this.#watchStates();
    try {
      await this.#publishing.open(signal);
      await withTimeout(this.#publisher.start(), { signal });
    } catch (error) {
      this.#started = undefined;
      throw error;
    }
  }

  async #close(limitMs: number): Promise<void> {
    const { clock } = this.#environment;
    const publishers = [
      this.#publisher,
      this.#requestPublisher,
      this.#replyPublisher,
      this.#isolatedReplyPublisher,
    ].filter((publisher) => publisher !== undefined);
    const flushed = Promise.all([
      this.#consumer?.close(),
      ...publishers.map((publisher) => publisher.flush()),
    ]);
    await settlesWithin(
      clock,
      flushed.catch(() => {}),
      limitMs / 2,
    );
    const connections = [this.#publishing, this.#consuming, this.#replying, this.#isolatedReplying];
    const closed = Promise.all([
      ...publishers.map((publisher) => publisher.close()),
      this.#republishPublisher.close(),
      ...[...this.#deadLetterStores].map((store) => store.close()),
      ...connections.map((connection) => connection?.close(limitMs / 2)),
    ]);
    await settlesWithin(
      clock,
      closed.catch(() => {}),
      limitMs / 2,
    );
    this.#stateSubscription?.unsubscribe();
    this.state.move({ value: 'closed' });
  }

  /** The driver's state is the worst state of its connections and of the consumer's channel. */
  #watchStates(): void {
    this.#stateSubscription?.unsubscribe();
    const watched = [
      this.#publishing,
      this.#consuming,
      this.#replying,
      ...(this.#consumer === undefined ? [] : [this.#consumer]),
    ];
    const cells = watched.map(({ state }) => state.changes);
    this.#stateSubscription = combineLatest(cells).subscribe((states) => {
      const worst = worstState(states);
      if (worst !== undefined && worst.value !== 'closed') this.state.move(worst);
    });
  }

  #topology(): QueueTopology {
    const { queue, queueType, deliveryLimit, maxPriority, exchange } = this.#options;
    return {
      queue: queue!,
      queueType: isDeadLetterQueue(queue!) ? 'quorum' : (queueType ?? 'quorum'),
      deliveryLimit: deliveryLimit ?? defaults.deliveryLimit,
      maxPriority,
      exchange,
    };
  }

  /**
   * With `at-most-once` no ack may be lost: RabbitMQ drops acks beyond its window when a quorum consumer
   * ends.
   */
  #prefetch({ concurrency, patterns }: SubscriptionSpec): number {
    const prefetch = this.#options.prefetch ?? concurrency * 2;
    const isBounded =
      this.#topology().queueType === 'quorum' && sourceSettingsOf(patterns).delivery === 'at-most-once';
    return isBounded ? Math.min(prefetch, quorumSettleWindow) : prefetch;
  }

  get #reconnect(): BackoffOptions {
    return this.#options.reconnect ?? defaults.reconnect;
  }

  #supervision(connection: Connection, purpose: string) {
    const { name, clock, logger } = this.#environment;
    return {
      connection,
      name: `${name}: ${purpose}`,
      reconnect: this.#reconnect,
      clock,
      random: Math.random,
      logger,
    };
  }

  #publisherFields(connection: Connection, purpose: string): PublisherFields {
    return {
      ...this.#supervision(connection, purpose),
      maxMessages: this.#options.maxBufferedMessages ?? defaults.maxBufferedMessages,
      maxBytes: this.#options.maxBufferedBytes ?? defaults.maxBufferedBytes,
    };
  }

  async #startReplying(): Promise<void> {
    await this.#replying.open(new AbortController().signal);
    this.#replyPublisher = this.#openPublisher(this.#replying, 'replies');
    await this.#replyPublisher.start();
    this.#replies = new ReplyPublisher(this.#replyPublisher, () => this.#openIsolatedReplies());
  }

  /**
   * The next forged address is expected here: it reconnects almost at once, and logs its losses for debugging
   * only. The undeliverable reply itself is logged.
   */
  async #openIsolatedReplies(): Promise<Publisher> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { logger } = this.#environment;
    const debug = (line: string): void => logger.debug(line);
    const quiet = {
      reconnect: { delayMs: 1, maxDelayMs: this.#reconnect.maxDelayMs },
      logger: { log: debug, warn: debug, error: debug, debug },
    };
    this.#isolatedReplying ??= this.#connection('first replies', quiet);
    await this.#isolatedReplying.open(new AbortController().signal);
    const publisher = new Publisher({
      ...this.#publisherFields(this.#isolatedReplying, 'first replies'),
      ...quiet,
    });
    await publisher.start();
    this.#isolatedReplyPublisher = publisher;
    return publisher;
  }

  #openPublisher(connection: Connection, purpose: string): Publisher {
    return new Publisher(this.#publisherFields(connection, purpose));
  }

  #connection(purpose: string, overrides?: Pick<ConnectionFields, 'reconnect' | 'logger'>): Connection {
    const { url, socket } = this.#options;
    const { name, clock, logger } = this.#environment;
    return new Connection({
      urls: typeof url === 'string' ? [url] : (url ?? []),
      name: `${name}/${purpose}/${randomUUID().slice(0, 8)}`,
      socket: socket ?? {},
      reconnect: this.#reconnect,
      clock,
      random: Math.random,
      logger,
      ...overrides,
    });
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`the transport ${JSON.stringify(this.#environment.name)} is closed`);
  }
}
