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

/** One producer of the client and what is on its way through it. Retired, it ends when that has ended. */
export class PooledProducer {
  /** Queues with a request under way. */
  readonly sending = new Set<PartitionBatcher>();
  readonly #ended: (lease: PooledProducer) => void;
  #isRetired = false;
  #closing: Promise<void> | undefined;

  constructor(
    readonly client: KafkaProducer,
    ended: (lease: PooledProducer) => void,
  ) {
    this.#ended = ended;
  }

  end(queue: PartitionBatcher): void {
    this.sending.delete(queue);
    this.#closeIfDone();
  }

  retire(): void {
    this.#isRetired = true;
    this.#closeIfDone();
  }

  close(): Promise<void> {
    this.#closing ??= this.client.close().then(() => this.#ended(this));
    return this.#closing;
  }

  #closeIfDone(): void {
    if (this.#isRetired && this.sending.size === 0) void this.close();
  }
}

export interface ClientProducersFields {
  readonly client: Pick<KafkaClient, 'openProducer'>;
  readonly settings: ProducerSettings;
  readonly name: string;
  readonly retryBackoffs: RetryBackoffs;
  readonly clock: StorkClock;
  /** There is a producer to send with. */
  up(): void;
  /** The broker lets nobody in with these settings, and never has. */
  refused(error: PublishRejectedError): void;
}

/** The producer of now and those that still finish: one that has gone wrong is replaced, not repaired. */
export class ProducerPool {
  readonly #fields: ClientProducersFields;
  readonly #leases = new Set<PooledProducer>();
  #current: PooledProducer | undefined;
  /** The try under way, the wait before the next one included. */
  #isOpening = false;
  #opening: Promise<void> = Promise.resolve();
  #wasUp = false;
  #closed = false;
  #waiting: ReturnType<typeof withResolvers<void>>[] = [];

  constructor(fields: ClientProducersFields) {
    this.#fields = fields;
  }

  get current(): PooledProducer | undefined {
    return this.#current;
  }

  /** Resolves when there is one; rejects where the broker refuses, and when it is closed first. */
  ready(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closedError());
    if (this.#current !== undefined) return Promise.resolve();
    const waiter = withResolvers<void>();
    this.#waiting.push(waiter);
    this.open();
    return waiter.promise;
  }

  /** Sees to it that there will be one. */
  open(): void {
    if (this.#isOpening || this.#closed || this.#current !== undefined) return;
    this.#isOpening = true;
    this.#tryToOpen();
  }

  /** Nothing more goes through it, and another takes its place. */
  retire(lease: PooledProducer): void {
    lease.retire();
    if (lease !== this.#current) return;
    this.#current = undefined;
    this.open();
  }

  /** Ends them all, whatever is on its way, within `limitMs`. */
  async close(limitMs: number): Promise<void> {
    this.#closed = true;
    this.#current = undefined;
    for (const waiter of this.#takeWaiting()) waiter.reject(this.#closedError());
    const ended = Promise.all([this.#opening, ...[...this.#leases].map((lease) => lease.close())]);
    await settlesWithin(this.#fields.clock, ended, limitMs);
  }

  #tryToOpen(): void {
    this.#opening = this.#openOnce();
  }

  async #openOnce(): Promise<void> {
    let producer: KafkaProducer;
    try {
      producer = await this.#fields.client.openProducer(this.#fields.settings);
    } catch (error) {
      return this.#failed(error);
    }
    // Too late: nobody else knows of it.
    if (this.#closed) await producer.close();
    else this.#opened(producer);
  }

  #opened(producer: KafkaProducer): void {
    this.#isOpening = false;
    this.#wasUp = true;
    this.#current = new PooledProducer(producer, (lease) => this.#leases.delete(lease));
    this.#leases.add(this.#current);
    this.#fields.retryBackoffs.over(this);
    for (const waiter of this.#takeWaiting()) waiter.resolve();
    this.#fields.up();
  }

  #failed(error: unknown): void {
    const { name, retryBackoffs } = this.#fields;
    if (this.#closed) return;
    const cause = error instanceof Error ? error : new Error(messageOf(error));
    // Later it may be a broker that has not loaded its users yet: then only waiting helps.
    if (!this.#wasUp && error instanceof KafkaClientError && error.failure === 'refused') {
      this.#isOpening = false;
      retryBackoffs.over(this);
      const why = new PublishRejectedError(`${name}: the broker opens no producer: ${cause.message}`, {
        cause,
      });
      for (const waiter of this.#takeWaiting()) waiter.reject(why);
      return this.#fields.refused(why);
    }
    retryBackoffs.backOff(this, cause, () => this.#tryToOpen());
  }

  #takeWaiting() {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`${this.#fields.name}: closed`);
  }
}
