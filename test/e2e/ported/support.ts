import { randomUUID } from 'node:crypto';
import type { INestApplication, INestMicroservice, ModuleMetadata, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { connectStork, getClientToken, StorkModule, type StorkClient } from 'nestjs-stork';
import type { CommonTransportOptions, StorkModuleOptions, TransportDefinition } from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { memory, MemoryBroker } from 'nestjs-stork/memory';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { brokers, useForeign } from '../kafka/kafka-app.js';
import { reconnect, url, useRaw } from '../rabbitmq/support.js';

/** A transport on the queue or topic `source`, which is deleted at the end of the describe block. */
export type Define = (source: string, options?: CommonTransportOptions) => TransportDefinition;

/** The transports on which upstream's transport-independent suites run, for `describe.each`. */
export const transports = [
  { name: 'rabbitmq', isSkipped: url === undefined, use: useRabbitMq },
  { name: 'kafka', isSkipped: brokers === undefined, use: useKafka },
  { name: 'memory', isSkipped: false, use: useMemory },
] as const;

function useRabbitMq(): Define {
  const raw = useRaw();
  return (source, options) => rabbitmq({ url, queue: raw().queue(source), reconnect, ...options });
}

function useKafka(): Define {
  const foreign = useForeign();
  return (source, options) =>
    kafka({
      brokers,
      groupId: source,
      topic: foreign().noted(source),
      patternHeader: 'stork-pattern',
      partitions: 1,
      fromBeginning: true,
      reconnect,
      ...options,
    });
}

function useMemory(): Define {
  const broker = new MemoryBroker();
  return (source, options) => memory({ broker, queue: source, ...options });
}

export function uniqueSource(): string {
  return `ported.${randomUUID().slice(0, 13)}`;
}

/** Limits under which a test that hangs ends before Vitest ends it. */
export const limits = { drainTimeoutMs: 4_000, startTimeoutMs: 30_000 };

export interface Hybrid {
  readonly app: INestApplication;
  readonly post: (path: string, body?: unknown) => Promise<HttpReply>;
  readonly client: (transport?: string) => StorkClient;
}

export interface HttpReply {
  readonly status: number;
  readonly text: string;
}

export interface HybridOptions extends Omit<ModuleMetadata, 'controllers'> {
  readonly controllers?: readonly Type[];
  /** `StorkModule.forRoot()` with these; otherwise `imports` has the module. */
  readonly stork?: StorkModuleOptions;
  /** Whether the transports start with the application; otherwise a client connects with its first message. */
  readonly isConnected?: boolean;
  /** Called before the start. */
  readonly prepare?: (microservice: INestMicroservice, app: INestApplication) => void;
}

/** An HTTP application with the transports, started and listening. */
export async function startHybrid(options: HybridOptions): Promise<Hybrid> {
  const { stork, isConnected = true, prepare, controllers = [], imports = [], ...metadata } = options;
  const modules = stork === undefined ? [] : [StorkModule.forRoot({ ...limits, ...stork })];
  const testing = await Test.createTestingModule({
    ...metadata,
    imports: [...modules, ...imports],
    controllers: [...controllers],
  }).compile();
  const app = testing.createNestApplication({ logger: false });
  try {
    if (isConnected) {
      const microservice = connectStork(app);
      prepare?.(microservice, app);
      await app.startAllMicroservices();
    }
    await app.listen(0, '127.0.0.1');
  } catch (error) {
    await app.close();
    throw error;
  }
  const address = await app.getUrl();
  return {
    app,
    client: (transport = 'main') => app.get<StorkClient>(getClientToken(transport)),
    post: async (path, body) => {
      const reply = await fetch(`${address}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body ?? {}),
      });
      return { status: reply.status, text: await reply.text() };
    },
  };
}

export const sumOf = (numbers: readonly number[]): number => numbers.reduce((sum, n) => sum + n, 0);

/** Ten lists of ten numbers. */
export const manyLists = Array.from({ length: 10 }, (_, list) =>
  Array.from({ length: 10 }, (_, n) => list * 10 + n + 1),
);
