import { randomUUID } from 'node:crypto';
import type { INestMicroservice, LoggerService, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  Kafka,
  logLevel,
  Partitioners,
  type Admin,
  type IResourceConfigEntry,
  type Message,
  type Producer,
} from 'kafkajs';
import { afterAll, beforeAll, inject, onTestFinished } from 'vitest';
import {
  getClientToken,
  storkMicroservice,
  StorkModule,
  StorkService,
  type StorkClient,
  type StorkModuleOptions,
} from 'nestjs-stork';
import { kafka, type KafkaOptions } from 'nestjs-stork/kafka';
import { eventually } from '../../contract/app.js';
import { KafkaTopicReader, type StoredRecord } from '../../support/kafka-topic-reader.js';
import { createTopic } from '../../support/kafka-topics.js';

export const brokers = inject('kafkaBrokers');
export const reconnect = { delayMs: 20, maxDelayMs: 200 };

export function uniqueTopic(): string {
  return `e2e.${randomUUID().slice(0, 13)}`;
}

export interface KafkaApp {
  readonly app: INestMicroservice;
  readonly client: StorkClient;
  readonly service: StorkService;
  readonly groupId: string;
  readonly counts: () => Readonly<Partial<Record<string, number>>>;
  readonly close: () => Promise<void>;
}

export interface KafkaAppOptions {
  readonly controllers?: readonly Type[];
  readonly options?: Partial<KafkaOptions>;
  readonly module?: Omit<StorkModuleOptions, 'transports'>;
  readonly logger?: LoggerService;
}

export async function buildApp({
  controllers = [],
  options,
  module,
  logger,
}: KafkaAppOptions): Promise<KafkaApp> {
  const groupId = options?.groupId ?? uniqueTopic();
  const all = { brokers, groupId, fromBeginning: true, reconnect, partitions: 1, ...options };
  const testing = await Test.createTestingModule({
    imports: [
      StorkModule.forRoot({
        transports: { main: kafka(all) },
        drainTimeoutMs: 4_000,
        retry: { maxRetries: 0 },
        ...module,
      }),
    ],
    controllers: [...controllers],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: logger ?? false });
  let closing: Promise<void> | undefined;
  const service = app.get(StorkService);
  return {
    app,
    client: app.get<StorkClient>(getClientToken('main')),
    service,
    groupId,
    counts: () => service.state()['main']!.counts,
    close: () => (closing ??= app.close()),
  };
}

/** Starts an application with the one transport `main`; it is closed when the test ends. */
export async function startKafkaApp(options: KafkaAppOptions): Promise<KafkaApp> {
  const built = await buildApp(options);
  onTestFinished(built.close);
  await built.app.listen();
  return built;
}

/** The error that `listen()` rejects with, and how long it took. */
export async function refusal(options: KafkaAppOptions): Promise<{ error: Error; tookMs: number }> {
  const built = await buildApp(options);
  const began = performance.now();
  try {
    await built.app.listen();
  } catch (error) {
    return { error: error as Error, tookMs: performance.now() - began };
  } finally {
    await built.close();
  }
  throw new Error('listen() did not reject');
}

/** A kafkajs client that does not use the library. */
export class Foreign {
  readonly kafka: Kafka;
  readonly admin: Admin;
  readonly producer: Producer;
  readonly reader: KafkaTopicReader;
  readonly #topics = new Set<string>();

  constructor(addresses: readonly string[]) {
    const retry = { initialRetryTime: 50, retries: 20 };
    this.kafka = new Kafka({ brokers: [...addresses], logLevel: logLevel.NOTHING, retry });
    this.admin = this.kafka.admin();
    const createPartitioner = Partitioners.DefaultPartitioner;
    this.producer = this.kafka.producer({ allowAutoTopicCreation: false, createPartitioner });
    this.reader = new KafkaTopicReader(this.kafka);
  }

  async open(): Promise<void> {
    await Promise.all([this.admin.connect(), this.producer.connect(), this.reader.connect()]);
  }

  /** Creates a topic; it and its retry, dead letter and reply topics are deleted in the end. */
  async topic(
    name = uniqueTopic(),
    partitions = 1,
    configEntries: IResourceConfigEntry[] = [],
  ): Promise<string> {
    await createTopic(this.admin, this.noted(name), partitions, configEntries);
    return name;
  }

  /** A topic that is created elsewhere; it is deleted in the end. */
  noted(name: string): string {
    this.#topics.add(name);
    return name;
  }

  async send(topic: string, ...messages: Message[]): Promise<void> {
    await this.producer.send({ topic, messages });
  }

  /** So many records of a topic, once they are there. */
  records(topic: string, count: number): Promise<readonly StoredRecord[]> {
    return eventually(async () => {
      const found = await this.reader.records(topic).catch(unlessPassing);
      return found !== undefined && found.length >= count ? found : undefined;
    }, `${count} records of ${topic}`);
  }

  async close(): Promise<void> {
    const ours = [...this.#topics];
    const topics = (await this.admin.listTopics()).filter((topic) =>
      ours.some((name) => topic === name || topic.startsWith(`${name}.`)),
    );
    if (topics.length > 0) await this.admin.deleteTopics({ topics, timeout: 30_000 }).catch(() => {});
    await Promise.all([this.admin.disconnect(), this.producer.disconnect(), this.reader.close()]);
  }
}

/** A new topic has no leader for a moment. */
function unlessPassing(error: unknown): undefined {
  if ((error as { retriable?: unknown }).retriable !== true) throw error;
}

/** One client for all tests of a file. */
export function useForeign(): () => Foreign {
  let foreign: Foreign;
  beforeAll(async () => {
    if (brokers === undefined) return;
    foreign = new Foreign(brokers);
    await foreign.open();
  });
  afterAll(async () => {
    if (brokers !== undefined) await foreign.close();
  });
  return () => foreign;
}

/** A header as text. */
export function textOf(record: StoredRecord | undefined, name: string): string | undefined {
  return record?.headers[name]?.toString();
}
