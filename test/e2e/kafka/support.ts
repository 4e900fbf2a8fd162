import { randomUUID } from 'node:crypto';
import { Controller, type INestMicroservice, type LoggerService, type Type } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { Kafka, logLevel, type Admin, type IResourceConfigEntry, type Producer } from 'kafkajs';
import { afterAll, beforeAll, inject, onTestFinished } from 'vitest';
import {
  Consume,
  getClientToken,
  storkMicroservice,
  StorkModule,
  StorkService,
  type StorkClient,
  type StorkModuleOptions,
  type TransportState,
} from 'nestjs-stork';
import { kafka, type KafkaContext, type KafkaOptions } from 'nestjs-stork/kafka';
import { KafkaTopicReader } from '../../support/kafka-topic-reader.js';
import { committedOffsets, createTopic } from '../../support/kafka-topics.js';

export const brokers = inject('kafkaBrokers');
export const reconnect = { delayMs: 50, maxDelayMs: 200 };
/**
 * A session that does not time out on a busy machine; tests of session timeouts use a shorter one, of at
 * least six seconds.
 */
export const times = { sessionTimeoutMs: 15_000, heartbeatIntervalMs: 500 };

export function uniqueName(): string {
  return `e2e.${randomUUID().slice(0, 13)}`;
}

/** Log lines of all applications of this file. */
export const lines: { readonly level: keyof LoggerService; readonly line: string }[] = [];
const note =
  (level: keyof LoggerService) =>
  (line: unknown): void =>
    void lines.push({ level, line: String(line) });
const logger: LoggerService = {
  log: note('log'),
  warn: note('warn'),
  error: note('error'),
  debug: note('debug'),
};

export function linesAbout(level: keyof LoggerService, ...parts: readonly string[]): readonly string[] {
  return lines
    .filter((one) => one.level === level && parts.every((part) => one.line.includes(part)))
    .map(({ line }) => line);
}

export type Handle = (body: unknown, context: KafkaContext) => unknown;

/** A controller that listens to one pattern. */
export function handlerOf(pattern: string | RegExp, handle: Handle): Type {
  @Controller()
  class Consumer {
    @EventPattern<string>(pattern as string)
    @Consume({ id: String(pattern) })
    handle(@Payload() body: unknown, @Ctx() context: KafkaContext): unknown {
      return handle(body, context);
    }
  }
  return Consumer;
}

export interface KafkaAppOptions {
  readonly group: string;
  /** By pattern: the topic, unless the options say otherwise. */
  readonly handlers: Readonly<Record<string, Handle>> | readonly Type[];
  readonly options?: Partial<KafkaOptions>;
  readonly module?: Omit<StorkModuleOptions, 'transports'>;
}

export interface KafkaApp {
  readonly app: INestMicroservice;
  readonly client: StorkClient;
  readonly service: StorkService;
  readonly state: () => TransportState;
  readonly close: () => Promise<void>;
}

/** With the one transport `main`; it is closed when the test ends. */
export async function buildKafkaApp({
  group,
  handlers,
  options,
  module,
}: KafkaAppOptions): Promise<KafkaApp> {
  // On a busy machine a broker takes longer to start than a publish may wait by default.
  const limits = { ...times, publishTimeoutMs: 180_000 };
  const transports = { main: kafka({ brokers, groupId: group, reconnect, ...limits, ...options }) };
  const controllers = Array.isArray(handlers)
    ? [...(handlers as readonly Type[])]
    : Object.entries(handlers).map(([pattern, handle]) => handlerOf(pattern, handle as Handle));
  const testing = await Test.createTestingModule({
    imports: [
      StorkModule.forRoot({ transports, drainTimeoutMs: 4_000, retry: { maxRetries: 0 }, ...module }),
    ],
    controllers,
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger });
  const service = app.get(StorkService);
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => (closing ??= app.close());
  onTestFinished(close);
  const client = app.get<StorkClient>(getClientToken('main'));
  return { app, client, service, state: () => service.state()['main']!, close };
}

export async function startKafkaApp(options: KafkaAppOptions): Promise<KafkaApp> {
  const built = await buildKafkaApp(options);
  await built.app.listen();
  return built;
}

/** The partition and offset of a record. */
export interface Place {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
}

export interface ToSend {
  readonly key?: string | null;
  readonly partition?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A kafkajs client that does not use the library, on connections of its own. */
export class Raw {
  readonly kafka: Kafka;
  admin: Admin;
  producer: Producer;
  readonly reader: KafkaTopicReader;
  readonly #topics = new Set<string>();

  constructor(addresses: readonly string[]) {
    this.kafka = new Kafka({
      brokers: [...addresses],
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 50, retries: 20 },
    });
    this.admin = this.kafka.admin();
    this.producer = this.kafka.producer({ allowAutoTopicCreation: false });
    this.reader = new KafkaTopicReader(this.kafka);
  }

  async open(): Promise<void> {
    await Promise.all([this.admin.connect(), this.producer.connect(), this.reader.connect()]);
  }

  /** Needed after topics were deleted or got partitions: kafkajs keeps outdated metadata. */
  async renew(): Promise<void> {
    await Promise.all([this.admin.disconnect(), this.producer.disconnect()]);
    this.admin = this.kafka.admin();
    this.producer = this.kafka.producer({ allowAutoTopicCreation: false });
    await Promise.all([this.admin.connect(), this.producer.connect()]);
  }

  async close(): Promise<void> {
    const ours = [...this.#topics];
    const known = await this.admin.listTopics();
    const topics = known.filter((topic) =>
      ours.some((name) => topic === name || topic.startsWith(`${name}.`)),
    );
    if (topics.length > 0) await this.admin.deleteTopics({ topics, timeout: 30_000 }).catch(() => {});
    await Promise.all([this.admin.disconnect(), this.producer.disconnect(), this.reader.close()]);
  }

  /** A name whose topics, with their retry and dead letter topics, are deleted in the end. */
  name(name = uniqueName()): string {
    this.#topics.add(name);
    return name;
  }

  async topic(
    partitions = 1,
    name = uniqueName(),
    configEntries: IResourceConfigEntry[] = [],
  ): Promise<string> {
    await createTopic(this.admin, this.name(name), partitions, configEntries);
    return name;
  }

  /** Sends bodies as JSON; they arrive in this order. */
  async send(topic: string, bodies: readonly unknown[], to: ToSend = {}): Promise<void> {
    const messages = bodies.map((body) => ({
      key: to.key ?? null,
      value: JSON.stringify(body),
      ...(to.partition === undefined ? {} : { partition: to.partition }),
      ...(to.headers === undefined ? {} : { headers: { ...to.headers } }),
    }));
    await this.producer.send({ topic, messages });
  }

  committed(group: string, topic: string): Promise<ReadonlyMap<number, number>> {
    return committedOffsets(this.admin, group, topic);
  }

  /** Resolves when the group has committed the end offsets of the topic. */
  async settled(group: string, topic: string): Promise<void> {
    await eventually(
      async () => ((await this.lag(group, topic)) === 0 ? true : undefined),
      `no lag in ${topic}`,
    );
  }

  /** Offsets of the topic that the group has not committed. */
  async lag(group: string, topic: string): Promise<number> {
    const committed = await this.committed(group, topic);
    const ends = await this.admin.fetchTopicOffsets(topic);
    return ends.reduce(
      (sum, { partition, low, high }) => sum + Number(high) - (committed.get(partition) ?? Number(low)),
      0,
    );
  }

  async deadLetters(topic: string): Promise<readonly string[]> {
    const deadLetters = await this.reader.records(`${topic}.dlq`);
    return deadLetters.map(({ value }) => value?.toString() ?? '');
  }
}

/** One client for all tests of a file. */
export function useRaw(): () => Raw {
  let raw: Raw;
  beforeAll(async () => {
    if (brokers === undefined) return;
    raw = new Raw(brokers);
    await raw.open();
  });
  afterAll(async () => {
    if (brokers !== undefined) await raw.close();
  });
  return () => raw;
}

/** Polls until there is a result: brokers do not notify of changes. */
export async function eventually<T>(
  ask: () => Promise<T | undefined> | T | undefined,
  what: string,
  timeoutMs = 60_000,
): Promise<T> {
  for (const until = Date.now() + timeoutMs; ;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > until) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await later(10);
  }
}

export const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

/** A gate that blocks the handlers of a test until the test opens it. */
export class Gate {
  #open!: () => void;
  readonly opened = new Promise<void>((resolve) => {
    this.#open = resolve;
  });

  open(): void {
    this.#open();
  }
}

/** What the handlers of a test have recorded. */
export class Seen<T> {
  readonly all: T[] = [];

  add(item: T): void {
    this.all.push(item);
  }

  count(count: number, timeoutMs = 60_000): Promise<readonly T[]> {
    return eventually(
      () => (this.all.length >= count ? this.all : undefined),
      `${count} to be seen`,
      timeoutMs,
    ).catch(() => {
      throw new Error(`saw ${this.all.length} of ${count} within ${timeoutMs} ms`);
    });
  }
}
