import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withTimeout } from '../../core/runtime/with-timeout.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
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
/** What has no answer by then has none to come. */
const writeLimitMs = 15_000;
/** What is on its way when somebody wants an end may still come to its own. */
const lastPatienceMs = 1_000;
const closeLimitMs = 5_000;

export interface TransactionalWriterFields {
  readonly place: KafkaDeadLetterLocation;
  readonly client: Pick<KafkaClient, 'openProducer' | 'openTransactions'>;
  readonly compression: ProducerSettings['compression'];
  /** The transport's, for messages. */
  readonly name: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  readonly signal: AbortSignal;
}

/** The producers of one pass, opened when they are first needed. Nothing here waits for long, and not at all once the signal has aborted. */
export class TransactionalWriter {
  readonly #fields: TransactionalWriterFields;
  #transactions: KafkaTransactions | undefined;
  #producer: KafkaProducer | undefined;
  /** Set once the broker has said no. */
  #mayNotTransact = false;
  readonly #closing: Promise<void>[] = [];

  constructor(fields: TransactionalWriterFields) {
    this.#fields = fields;
  }

  /**
   * `opened`: from now on nobody else's transaction can be committed, and those before are ended. `refused`: there will be none. `open`:
   * nothing has changed.
   */
  async openTransactions(): Promise<'opened' | 'open' | 'refused'> {
    if (this.#transactions !== undefined) return 'open';
    if (this.#mayNotTransact) return 'refused';
    const { client, place, compression, signal, logger, name } = this.#fields;
    const id = `${place.from}.${place.group}.replay`;
    const opening = client.openTransactions({ id, timeoutMs: transactionTimeoutMs, signal, compression });
    try {
      this.#transactions = await this.#opened(opening);
      return 'opened';
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof KafkaClientError) || error.failure !== 'refused') throw error;
      this.#mayNotTransact = true;
      logger.warn(
        `${name}: no right to write with the transactional id ${id}, so letters are replayed one by one, and a crash, or somebody who ` +
          `replays at the same time, can replay one twice: ${error.message}`,
      );
      return 'refused';
    }
  }

  /** All or nothing. After an error the transactions are closed. */
  async writeTogether(batches: readonly PartitionBatch[]): Promise<void> {
    try {
      await this.#bounded(this.#transactions!.write(batches));
    } catch (error) {
      this.#closing.push(this.#transactions!.close());
      this.#transactions = undefined;
      throw error;
    }
  }

  /** Resolves when every replica in sync has them. */
  async write(batches: readonly PartitionBatch[]): Promise<void> {
    const { client, compression } = this.#fields;
    this.#producer ??= await this.#opened(
      client.openProducer({ acks: 'all', idempotent: false, compression }),
    );
    for (const { topic, partition, records } of batches)
      await this.#bounded(this.#producer.send(topic, partition, records));
  }

  /** Never rejects. */
  async close(): Promise<void> {
    for (const open of [this.#transactions, this.#producer])
      if (open !== undefined) this.#closing.push(open.close());
    this.#transactions = this.#producer = undefined;
    await settlesWithin(this.#fields.clock, Promise.all(this.#closing), closeLimitMs);
  }

  /** What opens too late is closed: nobody else knows of it. */
  async #opened<T extends { close(): Promise<void> }>(opening: Promise<T>): Promise<T> {
    try {
      return await this.#bounded(opening);
    } catch (error) {
      this.#closing.push(opening.then((late) => late.close()).catch(() => {}));
      throw error;
    }
  }

  /** Rejects when it has taken too long, and soon after the signal has aborted: what is done by then counts. */
  async #bounded<T>(work: Promise<T>): Promise<T> {
    const { clock, signal } = this.#fields;
    const leave = new AbortController();
    let cancel = clock.setTimer(writeLimitMs, () =>
      leave.abort(new ConnectionLostError(`no answer within ${writeLimitMs} ms`)),
    );
    const hurry = (): void => {
      cancel();
      cancel = clock.setTimer(lastPatienceMs, () => leave.abort(signal.reason));
    };
    if (signal.aborted) hurry();
    signal.addEventListener('abort', hurry, { once: true });
    try {
      return await withTimeout(work, { signal: leave.signal });
    } finally {
      signal.removeEventListener('abort', hurry);
      cancel();
    }
  }
}
