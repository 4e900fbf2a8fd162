import { ConnectionStateCell } from '../../core/port/connection-state.js';
import {
  validateTargetsNotConsumed,
  sourceSettingsOf,
  findConflicts,
  findConflictsByPattern,
} from '../../driver-kit/source-settings.js';
import {
  validateDeadLetterTopics,
  deadLetterTopic,
  findRetryTopics,
  isManagedTopic,
  validTopicName,
  retryTopic,
  type ConsumedTopic,
} from '../../driver-kit/log/topic-names.js';
import type { DeadLetterStore, DeadLetterLocation } from '../../core/port/dead-letter-store.js';
import type {
  Capabilities,
  DeliverySink,
  Driver,
  ReplyInbox,
  ReplyListener,
  Subscription,
  SubscriptionSpec,
} from '../../core/port/driver.js';
import { ClientClosedError, NoRouteError, type ConfigProblem } from '../../core/runtime/errors.js';
import { patternFromRegExp } from '../../core/message/pattern.js';
import type {
  InboundMessage,
  OutboundMessage,
  ReplyAddress,
  OutboundReply,
  ReplyTarget,
} from '../../core/port/message.js';
import type { DriverEnvironment } from '../../nest/bootstrap/transport-definition.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import { outboundHeaders, type LogReplyAddress } from '../../driver-kit/log/log-record.js';
import {
  readLogReply,
  missingReplyTopic,
  replyHeaders,
  replyTargetOf,
} from '../../driver-kit/log/log-reply.js';
import { LogDeadLetters } from './log-dead-letters.js';
import { RetryTopicDelays } from '../../driver-kit/log/retry-topic-delays.js';
import { LogSubscription } from './log-subscription.js';
import { keepAlive } from '../keep-alive.js';
import type { MemoryOptions } from '../options.js';

const defaultPartitions = 3;
const replyPartitions = 6;

export const logCapabilities: Capabilities = {
  messageOptions: new Set(['partition']),
  destinations: new Set(['topic']),
  pausesWithoutRedelivery: true,
  requeue: 'in-process',
  exclusiveSource: false,
};

/** The driver of `memory({ mode: 'log' })`: partitioned topics read by consumer groups. */
export class LogDriver implements Driver {
  readonly capabilities = logCapabilities;
  readonly consumerName: string;
  readonly state = new ConnectionStateCell();
  readonly #broker: MemoryBroker;
  readonly #options: MemoryOptions;
  readonly #name: string;
  #connection: { close(): void } | undefined;
  #stayAlive: (() => void) | undefined;
  #subscription: LogSubscription | undefined;
  #stopReplies: (() => void) | undefined;
  #delays = new RetryTopicDelays([]);
  #deadLetterTargets: readonly string[] = [];

  constructor(broker: MemoryBroker, options: MemoryOptions, { name }: DriverEnvironment) {
    this.#broker = broker;
    this.#options = options;
    this.#name = name;
    this.consumerName = options.groupId ?? name;
  }

  validate(spec: SubscriptionSpec | undefined): readonly ConfigProblem[] {
    if (spec === undefined) return [];
    const { topic } = this.#options;
    const { deadLetterTargets } = spec;
    const problems = [
      ...validateDeadLetterTopics(deadLetterTargets, this.#name),
      ...validateTargetsNotConsumed(deadLetterTargets, (name) => this.#isSource(name, spec), this.#name),
    ];
    if (this.#sharesSource) {
      const source = topic === undefined ? 'the topics' : `the topic "${topic}"`;
      return [...problems, ...findConflicts(spec.patterns, source)];
    }
    return [...problems, ...findConflictsByPattern(spec.patterns), ...this.#illegalTopics(spec)];
  }

  /** Whether every pattern may be in every topic; else each pattern is a topic. */
  get #sharesSource(): boolean {
    const { topic, topics } = this.#options;
    return topic !== undefined || topics !== undefined;
  }

  #illegalTopics({ patterns }: SubscriptionSpec): ConfigProblem[] {
    return patterns
      .filter(({ kind, text }) => kind !== 'regexp' && !validTopicName.test(text))
      .map(({ text }) => ({
        name: `pattern ${text} on the transport ${JSON.stringify(this.#name)}`,
        expected:
          'a topic name of letters, digits, _, . and -; or topic with patternHeader, or via() another transport',
        given: text,
      }));
  }

  async connect(): Promise<void> {
    if (this.state.current.value === 'closed') throw this.#closedError();
    if (this.#connection !== undefined) return;
    this.state.move({ value: 'connecting' });
    this.#connection = this.#broker.connect(() => this.#lost());
    this.#stayAlive ??= keepAlive();
    this.state.move({ value: 'ready' });
  }

  async declare(spec: SubscriptionSpec): Promise<void> {
    const partitions = this.#options.partitions ?? defaultPartitions;
    for (const topic of this.#sources(spec)) {
      if (typeof topic === 'string') this.#declareTopic(topic, partitions);
    }
    this.#delays = new RetryTopicDelays(spec.redeliverDelaysMs);
    this.#deadLetterTargets = spec.deadLetterTargets;
    for (const topic of this.#subscribed(spec)) this.#declareManagedTopics(topic);
  }

  async subscribe(spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription> {
    this.#subscription = new LogSubscription({
      broker: this.#broker,
      group: this.consumerName,
      patternHeader: this.#options.patternHeader,
      fromBeginning: this.#options.fromBeginning ?? false,
      sink,
      topics: () => [...this.#subscribed(spec), ...this.#retryTopics(spec)],
      sourceSettingsOf: (topic) => sourceSettingsOf(spec.patterns, this.#sharesSource ? undefined : topic),
      homeOf: (topic) => this.#homeOf(topic, spec),
      declareManagedTopics: (topic) => this.#declareManagedTopics(topic),
      retryTopicFor: (source, delayMs) =>
        retryTopic(source, this.consumerName, this.#delays.topicDelayFor(delayMs) ?? delayMs),
    });
    await this.#subscription.open();
    return this.#subscription;
  }

  async publish(message: OutboundMessage): Promise<void> {
    this.#assertOpen();
    const topic = this.#broker.topic(this.#destination(message));
    if (topic === undefined) throw new NoRouteError(`there is no topic "${this.#destination(message)}"`);
    const { partition } = message;
    if (partition !== undefined && partition >= topic.partitionCount) {
      throw new NoRouteError(
        `the topic "${topic.name}" has no partition ${partition}, only ${topic.partitionCount}`,
      );
    }
    topic.append({
      key: message.key,
      value: message.body,
      headers: outboundHeaders(message, this.#options.patternHeader),
      timestamp: message.timestamp,
      ...(partition === undefined ? {} : { partition }),
    });
  }

  roundDelay(delayMs: number): number | undefined {
    return this.#delays.roundUp(delayMs);
  }

  async openReplies(listener: ReplyListener): Promise<ReplyInbox> {
    this.#assertOpen();
    const name = `${this.consumerName}.reply`;
    const topic = this.#broker.createTopic(name, { partitions: replyPartitions });
    const partition = Math.floor(Math.random() * topic.partitionCount);
    // No group: a partition read from its end by this client alone, which no rebalance can take away.
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
      value: reply.body,
      headers: replyHeaders(reply),
      timestamp: this.#broker.clock.now(),
      ...(partition === undefined ? {} : { partition }),
    });
    return 'confirmed';
  }

  async deadLetters({ source = this.#onlyTopic, from }: DeadLetterLocation): Promise<DeadLetterStore> {
    this.#assertOpen();
    const { patternHeader } = this.#options;
    return new LogDeadLetters({
      broker: this.#broker,
      group: this.consumerName,
      patternHeader,
      place: { source, from },
    });
  }

  /** Undefined where it is not the options that name the topics, or they name several. */
  get #onlyTopic(): string | undefined {
    const { topic, topics = [] } = this.#options;
    const [first] = topics;
    return topic ?? (topics.length === 1 && typeof first === 'string' ? first : undefined);
  }

  async close(): Promise<void> {
    this.#stopReplies?.();
    await this.#subscription?.close();
    this.#connection?.close();
    this.#stayAlive?.();
    this.state.move({ value: 'closed' });
  }

  /** Replies stay in their topic; the group's partitions are given out anew. */
  #lost(): void {
    this.#connection = undefined;
    void this.connect();
    // It fails only where the broker itself is closed.
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

  /** Those of delays that nobody asks for any more too: they may hold messages. */
  #retryTopics(spec: SubscriptionSpec): readonly string[] {
    return [...findRetryTopics(this.#broker.topicNames, this.#subscribed(spec), this.consumerName).keys()];
  }

  #homeOf(name: string, spec: SubscriptionSpec): ConsumedTopic {
    const home = findRetryTopics([name], this.#subscribed(spec), this.consumerName).get(name);
    return home ?? { source: name, delayMs: undefined };
  }

  /** What the user or the handlers name: one topic, several, or each pattern as a topic. */
  #sources(spec: SubscriptionSpec): readonly (string | RegExp)[] {
    const { topic, topics } = this.#options;
    if (topic !== undefined) return [topic];
    if (topics === undefined) return spec.patterns.map(({ text, regExp }) => regExp ?? text);
    // `g` and `y` would make a match depend on the one before.
    return topics.map((name) => (typeof name === 'string' ? name : patternFromRegExp(name).regExp!));
  }

  #subscribed(spec: SubscriptionSpec): readonly string[] {
    return this.#broker.topicNames.filter((name) => this.#isSource(name, spec));
  }

  #isSource(name: string, spec: SubscriptionSpec): boolean {
    return this.#sources(spec).some((source) =>
      typeof source === 'string' ? source === name : source.test(name) && !isManagedTopic(name),
    );
  }

  #destination(message: OutboundMessage): string {
    const { publishTo, topic } = this.#options;
    const to = message.to ?? publishTo;
    if (to !== undefined && 'topic' in to) return to.topic;
    return topic ?? message.pattern;
  }

  #assertOpen(): void {
    if (this.state.current.value === 'closed') throw this.#closedError();
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`the transport ${JSON.stringify(this.#name)} is closed`);
  }
}
