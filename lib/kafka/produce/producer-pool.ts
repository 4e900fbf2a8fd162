import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import { ClientClosedError, messageOf, PublishRejectedError } from '../../core/runtime/errors.js';
import {
  KafkaClientError,
  type KafkaClient,
  type KafkaProducer,
  type ProducerSettings,
} from '../client/client.js';
import type { RetryBackoffs } from './retry-backoffs.js';
import type { PartitionBatcher } from './partition-batcher.js';

/** A producer of the Kafka client. A retired one closes when its last request in flight has ended. */
export class PooledProducer {
  /** Partitions with a request in flight. */
  readonly inFlight = new Set<PartitionBatcher>();
  readonly #onClosed: (producer: PooledProducer) => void;
  #isRetired = false;
  #closing: Promise<void> | undefined;

  constructor(
    readonly clientProducer: KafkaProducer,
    onClosed: (producer: PooledProducer) => void,
  ) {
    this.#onClosed = onClosed;
  }

  endRequest(batcher: PartitionBatcher): void {
    this.inFlight.delete(batcher);
    this.#closeIfUnused();
  }

  retire(): void {
    this.#isRetired = true;
    this.#closeIfUnused();
  }

  close(): Promise<void> {
    this.#closing ??= this.clientProducer.close().then(() => this.#onClosed(this));
    return this.#closing;
  }

  #closeIfUnused(): void {
    if (this.#isRetired && this.inFlight.size === 0) void this.close();
  }
}

export interface ProducerPoolFields {
  readonly client: Pick<KafkaClient, 'openProducer'>;
  readonly settings: ProducerSettings;
  readonly name: string;
  readonly retryBackoffs: RetryBackoffs;
  readonly clock: StorkClock;
  /** A producer is open: records can be sent. */
  opened(): void;
  /** The broker refused the first producer with these settings. */
  refused(error: PublishRejectedError): void;
}

/** The current producer, and retired ones with requests in flight. A failed producer is never reused. */
export class ProducerPool {
  readonly #fields: ProducerPoolFields;
  readonly #producers = new Set<PooledProducer>();
  #current: PooledProducer | undefined;
  /** Also true during the back-off between two attempts. */
  #isOpening = false;
  #opening: Promise<void> = Promise.resolve();
  #hasEverOpened = false;
  #isClosed = false;
  #waiters: ReturnType<typeof withResolvers<void>>[] = [];

  constructor(fields: ProducerPoolFields) {
    this.#fields = fields;
  }

  get current(): PooledProducer | undefined {
    return this.#current;
  }

  /** Resolves when a producer is open. Rejects if the broker refuses it, or the pool is closed first. */
  ready(): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.#closedError());
    if (this.#current !== undefined) return Promise.resolve();
    const waiter = withResolvers<void>();
    this.#waiters.push(waiter);
    this.open();
    return waiter.promise;
  }

  /** Starts to open a producer, unless one is open or opening. */
  open(): void {
    if (this.#isOpening || this.#isClosed || this.#current !== undefined) return;
    this.#isOpening = true;
    this.#startOpening();
  }

  /** Sends no further request through this producer, and opens another one. */
  retire(producer: PooledProducer): void {
    producer.retire();
    if (producer !== this.#current) return;
    this.#current = undefined;
    this.open();
  }

  /** Closes all producers within `limitMs`, also those with requests in flight. */
  async close(limitMs: number): Promise<void> {
    this.#isClosed = true;
    this.#current = undefined;
    for (const waiter of this.#takeWaiters()) waiter.reject(this.#closedError());
    const closed = Promise.all([this.#opening, ...[...this.#producers].map((producer) => producer.close())]);
    await settlesWithin(this.#fields.clock, closed, limitMs);
  }

  #startOpening(): void {
    this.#opening = this.#openOnce();
  }

  async #openOnce(): Promise<void> {
    let producer: KafkaProducer;
    try {
      producer = await this.#fields.client.openProducer(this.#fields.settings);
    } catch (error) {
      return this.#openFailed(error);
    }
    // It opened after `close`, which therefore could not close it.
    if (this.#isClosed) await producer.close();
    else this.#opened(producer);
  }

  #opened(producer: KafkaProducer): void {
    this.#isOpening = false;
    this.#hasEverOpened = true;
    this.#current = new PooledProducer(producer, (closed) => this.#producers.delete(closed));
    this.#producers.add(this.#current);
    this.#fields.retryBackoffs.clear(this);
    for (const waiter of this.#takeWaiters()) waiter.resolve();
    this.#fields.opened();
  }

  #openFailed(error: unknown): void {
    const { name, retryBackoffs } = this.#fields;
    if (this.#isClosed) return;
    const cause = error instanceof Error ? error : new Error(messageOf(error));
    // A restarting broker refuses until it has loaded its users: after a first success a refusal is retried.
    if (!this.#hasEverOpened && error instanceof KafkaClientError && error.failure === 'refused') {
      this.#isOpening = false;
      retryBackoffs.clear(this);
      const refusal = new PublishRejectedError(
        `${name}: the broker refused to open a producer: ${cause.message}`,
        { cause },
      );
      for (const waiter of this.#takeWaiters()) waiter.reject(refusal);
      return this.#fields.refused(refusal);
    }
    retryBackoffs.schedule(this, cause, () => this.#startOpening());
  }

  #takeWaiters() {
    const waiters = this.#waiters;
    this.#waiters = [];
    return waiters;
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`${this.#fields.name}: closed`);
  }
}
