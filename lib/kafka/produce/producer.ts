import type { BackoffOptions, StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin } from '../../core/runtime/with-timeout.js';
import { ConnectionStateCell } from '../../core/port/connection-state.js';
import type { PublishCancellation } from '../../core/port/publish-cancellation.js';
import { BufferFullError, ClientClosedError, MessageTooLargeError } from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import type { KafkaClient, ProducerSettings, RecordToSend } from '../client/client.js';
import { kafkaDefaults } from '../options/defaults.js';
import { BatchSender } from './batch-sender.js';
import { PendingRecord, sizeOf } from './partition-batcher.js';
import type { Partitioner } from './partitioner.js';
import { RecordRouter } from './record-router.js';
import { RetryBackoffs } from './retry-backoffs.js';
import type { TopicMetadataCache } from './topic-metadata-cache.js';

/** kafkajs groups records quadratically: beyond this count grouping takes longer than the broker's work. */
const maxRecords = 1_000;
/** Time to close the connections even if the shutdown deadline has passed. */
const minDisconnectMs = 500;

export interface ProducerFields {
  readonly client: Pick<KafkaClient, 'openProducer'>;
  readonly topics: TopicMetadataCache;
  readonly settings: ProducerSettings;
  /** Prefix of log lines and error messages, e.g. the transport's name. */
  readonly name: string;
  /** Limit of records that are not confirmed yet. */
  readonly maxBufferedMessages: number;
  /** Limit of their bytes. */
  readonly maxBufferedBytes: number;
  /**
   * Of one request, before compression; a larger record is sent in a request of its own.
   * @defaultValue 900 000
   */
  readonly maxBatchBytes?: number | undefined;
  readonly partitioner?: Partitioner | undefined;
  readonly reconnect: BackoffOptions;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
}

export interface PublishSettings {
  /** @defaultValue the partition of the key; without a key the sticky partition of the topic */
  readonly partition?: number | undefined;
  /** @defaultValue none: the record waits for the broker as long as needed */
  readonly cancellation?: PublishCancellation;
}

/**
 * Publishes records and confirms each of them. Each partition has one request in flight, which keeps its
 * order; partitions are written in parallel. Records that arrive while a request is in flight share the
 * next request. While a partition leader is unavailable, its records are buffered in order, up to
 * `maxBufferedMessages` and `maxBufferedBytes`.
 */
export class Producer {
  readonly state = new ConnectionStateCell();
  readonly #fields: ProducerFields;
  readonly #retryBackoffs: RetryBackoffs;
  readonly #router: RecordRouter;
  readonly #sender: BatchSender;
  #bufferedMessages = 0;
  #bufferedBytes = 0;
  #flushWaiters: (() => void)[] = [];
  #closing: Promise<void> | undefined;

  constructor(fields: ProducerFields) {
    const { state } = this;
    this.#fields = fields;
    const retryBackoffs = new RetryBackoffs({ ...fields, state });
    this.#retryBackoffs = retryBackoffs;
    this.#router = new RecordRouter({
      ...fields,
      retryBackoffs,
      onReady: (batcher) => this.#sender.schedule(batcher),
      reject: (pending, error) => {
        for (const one of pending) this.#settle(one, error);
      },
    });
    this.#sender = new BatchSender({
      ...fields,
      limits: { maxRecords, maxBytes: fields.maxBatchBytes ?? kafkaDefaults.maxBatchBytes },
      router: this.#router,
      retryBackoffs,
      state,
      settle: (pending, error) => this.#settle(pending, error),
    });
  }

  /** Records that are not settled, and their bytes. */
  get buffered(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.#bufferedMessages, bytes: this.#bufferedBytes };
  }

  /**
   * Resolves when records can be sent. Rejects if the broker refuses to open a producer, or the producer is
   * closed first. Optional: the first publish opens it, too.
   */
  open(): Promise<void> {
    return this.#sender.open();
  }

  publish(
    topic: string,
    record: RecordToSend,
    { partition, cancellation }: PublishSettings = {},
  ): Promise<void> {
    const { name, maxBufferedMessages, maxBufferedBytes } = this.#fields;
    if (this.#closing !== undefined) return Promise.reject(new ClientClosedError(`${name}: closed`));
    const bytes = sizeOf(record);
    if (bytes > maxBufferedBytes) {
      const why = `a message of about ${bytes} bytes exceeds maxBufferedBytes, ${maxBufferedBytes}`;
      return Promise.reject(new MessageTooLargeError(`${name}: ${why}`));
    }
    if (this.#bufferedMessages >= maxBufferedMessages || this.#bufferedBytes + bytes > maxBufferedBytes) {
      const buffered = `${this.#bufferedMessages} messages with ${this.#bufferedBytes} bytes wait for the broker`;
      return Promise.reject(
        new BufferFullError(`${name}: ${buffered}, the limit is maxBufferedMessages and maxBufferedBytes`),
      );
    }
    this.#bufferedMessages++;
    this.#bufferedBytes += bytes;
    return new Promise((resolve, reject) => {
      const pending = new PendingRecord(record, bytes, partition, resolve, reject, cancellation);
      if (cancellation !== undefined) cancellation.withdraw = () => this.#withdraw(topic, pending);
      this.#router.add(topic, pending);
    });
  }

  /** Returns false if a request with the record is in flight, or the record is settled. */
  #withdraw(topic: string, pending: PendingRecord): boolean {
    if (!this.#router.remove(topic, pending)) return false;
    this.#settle(pending);
    return true;
  }

  /** Resolves when every accepted record is settled. */
  async flush(): Promise<void> {
    if (this.#bufferedMessages === 0) return;
    await new Promise<void>((resolve) => {
      this.#flushWaiters.push(resolve);
    });
  }

  /**
   * Refuses further records and flushes for at most `limitMs`. Records that are not settled by then fail
   * with `PublishUnconfirmedError` if their request is in flight, else with `ClientClosedError`.
   * Idempotent. Never rejects.
   */
  close(limitMs: number): Promise<void> {
    this.#closing ??= this.#close(limitMs);
    return this.#closing;
  }

  async #close(limitMs: number): Promise<void> {
    const { clock, name } = this.#fields;
    const endMs = clock.now() + limitMs;
    if (this.#bufferedMessages > 0) await settlesWithin(clock, this.flush(), limitMs);
    this.#router.stop();
    this.#retryBackoffs.cancelAll();
    this.#sender.stop(
      `${name}: closed before the request in flight was confirmed`,
      new ClientClosedError(`${name}: closed before it was sent`),
    );
    await this.#sender.close(Math.max(minDisconnectMs, endMs - clock.now()));
    this.state.move({ value: 'closed' });
  }

  #settle(pending: PendingRecord, error?: Error): void {
    this.#bufferedMessages--;
    this.#bufferedBytes -= pending.bytes;
    if (error === undefined) pending.resolve();
    else pending.reject(error);
    if (this.#bufferedMessages > 0 || this.#flushWaiters.length === 0) return;
    for (const resolve of this.#flushWaiters.splice(0)) resolve();
  }
}
