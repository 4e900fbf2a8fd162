import { systemClock, type CancelTimer, type StorkClock } from '../../core/runtime/clock.js';
import { copyHeaders, type MessageHeaders } from '../../core/message/headers.js';
import { BrokerError } from './broker-error.js';
import { Connections, type Connection } from './connections.js';
import type { ConsumerGroup } from './topics/consumer-group.js';
import { deadLettered, goesInCircle, type BrokerDeadLetterReason } from './queues/dead-letter.js';
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
  /** For names that the broker gives. Numbers from 0 up to, but never, 1. */
  readonly random?: (() => number) | undefined;
}

/** `rejected`: at least one queue was full and refuses publishes; the others have the message. */
export type PublishOutcome = 'routed' | 'unrouted' | 'rejected';

/** RabbitMQ's queues and Kafka's topics in one process, on one clock. The two have nothing else in common. */
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

  /** Idempotent; other options than at the first time are refused. `''` asks for a name. */
  declareQueue(name: string, settings: QueueSettings = {}): MemoryQueue {
    this.#assertOpen();
    const existing = this.#queues.get(name);
    if (existing !== undefined) {
      assertSameSettings(existing.options, settings);
      return existing;
    }
    const chosen = name === '' ? randomName('amq.gen-', this.#random, (n) => this.#queues.has(n)) : name;
    const queue = new MemoryQueue({ ...settings, name: chosen }, this.#queueHost);
    this.#queues.set(chosen, queue);
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
    this.#bindable(exchange, queue).bind(queue, routingKey, args);
  }

  unbind(exchange: string, queue: string, routingKey: string, args?: MessageHeaders): void {
    this.#bindable(exchange, queue).unbind(queue, routingKey, args);
  }

  /** With `delayMs` the message is held that long and then routed; the answer is `routed` at once, whatever becomes of it. */
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

  /** False when nobody listens at the address. */
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

  /** `listener` hears the name of each new topic, after the stack that created it. */
  onTopic(listener: (name: string) => void): () => void {
    return this.#topics.onCreated(listener);
  }

  /** Created at first use. */
  group(groupId: string): ConsumerGroup {
    this.#assertOpen();
    return this.#topics.group(groupId);
  }

  /** What is consumed or open does not depend on it: whoever loses a connection closes what went through it. */
  connect(onLost: () => void): Connection {
    this.#assertOpen();
    return this.#connections.open(onLost);
  }

  /** Cuts all connections, as a broker that restarts. What it holds stays. */
  dropConnections(): void {
    this.#connections.dropAll();
  }

  /** Ends everything: no timer is left, consumers of queues hear that they are cancelled. Idempotent. */
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
    // All are served before the answer: one full queue keeps no other from its copy.
    const outcomes = targets.map((queue) => queue.enqueue({ ...message }));
    if (outcomes.includes('rejected')) return 'rejected';
    return targets.length === 0 ? 'unrouted' : 'routed';
  }

  #deadLetter(from: MemoryQueueOptions, message: MemoryMessage, reason: BrokerDeadLetterReason): void {
    if (this.#closed || from.deadLetterExchange === undefined) return;
    const dead = deadLettered(message, from, reason, this.clock.now());
    for (const queue of this.#targets(dead)) {
      if (!goesInCircle(dead.headers, queue.name)) queue.enqueue({ ...dead });
    }
  }

  /** Nothing where the exchange does not exist: only a publisher can be told, a dead letter vanishes. */
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

  #bindable(exchange: string, queue: string): Exchange {
    if (exchange === '') throw new BrokerError(403, 'The default exchange cannot be bound');
    if (!this.#queues.has(queue)) throw new BrokerError(404, `No queue "${queue}"`);
    return this.#exchange(exchange);
  }

  #assertOpen(): void {
    if (this.#closed) throw new Error('The in-memory broker is closed');
  }
}
