import type { ConnectionStateCell } from '../../core/port/connection-state.js';
import { validateTargetsNotConsumed } from '../../driver-kit/source-settings.js';
import { defaultDeliveryLimit, logCapabilities } from '../../driver-kit/log/log-capabilities.js';
import { destinationOf, outboundContent } from '../../driver-kit/log/outbound-record.js';
import { replyPartitions, replyValue } from '../../driver-kit/log/reply-record.js';
import {
  validateDeadLetterTopics,
  deadLetterTopic,
  findRetryTopics,
  retryTopic,
  type ConsumedTopic,
} from '../../driver-kit/log/topic-names.js';
import { findPatternProblems, onlyTopic, TopicSelection } from '../../driver-kit/log/topic-selection.js';
import type { DeadLetterStore, DeadLetterLocation } from '../../core/port/dead-letter-store.js';
import type {
  DeliverySink,
  Driver,
  ReplyInbox,
  ReplyListener,
  Subscription,
  SubscriptionSpec,
} from '../../core/port/driver.js';
import { NoRouteError, type ConfigProblem } from '../../core/runtime/errors.js';
import type {
  InboundMessage,
  OutboundMessage,
  ReplyAddress,
  OutboundReply,
  ReplyTarget,
} from '../../core/port/message.js';
import type { DriverEnvironment } from '../../nest/bootstrap/transport-definition.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import type { LogReplyAddress } from '../../driver-kit/log/log-record.js';
import {
  readLogReply,
  missingReplyTopic,
  replyHeaders,
  replyTargetOf,
} from '../../driver-kit/log/log-reply.js';
import { LogDeadLetters } from './log-dead-letters.js';
import { RetryTopicDelays } from '../../driver-kit/log/retry-topic-delays.js';
import { LogSubscription } from './log-subscription.js';
import { MemoryConnection } from '../connection.js';
import type { MemoryOptions } from '../options.js';

const defaultPartitions = 3;

/** The driver of `memory({ mode: 'log' })`: partitioned topics that consumer groups read. */
export class LogDriver implements Driver {
  readonly capabilities = logCapabilities;
  readonly deliveryLimit: number;
  readonly consumerName: string;
  readonly #broker: MemoryBroker;
  readonly #options: MemoryOptions;
  readonly #name: string;
  readonly #connection: MemoryConnection;
  #subscription: LogSubscription | undefined;
  #stopReplies: (() => void) | undefined;
  #delays = new RetryTopicDelays([]);
  #deadLetterTargets: readonly string[] = [];

  constructor(broker: MemoryBroker, options: MemoryOptions, { name }: DriverEnvironment) {
    this.#broker = broker;
    this.#options = options;
    this.#name = name;
    this.deliveryLimit = options.deliveryLimit ?? defaultDeliveryLimit;
    this.#connection = new MemoryConnection(broker, name, () => this.#reopen());
    this.consumerName = options.groupId ?? name;
  }

  validate(spec: SubscriptionSpec | undefined): readonly ConfigProblem[] {
    if (spec === undefined) return [];
    const { deadLetterTargets } = spec;
    const selection = new TopicSelection(this.#options, spec);
    return [
      ...findPatternProblems(spec, this.#options, this.#name),
      ...validateDeadLetterTopics(deadLetterTargets, this.#name),
      ...validateTargetsNotConsumed(deadLetterTargets, (name) => selection.reads(name), this.#name),
    ];
  }

  get state(): ConnectionStateCell {
    return this.#connection.state;
  }

  async connect(): Promise<void> {
    this.#connection.open();
  }

  async declare(spec: SubscriptionSpec): Promise<void> {
    const partitions = this.#options.partitions ?? defaultPartitions;
    const selection = new TopicSelection(this.#options, spec);
    for (const topic of selection.names) this.#declareTopic(topic, partitions);
    this.#delays = new RetryTopicDelays(spec.redeliverDelaysMs, spec.unhandledDelayMs);
    this.#deadLetterTargets = spec.deadLetterTargets;
    for (const topic of this.#subscribed(selection)) this.#declareManagedTopics(topic);
  }

  async subscribe(spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription> {
    const selection = new TopicSelection(this.#options, spec);
    this.#subscription = new LogSubscription({
      broker: this.#broker,
      group: this.consumerName,
      patternHeader: this.#options.patternHeader,
      fromBeginning: this.#options.fromBeginning ?? false,
      sink,
      topics: () => [...this.#subscribed(selection), ...this.#retryTopics(selection)],
      sourceSettingsOf: (topic) => selection.sourceSettingsOf(topic),
      consumedTopicOf: (topic) => this.#consumedTopicOf(topic, selection),
      declareManagedTopics: (topic) => this.#declareManagedTopics(topic),
      retryTopicFor: (source, delayMs) =>
        retryTopic(source, this.consumerName, this.#delays.topicDelayFor(delayMs) ?? delayMs),
    });
    await this.#subscription.open();
    return this.#subscription;
  }

  destinationOf(message: Pick<OutboundMessage, 'pattern' | 'to'>): string {
    return destinationOf(message, this.#options);
  }

  async publish(message: OutboundMessage): Promise<void> {
    this.#connection.assertOpen();
    const name = destinationOf(message, this.#options);
    const topic = this.#broker.topic(name);
    if (topic === undefined) throw new NoRouteError(`there is no topic ${JSON.stringify(name)}`);
    const { partition } = message;
    if (partition !== undefined && partition >= topic.partitionCount) {
      throw new NoRouteError(
        `the topic "${topic.name}" has no partition ${partition}, only ${topic.partitionCount}`,
      );
    }
    topic.append({
      key: message.key,
      ...outboundContent(message, name, this.#options.patternHeader),
      timestamp: message.timestamp,
      ...(partition === undefined ? {} : { partition }),
    });
  }

  roundDelay(delayMs: number): number | undefined {
    return this.#delays.roundUp(delayMs);
  }

  async openReplies(listener: ReplyListener): Promise<ReplyInbox> {
    this.#connection.assertOpen();
    const name = `${this.consumerName}.reply`;
    const topic = this.#broker.createTopic(name, { partitions: replyPartitions });
    const partition = Math.floor(Math.random() * topic.partitionCount);
    // Without a group no rebalance revokes the partition: this client reads it from its end on.
    let next = topic.endOffset(partition);
    this.#stopReplies = topic.onAppend(() => {
      for (const record of topic.read(partition, next, Infinity)) {
        next = record.offset + 1;
        queueMicrotask(() => listener.onReply(readLogReply(record)));
      }
    });
    return { address: { topic: name, partition } satisfies LogReplyAddress };
  }

  parseReplyAddress(message: InboundMessage): ReplyTarget {
    const isConsumed = (topic: string): boolean => this.#subscription?.reads(topic) ?? false;
    const target = replyTargetOf(message.headers, this.#options.replyTopics ?? [], isConsumed);
    const isMissing = target.topic !== undefined && this.#broker.topic(target.topic) === undefined;
    return isMissing ? missingReplyTopic(target.topic) : target;
  }

  async reply(to: ReplyAddress, reply: OutboundReply): Promise<'confirmed' | 'undeliverable'> {
    const { topic: name, partition } = to as LogReplyAddress;
    const topic = this.#broker.topic(name);
    if (topic === undefined || (partition !== undefined && partition >= topic.partitionCount))
      return 'undeliverable';
    topic.append({
      key: undefined,
      value: replyValue(reply),
      headers: replyHeaders(reply),
      timestamp: this.#broker.clock.now(),
      ...(partition === undefined ? {} : { partition }),
    });
    return 'confirmed';
  }

  deadLetterName(source: string): string {
    return deadLetterTopic(source);
  }

  async deadLetters({
    source = onlyTopic(this.#options),
    from,
  }: DeadLetterLocation): Promise<DeadLetterStore> {
    this.#connection.assertOpen();
    const { patternHeader } = this.#options;
    return new LogDeadLetters({
      broker: this.#broker,
      group: this.consumerName,
      patternHeader,
      location: { source, from },
    });
  }

  unwrap(): MemoryBroker | undefined {
    return this.#connection.broker;
  }

  async close(): Promise<void> {
    this.#stopReplies?.();
    await this.#subscription?.close();
    this.#connection.close();
  }

  /** Replies stay in their topic; the consumer rejoins its group. */
  #reopen(): void {
    // Rejects only if the broker is closed.
    this.#subscription?.reopen().catch(() => {});
  }

  #declareTopic(name: string, partitions: number): void {
    if (this.#broker.topic(name) === undefined) this.#broker.createTopic(name, { partitions });
  }

  #declareManagedTopics(topic: string): void {
    const { partitionCount } = this.#broker.topic(topic)!;
    for (const deadLetters of [deadLetterTopic(topic), ...this.#deadLetterTargets])
      this.#declareTopic(deadLetters, partitionCount);
    for (const delayMs of this.#delays.topicDelaysMs)
      this.#declareTopic(retryTopic(topic, this.consumerName, delayMs), partitionCount);
  }

  /** Includes topics of delays that no policy uses any more: they can still hold messages. */
  #retryTopics(selection: TopicSelection): readonly string[] {
    const sources = this.#subscribed(selection);
    return [...findRetryTopics(this.#broker.topicNames, sources, this.consumerName).keys()];
  }

  #consumedTopicOf(name: string, selection: TopicSelection): ConsumedTopic {
    const retry = findRetryTopics([name], this.#subscribed(selection), this.consumerName).get(name);
    return retry ?? { source: name, delayMs: undefined };
  }

  #subscribed(selection: TopicSelection): readonly string[] {
    return this.#broker.topicNames.filter((name) => selection.reads(name));
  }
}
