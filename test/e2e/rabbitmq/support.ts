import { randomUUID } from 'node:crypto';
import type { INestMicroservice, LoggerService, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { connect, type Channel, type ChannelModel, type ConfirmChannel, type ConsumeMessage } from 'amqplib';
import { afterAll, beforeAll, inject, onTestFinished } from 'vitest';
import {
  getClientToken,
  storkMicroservice,
  StorkModule,
  StorkService,
  type StorkClient,
  type StorkModuleOptions,
} from 'nestjs-stork';
import { rabbitmq, type RabbitMqOptions } from 'nestjs-stork/rabbitmq';
import { systemClock, type StorkClock } from '../../../lib/core/runtime/clock.js';
import { STORK_CLOCK } from '../../../lib/nest/stork.constants.js';
import { eventually } from '../../contract/app.js';

export const url = inject('rabbitmqUrl');
export const reconnect = { delayMs: 20, maxDelayMs: 100 };

export function uniqueQueue(): string {
  return `e2e.${randomUUID().slice(0, 13)}`;
}

export interface RabbitApp {
  readonly app: INestMicroservice;
  readonly client: StorkClient;
  readonly service: StorkService;
  readonly queue: string;
  readonly counts: () => Readonly<Partial<Record<string, number>>>;
  readonly close: () => Promise<void>;
}

export interface RabbitAppOptions {
  readonly controllers?: readonly Type[];
  readonly options?: Partial<RabbitMqOptions>;
  readonly module?: Omit<StorkModuleOptions, 'transports'>;
  /** @defaultValue the system clock */
  readonly clock?: StorkClock;
  /** @defaultValue none */
  readonly logger?: LoggerService;
}

export async function buildApp(given: RabbitAppOptions): Promise<RabbitApp> {
  const { controllers = [], options, module, clock = systemClock, logger = false } = given;
  const queue = options?.queue ?? uniqueQueue();
  // On a busy machine a broker takes longer to start than a publish may wait by default.
  const publishTimeoutMs = 180_000;
  const transports = { main: rabbitmq({ url, queue, reconnect, publishTimeoutMs, ...options }) };
  const testing = await Test.createTestingModule({
    imports: [
      StorkModule.forRoot({ transports, drainTimeoutMs: 4_000, retry: { maxRetries: 0 }, ...module }),
    ],
    controllers: [...controllers],
  })
    .overrideProvider(STORK_CLOCK)
    .useValue(clock)
    .compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger });
  let closing: Promise<void> | undefined;
  const service = app.get(StorkService);
  return {
    app,
    client: app.get<StorkClient>(getClientToken('main')),
    service,
    queue,
    counts: () => service.state()['main']!.counts,
    close: () => (closing ??= app.close()),
  };
}

/** Starts an application with the one transport `main`; it is closed when the test ends. */
export async function startRabbitApp(options: RabbitAppOptions): Promise<RabbitApp> {
  const built = await buildApp(options);
  onTestFinished(built.close);
  await built.app.listen();
  return built;
}

/** The error that `listen()` rejects with, and how long it took. */
export async function refusal(options: RabbitAppOptions): Promise<{ error: Error; tookMs: number }> {
  const built = await buildApp(options);
  const began = performance.now();
  try {
    await built.app.listen();
  } catch (error) {
    const tookMs = performance.now() - began;
    await built.close();
    return { error: error as Error, tookMs };
  }
  await built.close();
  throw new Error('listen() did not reject');
}

export interface PreparedDeadLetter {
  readonly body: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly message: ConsumeMessage;
}

/** An amqplib client that does not use the library, on connections of its own. */
export class Raw {
  readonly #url: string;
  #connection: ChannelModel | undefined;
  #channel: Channel | undefined;
  readonly #queues = new Set<string>();
  readonly #exchanges = new Set<string>();

  constructor(address: string) {
    this.#url = address;
  }

  get connection(): ChannelModel {
    return this.#connection!;
  }

  get channel(): Channel {
    return this.#channel!;
  }

  async open(): Promise<void> {
    this.#connection = await connect(this.#url, { noDelay: true });
    this.#connection.on('error', () => {});
    this.#channel = await this.#connection.createConfirmChannel();
    this.#channel.on('error', () => {});
  }

  /** Rejects if the broker closed the connection instead. */
  async confirmed(): Promise<void> {
    await (this.#channel as ConfirmChannel).waitForConfirms();
  }

  /** A queue that is deleted in the end, with its dead letter queues. */
  queue(name = uniqueQueue()): string {
    for (const suffix of ['', '.dlq', '.dlq.dlq']) this.#queues.add(name + suffix);
    return name;
  }

  exchange(name = `${uniqueQueue()}.x`): string {
    this.#exchanges.add(name);
    return name;
  }

  /**
   * Deletes in the end the delay queues of a queue and an exchange named `target`; returns the name of the
   * first.
   */
  delayed(target: string, delayMs: number): string {
    const ofQueue = `${target}.delay.queue.${delayMs}`;
    for (const name of [ofQueue, `${target}.delay.${delayMs}`]) {
      this.#queues.add(name);
      this.#exchanges.add(name);
    }
    return ofQueue;
  }

  /** On a channel of its own: an error closes it. */
  async with<T>(use: (channel: Channel) => Promise<T>): Promise<T> {
    const channel = await this.connection.createChannel();
    channel.on('error', () => {});
    try {
      return await use(channel);
    } finally {
      await Promise.resolve()
        .then(() => channel.close())
        .catch(() => {});
    }
  }

  async count(queue: string): Promise<number> {
    const found = await this.with((channel) => channel.checkQueue(queue)).catch(() => undefined);
    return found?.messageCount ?? 0;
  }

  /** Reads the ready messages and requeues them. */
  deadLetters(queue: string, count: number): Promise<readonly PreparedDeadLetter[]> {
    return eventually(async () => {
      if ((await this.count(queue)) < count) return undefined;
      return this.with(
        (channel) =>
          new Promise<PreparedDeadLetter[]>((resolve, reject) => {
            const seen: PreparedDeadLetter[] = [];
            const take = (message: ConsumeMessage | null): void => {
              if (message === null) return;
              const { content, properties } = message;
              seen.push({ body: content.toString(), headers: { ...properties.headers }, message });
              if (seen.length === count) resolve(seen);
            };
            channel.consume(queue, take).catch(reject);
          }),
      );
    }, `${count} messages in ${queue}`);
  }

  /** Consumes and acknowledges every message. */
  async drain(queue: string): Promise<readonly string[]> {
    return this.with(async (channel) => {
      const bodies: string[] = [];
      for (;;) {
        const message = await channel.get(queue, { noAck: true });
        if (message === false) return bodies;
        bodies.push(message.content.toString());
      }
    });
  }

  async close(): Promise<void> {
    for (const name of this.#queues) await this.with((channel) => channel.deleteQueue(name)).catch(() => {});
    for (const name of this.#exchanges)
      await this.with((channel) => channel.deleteExchange(name)).catch(() => {});
    await this.connection.close().catch(() => {});
  }
}

/** One client for all tests of a file. */
export function useRaw(): () => Raw {
  let raw: Raw;
  beforeAll(async () => {
    if (url === undefined) return;
    raw = new Raw(url);
    await raw.open();
  });
  afterAll(async () => {
    if (url !== undefined) await raw.close();
  });
  return () => raw;
}

/**
 * Replaces the only occurrence of `marker` in the outgoing bytes by `bytes`, which no client library would
 * write.
 */
export function forge({ connection }: Raw, marker: Buffer, bytes: Buffer): () => void {
  if (marker.length !== bytes.length) throw new Error('a forgery must be as long as what it replaces');
  const { stream } = connection.connection as unknown as {
    stream: { write: (chunk: Buffer, ...rest: unknown[]) => boolean };
  };
  const write = stream.write;
  stream.write = function (chunk, ...rest) {
    const at = chunk.indexOf(marker);
    if (at >= 0) bytes.copy(chunk, at);
    return write.call(this, chunk, ...rest);
  };
  return () => {
    stream.write = write;
  };
}

/**
 * Errors that would end the process outside the test runner: unhandled rejections and uncaught exceptions.
 */
export async function crashesDuring(work: () => Promise<void>): Promise<readonly unknown[]> {
  const crashes: unknown[] = [];
  const events = ['unhandledRejection', 'uncaughtException'] as const;
  const before = events.map((event) => process.listeners(event as 'uncaughtException'));
  const note = (error: unknown): void => void crashes.push(error);
  for (const event of events) process.removeAllListeners(event).on(event, note);
  try {
    await work();
    // Node reports rejections after the microtasks of the turn.
    await new Promise((resolve) => setTimeout(resolve, 20));
  } finally {
    events.forEach((event, i) => {
      process.removeAllListeners(event);
      for (const listener of before[i]!) process.on(event as 'uncaughtException', listener);
    });
  }
  return crashes;
}

export const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export const codeOf = (error: unknown): unknown => (error as { code?: unknown }).code;
