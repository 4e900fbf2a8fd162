import { randomUUID } from 'node:crypto';
import { combineLatest, type Subscription as RxSubscription } from 'rxjs';
import { ConnectionStateCell, worstState } from '../core/port/connection-state.js';
import {
  validateTargetsNotConsumed,
  sourceSettingsOf,
  findConflicts,
  validateNoPartitionOrder,
} from '../driver-kit/subscription.js';
import { holdTimeMs } from '../core/retry/retry-policy.js';
import type {
  Capabilities,
  DeliverySink,
  Driver,
  ReplyInbox,
  ReplyListener,
  Subscription,
  SubscriptionSpec,
} from '../core/port/driver.js';
import { settlesWithin, withTimeout } from '../core/runtime/with-timeout.js';
import type { DeadLetterStore, DeadLetterLocation } from '../core/port/dead-letter-store.js';
import {
  ClientClosedError,
  ConnectionLostError,
  messageOf,
  NoRouteError,
  StorkConfigError,
  type ConfigProblem,
} from '../core/runtime/errors.js';
import { headerNames } from '../core/message/headers.js';
import type {
  InboundMessage,
  OutboundMessage,
  ReplyAddress,
  OutboundReply,
  ReplyTarget,
} from '../core/port/message.js';
import {
  directReplyQueue,
  queueAddress,
  validateBindable,
  replyTarget,
} from '../driver-kit/queue/addressing.js';
import type { DriverEnvironment } from '../nest/bootstrap/transport-definition.js';
import type { ConsumeMessage } from 'amqplib';
import { Connection } from './connection/connection.js';
import { Consumer, mostPassedOn } from './consume/consumer.js';
import { QueueDeadLetters } from './dead-letters/dead-letter-store.js';
import { Delays, roundDelayUp } from './publish/delay-queues.js';
import { replyCodeOf, replyCodes } from './connection/errors.js';
import { inboundReply, publishOptions } from './publish/messages.js';
import type { RabbitMqOptions } from './options.js';
import { Publisher, type PublisherFields } from './publish/publisher.js';
import { Replies } from './publish/reply-publisher.js';
import {
  deadLetterQueue,
  declareTopology,
  isDeadLetterQueue,
  type QueueTopology,
} from './topology/topology.js';

const defaults = {
  deliveryLimit: 100,
  consumerTimeoutMs: 30 * 60 * 1_000,
  maxBufferedMessages: 10_000,
  maxBufferedBytes: 64 * 1024 * 1024,
  reconnect: { delayMs: 500, maxDelayMs: 30_000 },
};

export const rabbitMqCapabilities: Capabilities = {
  messageOptions: new Set(['delayMs', 'expiresInMs', 'priority', 'persistent', 'appId']),
  destinations: new Set(['queue', 'exchange']),
  pausesWithoutRedelivery: false,
  requeue: 'broker',
  exclusiveSource: true,
};

/** Three connections, each for what must not be blocked or broken by the others: consuming, publishing, replying. */
export class RabbitMqDriver implements Driver {
  readonly capabilities = rabbitMqCapabilities;
  readonly consumerName: string | undefined;
  readonly state = new ConnectionStateCell();
  readonly #options: RabbitMqOptions;
  readonly #environment: DriverEnvironment;
  readonly #keyHeader: string;
  readonly #publishing: Connection;
  readonly #consuming: Connection;
  readonly #replying: Connection;
  readonly #publisher: Publisher;
  readonly #copies: Publisher;
  readonly #delays: Delays;
  #replies: Replies | undefined;
  #replyPublisher: Publisher | undefined;
  readonly #deadLetterStores = new Set<QueueDeadLetters>();
  readonly #knownExchanges = new Set<string>();
  /** Delays that handlers have asked for. */
  readonly #declaredDelays = new Set<number>();
  #started: Promise<void> | undefined;
  #consumer: Consumer | undefined;
  #requests: Publisher | undefined;
  #replyingStarted: Promise<void> | undefined;
  #watching: RxSubscription | undefined;
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
    this.#copies = this.#openPublisher(this.#consuming, 'dead letters');
    this.#delays = new Delays(this.#publisher, environment.clock);
  }

  validate(spec: SubscriptionSpec | undefined): readonly ConfigProblem[] {
    if (spec === undefined) return [];
    return [
      ...validateNoPartitionOrder(spec.patterns, this.#environment.name),
      ...findConflicts(spec.patterns, `the queue "${this.#options.queue}"`),
      ...validateTargetsNotConsumed(
        spec.deadLetterTargets,
        (name) => name === this.#options.queue,
        this.#environment.name,
      ),
      ...validateBindable(spec.patterns, this.#options.exchange, this.#environment.name),
      ...this.#refuseLongWaits(spec),
    ];
  }

  /**
   * The broker closes a channel that keeps a message for too long, and counts from its delivery: what was prefetched waits for those before
   * it.
   */
  #refuseLongWaits(spec: SubscriptionSpec): ConfigProblem[] {
    const { concurrency, maxHoldTime } = spec;
    const { handler, waitMs, attempts: runs, timeoutMs: runMs } = maxHoldTime;
    const keptMs = holdTimeMs(maxHoldTime);
    const prefetch = this.#prefetch(spec);
    const timeoutMs = this.#options.consumerTimeoutMs ?? defaults.consumerTimeoutMs;
    const rounds = Math.ceil(prefetch / concurrency);
    if (rounds * keptMs <= timeoutMs / 2) return [];
    return [
      {
        name: `${runMs === 0 ? 'retry' : 'retry and timeoutMs'} of ${handler} on the transport ${JSON.stringify(this.#environment.name)}`,
        expected:
          `${runMs === 0 ? 'waits' : 'waits and runs'} in place of at most ${Math.floor(timeoutMs / 2 / rounds)} ms altogether: half of consumerTimeoutMs, ${timeoutMs}, ` +
          `for ${rounds} messages one after another (prefetch ${prefetch}, concurrency ${concurrency}); ` +
          'redeliverDelaysMs waits in the broker',
        given:
          runMs === 0
            ? `${waitMs} ms`
            : `${waitMs} ms of waits and ${runs} runs of ${runMs} ms, ${keptMs} ms`,
      },
    ];
  }

  connect(signal: AbortSignal): Promise<void> {
    this.#started ??= this.#start(signal);
    return this.#started;
  }

  /** At boot every error counts; after a loss the consumer declares for itself. */
  async declare(spec: SubscriptionSpec): Promise<void> {
    for (const delayMs of spec.redeliverDelaysMs) this.#declaredDelays.add(delayMs);
    const model = await this.#publishing.ready();
    const channel = await model.createChannel();
    // Without a listener the client would throw the broker's refusal in its read loop.
    channel.on('error', () => {});
    await declareTopology(channel, this.#topology(), spec);
    await channel.close();
  }

  async subscribe(spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription> {
    await this.#consuming.open(new AbortController().signal);
    await this.#copies.start();
    this.#consumer = new Consumer({
      ...this.#supervision(this.#consuming, 'consumer'),
      topology: this.#topology(),
      spec,
      prefetch: this.#prefetch(spec),
      keyHeader: this.#keyHeader,
      sink,
      republished: this.#copies,
    });
    await this.#consumer.start();
    this.#watch();
    return this.#consumer;
  }

  async publish(message: OutboundMessage): Promise<void> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { exchange, routingKey } = queueAddress(message, this.#options);
    const options = publishOptions(message, this.#keyHeader);
    const publication = { exchange, routingKey, body: message.body ?? Buffer.alloc(0), options };
    if (message.replyTo !== undefined) {
      if (exchange !== '') await this.#assertExchange(exchange);
      return this.#requests!.publish({ ...publication, options: { ...options, replyTo: directReplyQueue } });
    }
    return message.delayMs === undefined
      ? this.#publisher.publish(publication)
      : this.#delays.publish(publication, message.delayMs);
  }

  /** A queue for every delay that somebody asks for would be too many; those that handlers declare have their own. */
  roundDelay(delayMs: number): number {
    return this.#declaredDelays.has(delayMs) ? delayMs : roundDelayUp(delayMs);
  }

  async openReplies(listener: ReplyListener): Promise<ReplyInbox> {
    if (this.#closing !== undefined) throw this.#closedError();
    const requests = this.#requestPublisher(listener);
    await requests.start();
    this.#requests = requests;
    return { address: directReplyQueue };
  }

  parseReplyAddress(message: InboundMessage): ReplyTarget {
    const { replyTo } = (message.raw as ConsumeMessage).properties;
    return replyTarget(replyTo, this.#options.replyQueues);
  }

  async reply(to: ReplyAddress, reply: OutboundReply): Promise<'confirmed' | 'undeliverable'> {
    this.#replyingStarted ??= this.#startReplying().catch((error: unknown) => {
      // The next reply tries again.
      this.#replyingStarted = undefined;
      throw error;
    });
    await this.#replyingStarted;
    return this.#replies!.send(to as string, reply);
  }

  async deadLetters(place: DeadLetterLocation): Promise<DeadLetterStore> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { queue, consumerTimeoutMs } = this.#options;
    const source = place.source ?? queue;
    if (source === undefined) {
      const why = `a queue: the transport ${JSON.stringify(this.#environment.name)} has none of its own`;
      throw new StorkConfigError([{ name: 'source', expected: why, given: 'undefined' }]);
    }
    const store: QueueDeadLetters = new QueueDeadLetters({
      name: place.from ?? deadLetterQueue(source),
      source,
      deliveryLimit: place.deliveryLimit,
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

  close(limitMs: number): Promise<void> {
    this.#closing ??= this.#close(limitMs);
    return this.#closing;
  }

  async #start(signal: AbortSignal): Promise<void> {
    this.#watch();
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
    const publishers = [this.#publisher, this.#requests, this.#replyPublisher].filter(
      (one) => one !== undefined,
    );
    const flushed = Promise.all([
      this.#consumer?.close(),
      ...publishers.map((publisher) => publisher.flush()),
    ]);
    await settlesWithin(
      clock,
      flushed.catch(() => {}),
      limitMs / 2,
    );
    const connections = [this.#publishing, this.#consuming, this.#replying];
    const ended = Promise.all([
      ...publishers.map((publisher) => publisher.close()),
      this.#copies.close(),
      ...[...this.#deadLetterStores].map((store) => store.close()),
      ...connections.map((connection) => connection.close(limitMs / 2)),
    ]);
    await settlesWithin(
      clock,
      ended.catch(() => {}),
      limitMs / 2,
    );
    this.#watching?.unsubscribe();
    this.state.move({ value: 'closed' });
  }

  /** The worst of what was opened is what counts: connections, and the consumer's channel. */
  #watch(): void {
    this.#watching?.unsubscribe();
    const watched = [
      this.#publishing,
      this.#consuming,
      this.#replying,
      ...(this.#consumer === undefined ? [] : [this.#consumer]),
    ];
    const cells = watched.map(({ state }) => state.changes);
    this.#watching = combineLatest(cells).subscribe((states) => {
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

  /** What runs at most once is acknowledged for good before it runs: of a quorum queue only what the broker's channel passes on at once. */
  #prefetch({ concurrency, patterns }: SubscriptionSpec): number {
    const wanted = this.#options.prefetch ?? concurrency * 2;
    const isBounded =
      this.#topology().queueType === 'quorum' && sourceSettingsOf(patterns).delivery === 'at-most-once';
    return isBounded ? Math.min(wanted, mostPassedOn) : wanted;
  }

  #supervision(connection: Connection, purpose: string) {
    const { name, clock, logger } = this.#environment;
    const reconnect = this.#options.reconnect ?? defaults.reconnect;
    return { connection, name: `${name}: ${purpose}`, reconnect, clock, random: Math.random, logger };
  }

  #publisherFields(connection: Connection, purpose: string): PublisherFields {
    return {
      ...this.#supervision(connection, purpose),
      maxMessages: this.#options.maxBufferedMessages ?? defaults.maxBufferedMessages,
      maxBytes: this.#options.maxBufferedBytes ?? defaults.maxBufferedBytes,
    };
  }

  /** A publish to an exchange that does not exist ends its channel, and with it every request that waits there: asked beforehand. */
  async #assertExchange(exchange: string): Promise<void> {
    if (this.#knownExchanges.has(exchange)) return;
    const channel = await (await this.#publishing.ready()).createChannel();
    channel.on('error', () => {});
    try {
      await channel.checkExchange(exchange);
    } catch (error) {
      if (replyCodeOf(error) === replyCodes.notFound)
        throw new NoRouteError(`there is no exchange "${exchange}"`);
      throw new ConnectionLostError(messageOf(error), { cause: error });
    }
    this.#knownExchanges.add(exchange);
    await channel.close();
  }

  /** Requests have a channel of their own: it must be the one that consumes the replies, and another publish's 404 must not end it. */
  #requestPublisher(listener: ReplyListener): Publisher {
    return new Publisher({
      ...this.#publisherFields(this.#publishing, 'requests'),
      setup: async (channel) => {
        const onReply = (message: ConsumeMessage | null): void => {
          if (message !== null) listener.onReply(inboundReply(message));
        };
        await channel.consume(directReplyQueue, onReply, { noAck: true });
      },
      lost: (error) => {
        const why = `${this.#environment.name}: the connection was lost, replies to pending requests cannot arrive`;
        listener.onLost(new ConnectionLostError(why, { cause: error }));
      },
    });
  }

  async #startReplying(): Promise<void> {
    await this.#replying.open(new AbortController().signal);
    this.#replyPublisher = this.#openPublisher(this.#replying, 'replies');
    await this.#replyPublisher.start();
    this.#replies = new Replies(this.#replyPublisher);
  }

  #openPublisher(connection: Connection, purpose: string): Publisher {
    return new Publisher(this.#publisherFields(connection, purpose));
  }

  #connection(purpose: string): Connection {
    const { url, socket, reconnect } = this.#options;
    const { name, clock, logger } = this.#environment;
    return new Connection({
      urls: typeof url === 'string' ? [url] : (url ?? []),
      name: `${name}/${purpose}/${randomUUID().slice(0, 8)}`,
      socket: socket ?? {},
      reconnect: reconnect ?? defaults.reconnect,
      clock,
      random: Math.random,
      logger,
    });
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`the transport ${JSON.stringify(this.#environment.name)} is closed`);
  }
}
