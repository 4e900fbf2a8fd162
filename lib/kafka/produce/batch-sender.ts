import type { StorkClock } from '../../core/runtime/clock.js';
import type { ConnectionStateCell } from '../../core/port/connection-state.js';
import {
  MessageTooLargeError,
  NoRouteError,
  PublishRejectedError,
  PublishUnconfirmedError,
} from '../../core/runtime/errors.js';
import type { KafkaClient, KafkaClientError, ProducerSettings } from '../client/client.js';
import type { BatchLimits, PartitionBatcher, PendingRecord } from './partition-batcher.js';
import { ProducerPool, type PooledProducer } from './producer-pool.js';
import { clientErrorOf, type RecordRouter } from './record-router.js';
import type { RetryBackoffs } from './retry-backoffs.js';
import type { TopicAccumulator } from './topic-accumulator.js';
import type { TopicMetadataCache } from './topic-metadata-cache.js';

export interface BatchSenderFields {
  readonly client: Pick<KafkaClient, 'openProducer'>;
  readonly settings: ProducerSettings;
  readonly limits: BatchLimits;
  readonly router: RecordRouter;
  readonly topics: TopicMetadataCache;
  readonly retryBackoffs: RetryBackoffs;
  /** State of the `Producer`; back-offs change it, too. */
  readonly state: ConnectionStateCell;
  readonly name: string;
  readonly clock: StorkClock;
  settle(pending: PendingRecord, error?: Error): void;
}

/** Sends batches, one request per partition at a time, and decides what a failed request means. */
export class BatchSender {
  readonly #fields: BatchSenderFields;
  readonly #pool: ProducerPool;
  #readyBatchers: PartitionBatcher[] = [];
  #isSendScheduled = false;
  readonly #sendScheduled = (): void => {
    this.#isSendScheduled = false;
    this.#sendReady();
  };
  #isStopped = false;

  constructor(fields: BatchSenderFields) {
    const { state, retryBackoffs } = fields;
    this.#fields = fields;
    this.#pool = new ProducerPool({
      ...fields,
      opened: () => {
        if (!retryBackoffs.isActive) state.move({ value: 'ready' });
        this.#sendReady();
      },
      refused: (error) => this.#openRefused(error),
    });
  }

  /** Resolves when a producer is open. Rejects if the broker refuses it, or the sender is closed first. */
  open(): Promise<void> {
    this.#markConnecting();
    return this.#pool.ready();
  }

  /** Sends in a microtask, so that records that are published in the same tick share a request. */
  schedule(batcher: PartitionBatcher): void {
    batcher.phase = 'ready';
    this.#readyBatchers.push(batcher);
    if (this.#isSendScheduled) return;
    this.#isSendScheduled = true;
    queueMicrotask(this.#sendScheduled);
  }

  /** Starts no further request. Records in flight fail as unconfirmed, the others with `notSent`. */
  stop(whyUnconfirmed: string, notSent: Error): void {
    this.#isStopped = true;
    this.#failInFlight(this.#fields.router.batchers(), whyUnconfirmed);
    this.#failAllUnsent(notSent);
  }

  /** Closes the producers within `limitMs`. */
  close(limitMs: number): Promise<void> {
    return this.#pool.close(limitMs);
  }

  #markConnecting(): void {
    const { state } = this.#fields;
    if (state.current.value === 'idle') state.move({ value: 'connecting' });
  }

  #sendReady(): void {
    if (this.#readyBatchers.length === 0 || this.#isStopped) return;
    const producer = this.#pool.current;
    if (producer === undefined) {
      this.#markConnecting();
      return this.#pool.open();
    }
    const ready = this.#readyBatchers;
    this.#readyBatchers = [];
    for (const batcher of ready) {
      if (batcher.isEmpty) this.#becomeIdle(batcher);
      else void this.#send(producer, batcher);
    }
  }

  /** The batcher has nothing left to send, perhaps because every record was withdrawn during a back-off. */
  #becomeIdle(batcher: PartitionBatcher): void {
    batcher.phase = 'idle';
    this.#fields.retryBackoffs.forget(batcher);
  }

  /** Sends one request and settles its records. Never rejects. */
  async #send(producer: PooledProducer, batcher: PartitionBatcher): Promise<void> {
    const { limits, router } = this.#fields;
    const { topic, partition } = batcher;
    const records = batcher.beginRequest(limits);
    batcher.phase = 'in-flight';
    producer.inFlight.add(batcher);
    router.accumulator(topic).countSent(partition, batcher.inFlightBytes);
    let failure: KafkaClientError | undefined;
    try {
      await producer.clientProducer.send(topic, partition, records);
    } catch (error) {
      failure = clientErrorOf(error);
    }
    producer.endRequest(batcher);
    if (this.#isStopped) return;
    if (failure === undefined) for (const pending of batcher.takeInFlight()) this.#fields.settle(pending);
    else this.#sendFailed(producer, batcher, failure);
    this.#continue(batcher, failure);
  }

  /** Sends what was queued meanwhile, after a back-off if the partition leader is unavailable. */
  #continue(batcher: PartitionBatcher, failure: KafkaClientError | undefined): void {
    const { router, retryBackoffs } = this.#fields;
    if (failure?.failure === 'unavailable') {
      if (batcher.isEmpty) return this.#becomeIdle(batcher);
      batcher.phase = 'backing-off';
      router.accumulator(batcher.topic).moveStickyFrom(batcher.partition);
      return retryBackoffs.schedule(batcher, failure, () => this.schedule(batcher));
    }
    retryBackoffs.clear(batcher);
    if (batcher.isEmpty) batcher.phase = 'idle';
    else this.schedule(batcher);
  }

  #sendFailed(producer: PooledProducer, batcher: PartitionBatcher, error: KafkaClientError): void {
    const where = `partition ${batcher.partition} of ${JSON.stringify(batcher.topic)}`;
    const unconfirmed = `records sent to ${where} were not confirmed: ${error.message}`;
    if (this.#fields.settings.idempotent) {
      // kafkajs rolls the sequence numbers back after a lost response. The broker then confirms the next
      // batch as a duplicate without writing it: confirmations of this producer cannot be trusted.
      const why = `another request of the same idempotent producer failed: ${error.message}`;
      this.#failInFlight(producer.inFlight, why, error);
      this.#pool.retire(producer);
      // The client has retried, and only its last attempt is known to have failed. Another producer has
      // another producer id: the broker would not detect the duplicate.
      if (error.failure === 'unavailable') return this.#failInFlight([batcher], unconfirmed, error);
    }
    switch (error.failure) {
      case 'unavailable':
        for (const pending of batcher.requeueInFlight()) this.#fields.settle(pending);
        return;
      case 'too-large': {
        const single = batcher.splitInFlight();
        if (single !== undefined) this.#fields.settle(single, tooLarge(single, where, error));
        return;
      }
      case 'unknown-topic':
        this.#topicDeleted(batcher, error);
        // kafkajs keeps requesting metadata of this topic, and after seconds rejects all other topics, too.
        return this.#pool.retire(producer);
      case 'unconfirmed':
      case 'fenced':
        return this.#failInFlight([batcher], unconfirmed, error);
      case 'refused':
      case 'unsupported-codec': {
        const why = `the broker refused records sent to ${where}: ${error.message}`;
        return this.#reject(batcher.takeInFlight(), new PublishRejectedError(why, { cause: error }));
      }
    }
  }

  /** Requests in flight to other partitions of the topic are settled by their own responses. */
  #topicDeleted({ topic, partition }: PartitionBatcher, cause: KafkaClientError): void {
    const why = `the topic ${JSON.stringify(topic)} or its partition ${partition} does not exist any more`;
    const error = new NoRouteError(why, { cause });
    const accumulator = this.#fields.router.accumulator(topic);
    this.#fields.topics.forget(topic);
    this.#reject(accumulator.batcher(partition).takeInFlight(), error);
    this.#failUnsent(accumulator, error);
  }

  /** The broker refused to open a producer. The next publish tries again. */
  #openRefused(error: PublishRejectedError): void {
    this.#failAllUnsent(error);
    for (const batcher of this.#readyBatchers) batcher.phase = 'idle';
    this.#readyBatchers = [];
  }

  #failInFlight(batchers: Iterable<PartitionBatcher>, why: string, cause?: Error): void {
    let error: Error | undefined;
    for (const batcher of batchers) {
      const pending = batcher.takeInFlight();
      if (pending.length === 0) continue;
      error ??= new PublishUnconfirmedError(why, { cause });
      this.#reject(pending, error);
    }
  }

  #failAllUnsent(error: Error): void {
    for (const accumulator of this.#fields.router.accumulators) this.#failUnsent(accumulator, error);
  }

  #failUnsent(accumulator: TopicAccumulator, error: Error): void {
    const { router, retryBackoffs } = this.#fields;
    this.#reject(router.takeUnrouted(accumulator), error);
    for (const batcher of accumulator.batchers) {
      this.#reject(batcher.takeQueued(), error);
      if (batcher.phase !== 'backing-off') continue;
      retryBackoffs.clear(batcher);
      batcher.phase = 'idle';
    }
  }

  #reject(pending: readonly PendingRecord[], error: Error): void {
    for (const one of pending) this.#fields.settle(one, error);
  }
}

function tooLarge({ bytes }: PendingRecord, where: string, cause: KafkaClientError): MessageTooLargeError {
  const why = `a message of about ${bytes} bytes exceeds the size limit of ${where}: ${cause.message}`;
  return new MessageTooLargeError(why, { cause });
}
