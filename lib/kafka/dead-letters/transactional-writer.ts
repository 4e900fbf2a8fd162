import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withTimeout } from '../../core/runtime/with-timeout.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import {
  KafkaClientError,
  type KafkaClient,
  type KafkaProducer,
  type KafkaTransactions,
  type PartitionBatch,
  type ProducerSettings,
} from '../client/client.js';
import type { KafkaDeadLetterLocation } from './dead-letter-location.js';

/** The broker aborts a transaction that is open for longer. */
const transactionTimeoutMs = 10_000;
/** Longer than the transaction timeout: by then the broker has aborted the transaction. */
const writeTimeoutMs = 15_000;
/** A write in flight when the signal aborts may still finish within this time. */
const abortGraceMs = 1_000;
const closeTimeoutMs = 5_000;

export interface TransactionalWriterFields {
  readonly location: KafkaDeadLetterLocation;
  readonly client: Pick<KafkaClient, 'openProducer' | 'openTransactions'>;
  readonly compression: ProducerSettings['compression'];
  /** Name of the transport, for log lines. */
  readonly name: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  readonly signal: AbortSignal;
}

/**
 * The producers of one scan, a transactional one and a plain one, opened on first use. Each call ends
 * within `writeTimeoutMs`, and within `abortGraceMs` after the signal has aborted.
 */
export class TransactionalWriter {
  readonly #fields: TransactionalWriterFields;
  #transactions: KafkaTransactions | undefined;
  #producer: KafkaProducer | undefined;
  /** The broker does not permit the transactional id. */
  #areTransactionsRefused = false;
  readonly #closing: Promise<void>[] = [];

  constructor(fields: TransactionalWriterFields) {
    this.#fields = fields;
  }

  /**
   * `opened`: earlier transactions of the same transactional id have ended, and producers of other
   * processes are fenced. `already-open`: opened by an earlier call. `refused`: the broker does not permit
   * the transactional id.
   */
  async openTransactions(): Promise<'opened' | 'already-open' | 'refused'> {
    if (this.#transactions !== undefined) return 'already-open';
    if (this.#areTransactionsRefused) return 'refused';
    const { client, location, compression, signal, logger, name } = this.#fields;
    const id = `${location.from}.${location.group}.replay`;
    const opening = client.openTransactions({ id, timeoutMs: transactionTimeoutMs, signal, compression });
    try {
      this.#transactions = await this.#orCloseLate(opening);
      return 'opened';
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof KafkaClientError) || error.failure !== 'refused') throw error;
      this.#areTransactionsRefused = true;
      logger.warn(
        `${name}: no permission for the transactional id ${id}, so dead letters are replayed one by one without transactions; ` +
          `a crash, or another process that replays at the same time, can replay one twice: ${error.message}`,
      );
      return 'refused';
    }
  }

  /** Writes all batches in one transaction. After an error the transactional producer is closed. */
  async writeInTransaction(batches: readonly PartitionBatch[]): Promise<void> {
    try {
      await this.#withWriteTimeout(this.#transactions!.write(batches));
    } catch (error) {
      this.#closing.push(this.#transactions!.close());
      this.#transactions = undefined;
      throw error;
    }
  }

  /**
   * Writes batch after batch without a transaction. Resolves when all in-sync replicas have confirmed them.
   */
  async write(batches: readonly PartitionBatch[]): Promise<void> {
    const { client, compression } = this.#fields;
    this.#producer ??= await this.#orCloseLate(
      client.openProducer({ acks: 'all', idempotent: false, compression }),
    );
    for (const { topic, partition, records } of batches)
      await this.#withWriteTimeout(this.#producer.send(topic, partition, records));
  }

  /** Never rejects. */
  async close(): Promise<void> {
    for (const open of [this.#transactions, this.#producer])
      if (open !== undefined) this.#closing.push(open.close());
    this.#transactions = this.#producer = undefined;
    await settlesWithin(this.#fields.clock, Promise.all(this.#closing), closeTimeoutMs);
  }

  /** Closes a producer that opens after the timeout: nothing else holds a reference to it. */
  async #orCloseLate<T extends { close(): Promise<void> }>(opening: Promise<T>): Promise<T> {
    try {
      return await this.#withWriteTimeout(opening);
    } catch (error) {
      this.#closing.push(opening.then((late) => late.close()).catch(() => {}));
      throw error;
    }
  }

  async #withWriteTimeout<T>(work: Promise<T>): Promise<T> {
    const { clock, signal } = this.#fields;
    const timeout = new AbortController();
    let cancelTimer = clock.setTimer(writeTimeoutMs, () =>
      timeout.abort(new ConnectionLostError(`no answer within ${writeTimeoutMs} ms`)),
    );
    const shortenTimeout = (): void => {
      cancelTimer();
      cancelTimer = clock.setTimer(abortGraceMs, () => timeout.abort(signal.reason));
    };
    if (signal.aborted) shortenTimeout();
    signal.addEventListener('abort', shortenTimeout, { once: true });
    try {
      return await withTimeout(work, { signal: timeout.signal });
    } finally {
      signal.removeEventListener('abort', shortenTimeout);
      cancelTimer();
    }
  }
}
