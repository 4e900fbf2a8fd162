import { setTimeout as sleep } from 'node:timers/promises';
import type { Kafka, Message, Producer, ProducerConfig, Transaction } from 'kafkajs';
import { errorType, toClientError } from './client-errors.js';
import {
  KafkaClientError,
  type KafkaProducer,
  type KafkaTransactions,
  type PartitionBatch,
  type ProducerSettings,
  type RecordToSend,
  type TransactionSettings,
} from '../client/client.js';
import {
  clusterMaker,
  compressionTypes,
  coordinatorTypes,
  fewRetries,
  metadataMaxAgeMs,
  quietly,
  whyNoCoordinator,
  type Cluster,
} from './kafkajs-common.js';
import { ProduceRequests, type ProducingCluster } from './produce-requests.js';

const acknowledgements = { all: -1, leader: 1, none: 0 } as const;

const atOnceMs = 20;
const coordinatorPollMs = 200;
/** None has been chosen yet, it has not read its log yet, or another is asked by now. */
const coordinatorTroubles: ReadonlySet<string | undefined> = new Set([
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'GROUP_LOAD_IN_PROGRESS',
  'NOT_COORDINATOR_FOR_GROUP',
]);

export async function openProducer(kafka: Kafka, settings: ProducerSettings): Promise<KafkaProducer> {
  const requests = new ProduceRequests();
  const { make, during } = clusterMaker<ProducingCluster>(kafka);
  const producer = during(
    (given) => requests.watch(make(given)),
    () =>
      kafka.producer({
        ...toPartitions,
        idempotent: settings.idempotent,
        // A repeated send could double records and hide that the outcome of the first is unknown. An idempotent one may repeat.
        retry: { ...fewRetries, retries: settings.idempotent ? 5 : 0 },
      }),
  );
  try {
    await producer.connect();
  } catch (error) {
    await quietly(producer.disconnect());
    throw toClientError(error, 'unavailable');
  }
  return new KafkaJsProducer(producer, requests, settings);
}

const toPartitions = {
  allowAutoTopicCreation: false,
  metadataMaxAge: metadataMaxAgeMs,
  // The partition is chosen before a batch is made.
  createPartitioner:
    () =>
    ({ message }) =>
      message.partition!,
} satisfies ProducerConfig;

function messagesOf(records: readonly RecordToSend[], partition: number): Message[] {
  return records.map(({ key, value, headers, timestamp }) => ({
    key,
    value,
    headers: headers as Record<string, Buffer | string | (Buffer | string)[]>,
    timestamp: String(timestamp),
    partition,
  }));
}

class KafkaJsProducer implements KafkaProducer {
  readonly #producer: Producer;
  readonly #requests: ProduceRequests;
  readonly #settings: ProducerSettings;

  constructor(producer: Producer, requests: ProduceRequests, settings: ProducerSettings) {
    this.#producer = producer;
    this.#requests = requests;
    this.#settings = settings;
  }

  async send(topic: string, partition: number, records: readonly RecordToSend[]): Promise<void> {
    const { acks, compression } = this.#settings;
    this.#requests.begin(topic, partition);
    let written;
    try {
      written = await this.#producer.send({
        topic,
        messages: messagesOf(records, partition),
        acks: acknowledgements[acks],
        compression: compressionTypes[compression],
      });
    } catch (error) {
      throw this.#requests.failure(topic, partition, error);
    }
    // The client resolves although it has never asked a leader that moved meanwhile.
    if (acks === 'none' || written.some((result) => result.partition === partition)) return;
    throw new KafkaClientError('unconfirmed', `the broker's answer does not name ${topic}/${partition}`);
  }

  close(): Promise<void> {
    return quietly(this.#producer.disconnect());
  }
}

/** Its transactions of others with the same id have ended, one way or the other, when this resolves. */
export async function openTransactions(
  kafka: Kafka,
  settings: TransactionSettings,
): Promise<KafkaTransactions> {
  const { id, timeoutMs, signal } = settings;
  const until = Date.now() + timeoutMs;
  const { make, during } = clusterMaker<Cluster>(kafka);
  let cluster!: Cluster;
  const producer = during(
    (given) => (cluster = make(given)),
    () =>
      kafka.producer({
        ...toPartitions,
        transactionalId: id,
        transactionTimeout: timeoutMs,
        // A second try over several leaders would leave records out and commit without them.
        retry: { ...fewRetries, retries: 0 },
      }),
  );
  const query = { groupId: id, coordinatorType: coordinatorTypes.transaction };
  try {
    await producer.connect();
    await onceCoordinated(
      until,
      signal,
      () => whyNoCoordinator(cluster, query),
      () => begin(producer, until),
    );
  } catch (error) {
    await quietly(producer.disconnect());
    throw toClientError(error, 'unavailable');
  }
  return new KafkaJsTransactions(producer, settings);
}

/** The first transaction of a producer ends those of the one before it; an empty one costs no request. */
async function begin(producer: Producer, until: number): Promise<void> {
  const transaction = await onceAlone(until, () => producer.transaction());
  await transaction.abort();
}

/** A cluster's first transaction has to wait for a coordinator, any other for one that restarts. */
async function onceCoordinated(
  until: number,
  signal: AbortSignal,
  findRefusal: () => Promise<unknown>,
  ask: () => Promise<void>,
): Promise<void> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const refusal = await findRefusal();
      if (refusal !== undefined) throw refusal;
      if (!lacksCoordinator(error) || signal.aborted || Date.now() > until) throw error;
    }
    await sleep(coordinatorPollMs);
  }
}

function lacksCoordinator(error: unknown): boolean {
  const isNone = error instanceof Error && error.name === 'KafkaJSGroupCoordinatorNotFound';
  return isNone || coordinatorTroubles.has(errorType(error));
}

/** While the coordinator still ends a transaction, ours or that of a producer before us, it answers that nothing was done. */
async function onceAlone<T>(until: number, ask: () => Promise<T>): Promise<T> {
  for (; ; await sleep(atOnceMs)) {
    try {
      return await ask();
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
      // One after the other: the coordinator takes no partition while it adds one.
      for (const batch of batches) await this.#send(transaction, batch);
      await transaction.commit();
    } catch (error) {
      if (transaction?.isActive() === true) await quietly(transaction.abort());
      throw toClientError(error, 'unconfirmed');
    }
  }

  close(): Promise<void> {
    return quietly(this.#producer.disconnect());
  }

  async #send(transaction: Transaction, { topic, partition, records }: PartitionBatch): Promise<void> {
    const { compression, timeoutMs } = this.#settings;
    const messages = messagesOf(records, partition);
    const wanted = { topic, messages, compression: compressionTypes[compression] };
    const written = await onceAlone(Date.now() + timeoutMs, () => transaction.send(wanted));
    if (written.some((result) => result.partition === partition)) return;
    throw new KafkaClientError('unconfirmed', `the broker's answer does not name ${topic}/${partition}`);
  }
}
