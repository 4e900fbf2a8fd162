import { randomUUID } from 'node:crypto';
import type { INestMicroservice, NestInterceptor, PipeTransform, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { onTestFinished } from 'vitest';
import {
  getClientToken,
  storkMicroservice,
  StorkModule,
  StorkService,
  type CommonTransportOptions,
  type StorkClient,
  type StorkModuleOptions,
} from 'nestjs-stork';
import { headerNames, readText } from '../../lib/core/message/headers.js';
import type { DriverHarness, RawDeadLetter } from './harness.js';

export interface AppOptions {
  readonly controllers: readonly Type[];
  readonly transport?: CommonTransportOptions;
  readonly module?: Omit<StorkModuleOptions, 'transports'>;
  readonly pipes?: readonly PipeTransform[];
  readonly interceptors?: readonly NestInterceptor[];
  /** Name of the queue or topic. @defaultValue a unique name */
  readonly source?: string;
}

export interface RunningApp {
  readonly app: INestMicroservice;
  readonly client: StorkClient;
  readonly service: StorkService;
  readonly source: string;
  /** Resolves when at least that many dead letters are stored. */
  readonly deadLetters: (count: number) => Promise<readonly RawDeadLetter[]>;
  /** Resolves when no message of the source is unsettled. */
  readonly settled: () => Promise<void>;
  /**
   * Resolves when exactly that many messages are in the source; after `close()`, those that the
   * application did not settle.
   */
  readonly left: (count: number) => Promise<unknown>;
  readonly close: () => Promise<void>;
}

export function uniqueName(): string {
  return `contract.${randomUUID().slice(0, 13)}`;
}

/** Starts an application with one transport, `main`. It is closed when the test ends. */
export async function startApp(harness: DriverHarness, options: AppOptions): Promise<RunningApp> {
  const source = options.source ?? uniqueName();
  const transports = { main: harness.transport(source, options.transport) };
  const testing = await Test.createTestingModule({
    // One attempt, except in the retry tests: a failed message becomes a dead letter at once.
    imports: [StorkModule.forRoot({ transports, retry: { maxRetries: 0 }, ...options.module })],
    controllers: [...options.controllers],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  if (options.pipes !== undefined) app.useGlobalPipes(...options.pipes);
  if (options.interceptors !== undefined) app.useGlobalInterceptors(...options.interceptors);
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => (closing ??= app.close());
  onTestFinished(close);
  await app.listen();
  const service = app.get(StorkService);
  return {
    app,
    client: app.get<StorkClient>(getClientToken('main')),
    service,
    source,
    deadLetters: (count) =>
      eventually(async () => {
        const deadLetters = await harness.deadLetters(source);
        return deadLetters.length >= count ? deadLetters : undefined;
      }, `${count} dead letters`),
    settled: async () => {
      const isSettled = async (): Promise<true | undefined> => {
        const isIdle = (): boolean => service.state()['main']!.inFlight === 0;
        // Checked twice: a message delivered during the check is in neither `waiting` nor the first
        // `isIdle()`.
        return isIdle() && (await harness.waiting(source)) === 0 && isIdle() ? true : undefined;
      };
      await eventually(isSettled, 'nothing unsettled');
    },
    left: (count) =>
      eventually(
        async () => ((await harness.waiting(source)) === count ? true : undefined),
        `${count} messages to be left`,
      ),
    close,
  };
}

const waitLimitMs = 60_000;

/** Polls until there is a result: a broker does not notify about the content of a queue. */
export async function eventually<T>(
  poll: () => Promise<T | undefined>,
  what: string,
  limitMs = waitLimitMs,
): Promise<T> {
  const until = Date.now() + limitMs;
  for (;;) {
    const answer = await poll();
    if (answer !== undefined) return answer;
    if (Date.now() > until) throw new Error(`waited ${limitMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Items that a test's handler records and the test awaits. */
export class Seen<T> {
  readonly all: T[] = [];
  readonly #waiting: { readonly count: number; readonly resolve: () => void }[] = [];

  add(item: T): void {
    this.all.push(item);
    for (const { count, resolve } of this.#waiting) if (this.all.length >= count) resolve();
  }

  async count(count: number): Promise<readonly T[]> {
    if (this.all.length < count) {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`saw ${this.all.length} of ${count}`)), waitLimitMs);
        this.#waiting.push({
          count,
          resolve: () => {
            clearTimeout(timer);
            resolve();
          },
        });
      });
    }
    return this.all;
  }
}

/** Blocks a test's handlers until the test opens it. */
export class Gate {
  #open!: () => void;
  readonly opened = new Promise<void>((resolve) => {
    this.#open = resolve;
  });

  open(): void {
    this.#open();
  }
}

/** A dead letter's header as text. */
export function headerText(deadLetter: RawDeadLetter | undefined, name: string): string | undefined {
  return deadLetter === undefined ? undefined : readText(deadLetter.headers, name, Infinity);
}

export const deathReason = (deadLetter: RawDeadLetter): string | undefined =>
  headerText(deadLetter, headerNames.deathReason);
