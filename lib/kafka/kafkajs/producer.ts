import type { Kafka, Message, Producer, ProducerConfig } from 'kafkajs';
import { toClientError } from './errors.js';
import {
  KafkaClientError,
  type KafkaProducer,
  type ProducerSettings,
  type RecordToSend,
} from '../client/client.js';
import { clusterFactory, compressionTypes, fewRetries, ignoringErrors, metadataMaxAgeMs } from './common.js';
import { ProduceRequests, type ProducingCluster } from './produce-requests.js';

const requiredAcks = { all: -1, leader: 1, none: 0 } as const;

/** Settings of both kinds of producers: the transport chooses the partition before it makes a batch. */
export const partitionedProducer = {
  allowAutoTopicCreation: false,
  metadataMaxAge: metadataMaxAgeMs,
  createPartitioner:
    () =>
    ({ message }) =>
      message.partition!,
} satisfies ProducerConfig;

export async function openProducer(kafka: Kafka, settings: ProducerSettings): Promise<KafkaProducer> {
  const requests = new ProduceRequests();
  const { make, withClusterFactory } = clusterFactory<ProducingCluster>(kafka);
  const producer = withClusterFactory(
    (clusterSettings) => requests.watch(make(clusterSettings)),
    () =>
      kafka.producer({
        ...partitionedProducer,
        idempotent: settings.idempotent,
        // Without idempotence, a retry could duplicate records and hide that the first outcome is unknown.
        retry: { ...fewRetries, retries: settings.idempotent ? 5 : 0 },
      }),
  );
  try {
    await producer.connect();
  } catch (error) {
    await ignoringErrors(producer.disconnect());
    throw toClientError(error, 'unavailable');
  }
  return new KafkaJsProducer(producer, requests, settings);
}

export function messagesOf(records: readonly RecordToSend[], partition: number): Message[] {
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
    const at = { topic, partition };
    this.#requests.begin(at);
    let written;
    try {
      written = await this.#producer.send({
        topic,
        messages: messagesOf(records, partition),
        acks: requiredAcks[acks],
        compression: compressionTypes[compression],
      });
    } catch (error) {
      throw this.#requests.failure(at, error);
    }
    if (acks !== 'none') requireConfirmation(written, topic, partition);
  }

  close(): Promise<void> {
    return ignoringErrors(this.#producer.disconnect());
  }
}

/** kafkajs resolves without having sent the batch if its leader moved meanwhile; the result lacks it. */
export function requireConfirmation(
  written: readonly { readonly partition: number }[],
  topic: string,
  partition: number,
): void {
  if (written.some((result) => result.partition === partition)) return;
  throw new KafkaClientError('unconfirmed', `the broker's response does not name ${topic}/${partition}`);
}
