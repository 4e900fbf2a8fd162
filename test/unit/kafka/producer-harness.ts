import {
  KafkaClientError,
  type KafkaAdmin,
  type KafkaClient,
  type KafkaFailure,
  type KafkaProducer,
  type RecordToSend,
} from '../../../lib/kafka/client/client.js';
import { Producer, type ProducerFields } from '../../../lib/kafka/produce/producer.js';
import { PublishCancellation } from '../../../lib/core/port/publish-cancellation.js';
import { TopicMetadataCache } from '../../../lib/kafka/produce/topic-metadata-cache.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newGate, RecordingLogger } from '../core/harness.js';

/** A request that waits for the response that the test gives. */
export class FakeSend {
  readonly #gate = newGate();
  isOpen = true;

  constructor(
    readonly producer: FakeProducer,
    readonly topic: string,
    readonly partition: number,
    readonly records: readonly RecordToSend[],
  ) {}

  get answer(): Promise<void> {
    return this.#gate.promise;
  }

  get values(): string[] {
    return this.records.map(({ value }) => value!.toString());
  }

  confirm(): void {
    this.isOpen = false;
    this.#gate.open();
  }

  fail(failure: KafkaFailure | Error): void {
    this.isOpen = false;
    this.#gate.fail(
      failure instanceof Error ? failure : new KafkaClientError(failure, `the broker: ${failure}`),
    );
  }
}

export class FakeProducer implements KafkaProducer {
  isClosed = false;

  constructor(
    readonly kafka: FakeKafka,
    readonly id: number,
  ) {}

  send(topic: string, partition: number, records: readonly RecordToSend[]): Promise<void> {
    const send = new FakeSend(this, topic, partition, records);
    this.kafka.sends.push(send);
    this.kafka.onSend?.(send);
    return send.answer;
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }
}

/** A Kafka client with topics, requests that wait for a response, and failures on demand. */
export class FakeKafka implements Pick<KafkaClient, 'openProducer'>, Pick<KafkaAdmin, 'partitionCounts'> {
  readonly topics = new Map<string, number>();
  readonly producers: FakeProducer[] = [];
  /** All requests, also those with a response. */
  readonly sends: FakeSend[] = [];
  /** Topics of all metadata requests. */
  readonly describedTopics: string[] = [];
  /** Failures of the next calls of `openProducer`. */
  readonly openFailures: KafkaFailure[] = [];
  /** Failures of the next metadata requests. */
  readonly metadataFailures: KafkaFailure[] = [];
  onSend: ((send: FakeSend) => void) | undefined;

  get open(): FakeSend[] {
    return this.sends.filter(({ isOpen }) => isOpen);
  }

  async openProducer(): Promise<KafkaProducer> {
    const failure = this.openFailures.shift();
    if (failure !== undefined) throw new KafkaClientError(failure, `no producer: ${failure}`);
    const producer = new FakeProducer(this, this.producers.length);
    this.producers.push(producer);
    return producer;
  }

  async partitionCounts(topics: readonly string[]): Promise<ReadonlyMap<string, number>> {
    this.describedTopics.push(...topics);
    const failure = this.metadataFailures.shift();
    if (failure !== undefined) throw new KafkaClientError(failure, `no answer: ${failure}`);
    return new Map([...this.topics].filter(([topic]) => topics.includes(topic)));
  }
}

export function newRecord(value: string, key: Buffer | string | null = null): RecordToSend {
  return { key, value: Buffer.from(value), headers: {}, timestamp: 1 };
}

export function newProducerBench(fields: Partial<ProducerFields> = {}) {
  const kafka = new FakeKafka();
  kafka.topics.set('t', 3);
  const clock = new VirtualClock();
  const logger = new RecordingLogger();
  const topics = new TopicMetadataCache(kafka, clock);
  const producer = new Producer({
    client: kafka,
    topics,
    settings: { acks: 'all', idempotent: false, compression: 'none' },
    name: 'billing',
    maxBufferedMessages: 10_000,
    maxBufferedBytes: 64 * 1024 * 1024,
    reconnect: { delayMs: 100, maxDelayMs: 1_000 },
    clock,
    random: () => 0.999,
    logger,
    ...fields,
  });
  const outcomes = new Map<string, string>();
  /** Publishes a value; its outcome is `ok`, or the error's name and message. */
  const publish = (
    value: string,
    partition?: number,
    topic = 't',
    key: string | null = null,
  ): PublishCancellation => {
    const cancellation = new PublishCancellation();
    producer.publish(topic, newRecord(value, key), { partition, cancellation }).then(
      () => outcomes.set(value, 'ok'),
      (error: Error) => outcomes.set(value, `${error.name}: ${error.message}`),
    );
    return cancellation;
  };
  return { kafka, clock, logger, topics, producer, outcomes, publish };
}
