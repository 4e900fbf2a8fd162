import { systemClock, type CancelTimer, type StorkClock } from '../../core/runtime/clock.js';
import { copyHeaders, type MessageHeaders } from '../../core/message/headers.js';
import { BrokerError } from './broker-error.js';
import { Connections, type Connection } from './connections.js';
import type { ConsumerGroup } from './topics/consumer-group.js';
import { deadLettered, isDeadLetterCycle, type BrokerDeadLetterReason } from './queues/dead-letter.js';
import { Exchange, type ExchangeType } from './queues/exchange.js';
import { MemoryQueue, type QueueHost } from './queues/memory-queue.js';
import { type MemoryQueueOptions, assertSameSettings, type QueueSettings } from './queues/queue-settings.js';
import type { MemoryTopic } from './topics/memory-topic.js';
import type { MemoryContent, MemoryMessage } from './message.js';
import { randomName } from './random-name.js';
import { inboxPrefix, ReplyInboxes, type ReplyInbox } from './reply-inboxes.js';
import { TopicStore } from './topics/topic-store.js';

export interface MemoryBrokerOptions {
  readonly clock?: StorkClock | undefined;
  /** Source of randomness for server-named queues and reply addresses, in the range [0, 1). */
  readonly random?: (() => number) | undefined;
}

/** `rejected`: at least one queue is full and has `reject-publish`; the other queues got the message. */
export type PublishOutcome = 'routed' | 'unrouted' | 'rejected';

/** RabbitMQ's queues and Kafka's topics in one process. The two halves share the clock and nothing else. */
export class MemoryBroker {
  readonly clock: StorkClock;
  readonly #random: () => number;
  readonly #queues = new Map<string, MemoryQueue>();
  readonly #exchanges = new Map<string, Exchange>();
  readonly #topics: TopicStore;
  readonly #connections = new Connections();
  readonly #inboxes: ReplyInboxes;
  readonly #queueHost: QueueHost;
  readonly #delayed = new Set<CancelTimer>();
  #closed = false;

  constructor({ clock = systemClock, random = Math.random }: MemoryBrokerOptions = {}) {
    this.clock = clock;
    this.#random = random;
    this.#topics = new TopicStore(clock);
    this.#inboxes = new ReplyInboxes(random);
    this.#queueHost = {
      clock,
      deadLetter: (queue, message, reason) => this.#deadLetter(queue, message, reason),
      deleted: (queue) => this.#forget(queue),
    };
  }

  get queueNames(): readonly string[] {
    return [...this.#queues.keys()];
  }

  get topicNames(): readonly string[] {
    return this.#topics.names;
  }

  /**
   * Idempotent. `''` declares a server-named queue.
   *
   * @throws BrokerError 406 if the queue exists with other settings
   */
  declareQueue(name: string, settings: QueueSettings = {}): MemoryQueue {
    this.#assertOpen();
    const existing = this.#queues.get(name);
    if (existing !== undefined) {
      assertSameSettings(existing.options, settings);
      return existing;
    }
    const queueName = name === '' ? randomName('amq.gen-', this.#random, (n) => this.#queues.has(n)) : name;
    const queue = new MemoryQueue({ ...settings, name: queueName }, this.#queueHost);
    this.#queues.set(queueName, queue);
    return queue;
  }

  queue(name: string): MemoryQueue | undefined {
    return this.#queues.get(name);
  }

  deleteQueue(name: string): void {
    this.#queues.get(name)?.delete();
  }

  declareExchange(name: string, type: ExchangeType): void {
    this.#assertOpen();
    if (name === '') throw new BrokerError(403, 'The default exchange cannot be declared');
    const existing = this.#exchanges.get(name) ?? new Exchange(name, type);
    if (existing.type !== type) {
      throw new BrokerError(
        406,
        `Exchange "${name}" exists with type ${existing.type}, declared now with ${type}`,
      );
    }
    this.#exchanges.set(name, existing);
  }

  bind(exchange: string, queue: string, routingKey: string, args?: MessageHeaders): void {
    this.#bindableExchange(exchange, queue).bind(queue, routingKey, args);
  }

  unbind(exchange: string, queue: string, routingKey: string, args?: MessageHeaders): void {
    this.#bindableExchange(exchange, queue).unbind(queue, routingKey, args);
  }

  /**
   * With `delayMs` the message is routed after that delay. The outcome is then `routed` at once, also
   * if no queue takes the message later.
   */
  publish(
    exchange: string,
    routingKey: string,
    content: MemoryContent,
    { delayMs = 0 }: { readonly delayMs?: number | undefined } = {},
  ): PublishOutcome {
    this.#assertOpen();
    if (exchange !== '') this.#exchange(exchange);
    const message: MemoryMessage = {
      body: content.body,
      headers: copyHeaders(content.headers),
      properties: { ...content.properties },
      exchange,
      routingKey,
    };
    if (delayMs <= 0) return this.#route(message);
    const cancel = this.clock.setTimer(delayMs, () => {
      this.#delayed.delete(cancel);
      this.#route(message);
    });
    this.#delayed.add(cancel);
    return 'routed';
  }

  openInbox(onMessage: (message: MemoryMessage) => void): ReplyInbox {
    this.#assertOpen();
    return this.#inboxes.open(onMessage);
  }

  /** False if no client has an inbox at the address. */
  deliverToInbox(address: string, message: MemoryMessage): boolean {
    return this.#inboxes.deliver(address, message);
  }

  /** Idempotent. A topic can get more partitions, never fewer. */
  createTopic(name: string, { partitions }: { readonly partitions: number }): MemoryTopic {
    this.#assertOpen();
    return this.#topics.create(name, partitions);
  }

  topic(name: string): MemoryTopic | undefined {
    return this.#topics.topic(name);
  }

  deleteTopic(name: string): void {
    this.#topics.delete(name);
  }

  /**
   * Calls `listener` with the name of each new topic, after the call stack that created it has returned.
   */
  onTopic(listener: (name: string) => void): () => void {
    return this.#topics.onCreated(listener);
  }

  /** The consumer group of that id, created at first use. */
  group(groupId: string): ConsumerGroup {
    this.#assertOpen();
    return this.#topics.group(groupId);
  }

  /**
   * Consumers and inboxes do not depend on the connection: when `onLost` is called, the client closes
   * those that it opened.
   */
  connect(onLost: () => void): Connection {
    this.#assertOpen();
    return this.#connections.open(onLost);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Drops all connections, as a restart of the broker does. Queues, topics and offsets stay. */
  dropConnections(): void {
    this.#connections.dropAll();
  }

  /** Deletes everything, cancels every timer and every consumer of a queue. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const cancel of this.#delayed) cancel();
    this.#delayed.clear();
    this.#inboxes.closeAll();
    this.#connections.closeAll();
    this.#topics.close();
    for (const queue of this.#queues.values()) queue.delete();
    this.#exchanges.clear();
  }

  #route(message: MemoryMessage): PublishOutcome {
    if (message.exchange === '' && message.routingKey.startsWith(inboxPrefix)) {
      return this.#inboxes.deliver(message.routingKey, message) ? 'routed' : 'unrouted';
    }
    const targets = this.#targets(message);
    // A full queue must not keep the message from the other queues.
    const outcomes = targets.map((queue) => queue.enqueue({ ...message }));
    if (outcomes.includes('rejected')) return 'rejected';
    return targets.length === 0 ? 'unrouted' : 'routed';
  }

  #deadLetter(from: MemoryQueueOptions, message: MemoryMessage, reason: BrokerDeadLetterReason): void {
    if (this.#closed || from.deadLetterExchange === undefined) return;
    const dead = deadLettered(message, from, reason, this.clock.now());
    for (const queue of this.#targets(dead)) {
      if (!isDeadLetterCycle(dead.headers, queue.name)) queue.enqueue({ ...dead });
    }
  }

  /** Empty if the exchange does not exist. RabbitMQ drops dead letters in that case, too. */
  #targets({ exchange, routingKey, headers }: MemoryMessage): readonly MemoryQueue[] {
    const names =
      exchange === '' ? [routingKey] : (this.#exchanges.get(exchange)?.route(routingKey, headers) ?? []);
    return [...names].flatMap((name) => this.#queues.get(name) ?? []);
  }

  #forget(queue: MemoryQueue): void {
    this.#queues.delete(queue.name);
    for (const exchange of this.#exchanges.values()) exchange.unbindAll(queue.name);
  }

  #exchange(name: string): Exchange {
    const exchange = this.#exchanges.get(name);
    if (exchange === undefined) throw new BrokerError(404, `No exchange "${name}"`);
    return exchange;
  }

  #bindableExchange(exchange: string, queue: string): Exchange {
    if (exchange === '') throw new BrokerError(403, 'The default exchange cannot be bound');
    if (!this.#queues.has(queue)) throw new BrokerError(404, `No queue "${queue}"`);
    return this.#exchange(exchange);
  }

  #assertOpen(): void {
    if (this.#closed) throw new Error('The in-memory broker is closed');
  }
}
