import type { BackoffOptions, StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin } from '../../core/runtime/with-timeout.js';
import { ConnectionStateCell } from '../../core/port/connection-state.js';
import {
  BufferFullError,
  ClientClosedError,
  MessageTooLargeError,
  messageOf,
  NoRouteError,
  PublishRejectedError,
  PublishUnconfirmedError,
} from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import { ProducerPool, type PooledProducer } from './producer-pool.js';
import {
  KafkaClientError,
  type KafkaClient,
  type ProducerSettings,
  type RecordToSend,
} from '../client/client.js';
import { RetryBackoffs } from './retry-backoffs.js';
import { PendingRecord, sizeOf, type BatchLimits, type PartitionBatcher } from './partition-batcher.js';
import { isPartition, partitionBy, partitionOfKey, type Partitioner } from './partitioner.js';
import type { TopicMetadataCache } from './topic-metadata-cache.js';
import { TopicAccumulator } from './topic-accumulator.js';

/** More in one request, and the client's grouping of them takes longer than the broker's work. */
const maxRecords = 1_000;
/** Brokers take 1 MiB; headers of the batch, and what compression adds to bytes that do not compress, need room. */
const defaultMaxBatchBytes = 900_000;
/** A connection may be told goodbye for this long, even where nothing is left of a shutdown's time. */
const goodbyeMs = 500;

export interface ProducerFields {
  readonly client: Pick<KafkaClient, 'openProducer'>;
  readonly topics: TopicMetadataCache;
  readonly settings: ProducerSettings;
  /** Shown before messages, e.g. the transport's name. */
  readonly name: string;
  /** Records without a confirmation, waiting for their turn or for the broker. */
  readonly maxBufferedMessages: number;
  /** Their bytes. */
  readonly maxBufferedBytes: number;
  /** Of one request, before compression; a record that is larger goes alone. @defaultValue 900 000 */
  readonly maxBatchBytes?: number | undefined;
  readonly partitioner?: Partitioner | undefined;
  readonly reconnect: BackoffOptions;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
}

/**
 * Writes records and confirms each. One request at a time for a partition, or order would be lost; partitions side by side. What arrives
 * while a request is under way goes out together in the next. What the broker cannot take for now waits, in order, within the bound.
 */
export class Producer {
  readonly state = new ConnectionStateCell();
  readonly #fields: ProducerFields;
  readonly #limits: BatchLimits;
  readonly #retryBackoffs: RetryBackoffs;
  readonly #clients: ProducerPool;
  readonly #routes = new Map<string, TopicAccumulator>();
  #due: PartitionBatcher[] = [];
  #isSendScheduled = false;
  readonly #sendScheduled = (): void => {
    this.#isSendScheduled = false;
    this.#sendDue();
  };
  #records = 0;
  #bytes = 0;
  #flushing: (() => void)[] = [];
  #closing: Promise<void> | undefined;
  #ended = false;

  constructor(fields: ProducerFields) {
    this.#fields = fields;
    this.#limits = { maxRecords, maxBytes: fields.maxBatchBytes ?? defaultMaxBatchBytes };
    this.#retryBackoffs = new RetryBackoffs({ ...fields, state: this.state });
    this.#clients = new ProducerPool({
      ...fields,
      retryBackoffs: this.#retryBackoffs,
      up: () => {
        if (!this.#retryBackoffs.any) this.state.move({ value: 'ready' });
        this.#sendDue();
      },
      refused: (error) => this.#refused(error),
    });
  }

  /** Records that are not settled, and their bytes. */
  get buffered(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.#records, bytes: this.#bytes };
  }

  /** Resolves when it can send; rejects where the broker refuses, and when it is closed first. The first publish opens it too. */
  open(): Promise<void> {
    if (this.state.current.value === 'idle') this.state.move({ value: 'connecting' });
    return this.#clients.ready();
  }

  /** @param partition undefined: by the key, else where the others without a key go */
  publish(topic: string, record: RecordToSend, partition?: number): Promise<void> {
    const { name, maxBufferedMessages, maxBufferedBytes } = this.#fields;
    if (this.#closing !== undefined) return Promise.reject(new ClientClosedError(`${name}: closed`));
    const bytes = sizeOf(record);
    if (bytes > maxBufferedBytes) {
      const why = `a message of about ${bytes} bytes is more than maxBufferedBytes, ${maxBufferedBytes}`;
      return Promise.reject(new MessageTooLargeError(`${name}: ${why}`));
    }
    if (this.#records >= maxBufferedMessages || this.#bytes + bytes > maxBufferedBytes) {
      const held = `${this.#records} messages with ${this.#bytes} bytes wait for the broker`;
      return Promise.reject(
        new BufferFullError(`${name}: ${held}, maxBufferedMessages or maxBufferedBytes allows no more`),
      );
    }
    this.#records++;
    this.#bytes += bytes;
    return new Promise((resolve, reject) => {
      this.#accept(topic, new PendingRecord(record, bytes, partition, resolve, reject));
    });
  }

  /** Resolves when everything that was accepted is settled. */
  async flush(): Promise<void> {
    if (this.#records === 0) return;
    await new Promise<void>((resolve) => {
      this.#flushing.push(resolve);
    });
  }

  /**
   * Accepts nothing more and flushes for at most `limitMs`; whoever still waits then gets `ClientClosedError`, or
   * `PublishUnconfirmedError` where the record was on its way. Idempotent. Never rejects.
   */
  close(limitMs: number): Promise<void> {
    this.#closing ??= this.#close(limitMs);
    return this.#closing;
  }

  async #close(limitMs: number): Promise<void> {
    const { clock, name } = this.#fields;
    const endMs = clock.now() + limitMs;
    if (this.#records > 0) await settlesWithin(clock, this.flush(), limitMs);
    this.#ended = true;
    this.#retryBackoffs.end();
    this.#failUnderWay(this.#queues(), `${name}: closed before what was on its way was confirmed`);
    this.#failUnsent(new ClientClosedError(`${name}: closed before it was sent`));
    await this.#clients.close(Math.max(goodbyeMs, endMs - clock.now()));
    this.state.move({ value: 'closed' });
  }

  #accept(topic: string, pending: PendingRecord): void {
    const route = this.#route(topic);
    // Behind what waits, or a record would overtake it.
    if (route.waiting.length === 0) {
      const partitions = this.#fields.topics.known(topic);
      const isBeyond = pending.partition !== undefined && pending.partition >= (partitions ?? 0);
      if (partitions !== undefined && !isBeyond) return this.#place(route, pending, partitions);
    }
    route.waiting.push(pending);
    if (!route.isAsking) {
      route.isAsking = true;
      void this.#ask(route);
    }
  }

  /** How many partitions a topic has, for those that wait to know. Never rejects. */
  async #ask(route: TopicAccumulator): Promise<void> {
    const { topics } = this.#fields;
    let partitions: number | undefined;
    try {
      // What is known already was not enough: somebody names a partition beyond.
      partitions = await topics.refreshed(route.topic);
    } catch (error) {
      partitions = topics.known(route.topic);
      if (partitions === undefined) return this.#askFailed(route, failureOf(error));
    }
    if (this.#ended) return;
    if (partitions === undefined) {
      return this.#rejectAsked(route, new NoRouteError(`there is no topic ${JSON.stringify(route.topic)}`));
    }
    for (const pending of this.#takeAsked(route)) this.#place(route, pending, partitions);
  }

  #askFailed(route: TopicAccumulator, error: KafkaClientError): void {
    if (this.#ended) return;
    if (error.failure !== 'refused') {
      return this.#retryBackoffs.backOff(route, error, () => void this.#ask(route));
    }
    const why = `the broker does not say what partitions ${JSON.stringify(route.topic)} has: ${error.message}`;
    this.#rejectAsked(route, new PublishRejectedError(why, { cause: error }));
  }

  /** The broker has answered: those that waited for it. */
  #takeAsked(route: TopicAccumulator): readonly PendingRecord[] {
    this.#retryBackoffs.over(route);
    route.isAsking = false;
    return takeWaiting(route);
  }

  #rejectAsked(route: TopicAccumulator, error: Error): void {
    // Names of topics come from outside, e.g. as reply addresses: those that do not exist must not pile up.
    if (route.queues.length === 0) this.#routes.delete(route.topic);
    this.#reject(this.#takeAsked(route), error);
  }

  /** Into the queue of its partition. */
  #place(route: TopicAccumulator, pending: PendingRecord, partitions: number): void {
    let partition: number;
    try {
      partition = this.#choose(route, pending, partitions);
    } catch (error) {
      return this.#settle(pending, error as Error);
    }
    const queue = route.queue(partition);
    queue.push(pending);
    if (queue.phase === 'idle') this.#makeDue(queue);
  }

  #choose(route: TopicAccumulator, { partition, record }: PendingRecord, partitions: number): number {
    const { topic } = route;
    if (partition !== undefined) {
      if (isPartition(partition, partitions)) return partition;
      throw new NoRouteError(
        `the topic ${JSON.stringify(topic)} has no partition ${partition}, only ${partitions}`,
      );
    }
    const { partitioner, random } = this.#fields;
    if (partitioner !== undefined) return partitionBy(partitioner, { topic, key: record.key, partitions });
    return record.key === null ? route.sticky(partitions, random) : partitionOfKey(record.key, partitions);
  }

  /** It is sent when this turn's publishes are in: what is published together goes out together. */
  #makeDue(queue: PartitionBatcher): void {
    queue.phase = 'due';
    this.#due.push(queue);
    if (this.#isSendScheduled) return;
    this.#isSendScheduled = true;
    queueMicrotask(this.#sendScheduled);
  }

  #sendDue(): void {
    if (this.#due.length === 0 || this.#ended) return;
    const lease = this.#clients.current;
    if (lease === undefined) {
      if (this.state.current.value === 'idle') this.state.move({ value: 'connecting' });
      return this.#clients.open();
    }
    const due = this.#due;
    this.#due = [];
    for (const queue of due) {
      if (queue.isEmpty) queue.phase = 'idle';
      else void this.#send(lease, queue);
    }
  }

  /** One request, and what becomes of it. Never rejects. */
  async #send(lease: PooledProducer, queue: PartitionBatcher): Promise<void> {
    const records = queue.begin(this.#limits);
    queue.phase = 'sending';
    lease.sending.add(queue);
    this.#route(queue.topic).sent(queue.partition, queue.bytesUnderWay);
    let failure: KafkaClientError | undefined;
    try {
      await lease.client.send(queue.topic, queue.partition, records);
    } catch (error) {
      failure = failureOf(error);
    }
    lease.end(queue);
    if (this.#ended) return;
    if (failure === undefined) for (const pending of queue.takeUnderWay()) this.#settle(pending);
    else this.#sendFailed(lease, queue, failure);
    this.#sent(queue, failure);
  }

  /** On to what has come in between. */
  #sent(queue: PartitionBatcher, failure: KafkaClientError | undefined): void {
    if (failure?.failure === 'unavailable' && !queue.isEmpty) {
      queue.phase = 'backing-off';
      this.#route(queue.topic).leave(queue.partition);
      return this.#retryBackoffs.backOff(queue, failure, () => this.#makeDue(queue));
    }
    this.#retryBackoffs.over(queue);
    if (queue.isEmpty) queue.phase = 'idle';
    else this.#makeDue(queue);
  }

  #sendFailed(lease: PooledProducer, queue: PartitionBatcher, error: KafkaClientError): void {
    const where = `partition ${queue.partition} of ${JSON.stringify(queue.topic)}`;
    const unconfirmed = `what was sent to ${where} was not confirmed: ${error.message}`;
    if (this.#fields.settings.idempotent) {
      // Its sequence numbers may be wrong from here on: what it confirms for the others cannot be believed either.
      const why = `another request of the same idempotent producer failed: ${error.message}`;
      this.#failUnderWay(lease.sending, why, error);
      this.#clients.retire(lease);
      // The client has tried several times, and only the last is known not to have succeeded: a new producer could double it.
      if (error.failure === 'unavailable') return this.#failUnderWay([queue], unconfirmed, error);
    }
    switch (error.failure) {
      case 'unavailable':
        return queue.requeueAfterDelay();
      case 'too-large': {
        const alone = queue.halve();
        if (alone !== undefined) this.#settle(alone, tooLarge(alone, where, error));
        return;
      }
      case 'unknown-topic':
        this.#topicIsGone(queue, error);
        // It would wait for this topic's metadata, and soon reject every other topic too.
        return this.#clients.retire(lease);
      case 'unconfirmed':
      case 'fenced':
        return this.#failUnderWay([queue], unconfirmed, error);
      case 'refused':
      case 'unsupported-codec': {
        const why = `the broker refused what was sent to ${where}: ${error.message}`;
        return this.#reject(queue.takeUnderWay(), new PublishRejectedError(why, { cause: error }));
      }
    }
  }

  /** What is on its way to its other partitions gets an answer of its own. */
  #topicIsGone({ topic, partition }: PartitionBatcher, cause: KafkaClientError): void {
    const why = `there is no topic ${JSON.stringify(topic)}, or no partition ${partition} of it any more`;
    const error = new NoRouteError(why, { cause });
    const route = this.#route(topic);
    this.#fields.topics.forget(topic);
    this.#reject(route.queue(partition).takeUnderWay(), error);
    this.#failUnsentOf(route, error);
  }

  #failUnderWay(queues: Iterable<PartitionBatcher>, why: string, cause?: Error): void {
    let error: Error | undefined;
    for (const queue of queues) {
      const pending = queue.takeUnderWay();
      if (pending.length === 0) continue;
      error ??= new PublishUnconfirmedError(why, { cause });
      this.#reject(pending, error);
    }
  }

  /** The next publish tries again. */
  #refused(error: PublishRejectedError): void {
    this.#failUnsent(error);
    for (const queue of this.#due) queue.phase = 'idle';
    this.#due = [];
  }

  #failUnsent(error: Error): void {
    for (const route of this.#routes.values()) this.#failUnsentOf(route, error);
  }

  #failUnsentOf(route: TopicAccumulator, error: Error): void {
    this.#reject(takeWaiting(route), error);
    for (const queue of route.queues) {
      this.#reject(queue.takeUnsent(), error);
      if (queue.phase !== 'backing-off') continue;
      this.#retryBackoffs.over(queue);
      queue.phase = 'idle';
    }
  }

  #reject(pending: readonly PendingRecord[], error: Error): void {
    for (const one of pending) this.#settle(one, error);
  }

  #settle(pending: PendingRecord, error?: Error): void {
    this.#records--;
    this.#bytes -= pending.bytes;
    if (error === undefined) pending.resolve();
    else pending.reject(error);
    if (this.#records > 0 || this.#flushing.length === 0) return;
    for (const resolve of this.#flushing.splice(0)) resolve();
  }

  #route(topic: string): TopicAccumulator {
    let route = this.#routes.get(topic);
    if (route === undefined) {
      route = new TopicAccumulator(topic);
      this.#routes.set(topic, route);
    }
    return route;
  }

  *#queues(): Iterable<PartitionBatcher> {
    for (const { queues } of this.#routes.values()) yield* queues;
  }
}

function takeWaiting(route: TopicAccumulator): readonly PendingRecord[] {
  const { waiting } = route;
  route.waiting = [];
  return waiting;
}

/** What is no error of the port's says nothing about the record. */
function failureOf(error: unknown): KafkaClientError {
  if (error instanceof KafkaClientError) return error;
  return new KafkaClientError('unconfirmed', messageOf(error), { cause: error });
}

function tooLarge({ bytes }: PendingRecord, where: string, cause: KafkaClientError): MessageTooLargeError {
  const why = `a message of about ${bytes} bytes does not fit into ${where}: ${cause.message}`;
  return new MessageTooLargeError(why, { cause });
}
