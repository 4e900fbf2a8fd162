import { setTimeout as sleep } from 'node:timers/promises';
import type { Kafka, Producer, Transaction } from 'kafkajs';
import { errorType, toClientError } from './errors.js';
import type { KafkaTransactions, PartitionBatch, TransactionSettings } from '../client/client.js';
import {
  clusterFactory,
  compressionTypes,
  coordinatorTypes,
  fewRetries,
  findCoordinatorRefusal,
  ignoringErrors,
  type Cluster,
} from './common.js';
import { messagesOf, partitionedProducer, requireConfirmation } from './producer.js';

const concurrentTransactionPollMs = 20;
const coordinatorPollMs = 200;
/** No coordinator is elected yet, it still loads its log, or another broker has become the coordinator. */
const missingCoordinatorTypes: ReadonlySet<string | undefined> = new Set([
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'GROUP_LOAD_IN_PROGRESS',
  'NOT_COORDINATOR_FOR_GROUP',
]);

/** Resolves when the previous transaction of the transactional id has been committed or aborted. */
export async function openTransactions(
  kafka: Kafka,
  settings: TransactionSettings,
): Promise<KafkaTransactions> {
  const { id, timeoutMs, signal } = settings;
  const until = Date.now() + timeoutMs;
  const { make, withClusterFactory } = clusterFactory<Cluster>(kafka);
  let cluster!: Cluster;
  const producer = withClusterFactory(
    (clusterSettings) => (cluster = make(clusterSettings)),
    () =>
      kafka.producer({
        ...partitionedProducer,
        transactionalId: id,
        transactionTimeout: timeoutMs,
        // Retried over several leaders, kafkajs would leave out records and commit without them.
        retry: { ...fewRetries, retries: 0 },
      }),
  );
  const query = { groupId: id, coordinatorType: coordinatorTypes.transaction };
  try {
    await producer.connect();
    await withCoordinator(
      until,
      signal,
      () => findCoordinatorRefusal(cluster, query),
      () => endPreviousTransaction(producer, until),
    );
  } catch (error) {
    await ignoringErrors(producer.disconnect());
    throw toClientError(error, 'unavailable');
  }
  return new KafkaJsTransactions(producer, settings);
}

/**
 * A producer's first transaction sends InitProducerId, which ends the previous producer's transaction.
 * Aborting an empty transaction costs no request.
 */
async function endPreviousTransaction(producer: Producer, until: number): Promise<void> {
  const transaction = await withoutConcurrentTransaction(until, () => producer.transaction());
  await transaction.abort();
}

/** Retries without a coordinator: a new cluster has none at first, and a restarting one is unavailable. */
async function withCoordinator(
  until: number,
  signal: AbortSignal,
  findRefusal: () => Promise<unknown>,
  request: () => Promise<void>,
): Promise<void> {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      const refusal = await findRefusal();
      if (refusal !== undefined) throw refusal;
      if (!lacksCoordinator(error) || signal.aborted || Date.now() > until) throw error;
    }
    await sleep(coordinatorPollMs);
  }
}

function lacksCoordinator(error: unknown): boolean {
  const isNotFound = error instanceof Error && error.name === 'KafkaJSGroupCoordinatorNotFound';
  return isNotFound || missingCoordinatorTypes.has(errorType(error));
}

/** Retries on CONCURRENT_TRANSACTIONS: the coordinator still ends a transaction, and nothing was done. */
async function withoutConcurrentTransaction<T>(until: number, request: () => Promise<T>): Promise<T> {
  for (; ; await sleep(concurrentTransactionPollMs)) {
    try {
      return await request();
    } catch (error) {
      if (errorType(error) !== 'CONCURRENT_TRANSACTIONS' || Date.now() > until) throw error;
    }
  }
}

class KafkaJsTransactions implements KafkaTransactions {
  readonly #producer: Producer;
  readonly #settings: TransactionSettings;

  constructor(producer: Producer, settings: TransactionSettings) {
    this.#producer = producer;
    this.#settings = settings;
  }

  async write(batches: readonly PartitionBatch[]): Promise<void> {
    let transaction: Transaction | undefined;
    try {
      transaction = await this.#producer.transaction();
      // One after another: the coordinator rejects AddPartitionsToTxn while it adds another partition.
      for (const batch of batches) await this.#send(transaction, batch);
      await transaction.commit();
    } catch (error) {
      if (transaction?.isActive() === true) await ignoringErrors(transaction.abort());
      throw toClientError(error, 'unconfirmed');
    }
  }

  close(): Promise<void> {
    return ignoringErrors(this.#producer.disconnect());
  }

  async #send(transaction: Transaction, { topic, partition, records }: PartitionBatch): Promise<void> {
    const { compression, timeoutMs } = this.#settings;
    const messages = messagesOf(records, partition);
    const batch = { topic, messages, compression: compressionTypes[compression] };
    const written = await withoutConcurrentTransaction(Date.now() + timeoutMs, () => transaction.send(batch));
    requireConfirmation(written, topic, partition);
  }
}
