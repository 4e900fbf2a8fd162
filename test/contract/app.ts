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
import type { DriverHarness, RawLetter } from './harness.js';

export interface AppOptions {
  readonly controllers: readonly Type[];
  readonly transport?: CommonTransportOptions;
  readonly module?: Omit<StorkModuleOptions, 'transports'>;
  readonly pipes?: readonly PipeTransform[];
  readonly interceptors?: readonly NestInterceptor[];
  /** @defaultValue a fresh one */
  readonly source?: string;
}

export interface RunningApp {
  readonly app: INestMicroservice;
  readonly client: StorkClient;
  readonly service: StorkService;
  readonly source: string;
  /** Resolves when that many dead letters are there, at once if so. */
  readonly deadLetters: (count: number) => Promise<readonly RawLetter[]>;
  /** Resolves when nothing of the source is unsettled. */
  readonly settled: () => Promise<void>;
  /** Resolves when so many messages wait in the source: for an application that is closed, all that it has not settled. */
  readonly left: (count: number) => Promise<unknown>;
  readonly close: () => Promise<void>;
}

export function uniqueName(): string {
  return `contract.${randomUUID().slice(0, 13)}`;
}

/** Starts an application with the one transport `main`; it is closed when the test ends. */
export async function startApp(harness: DriverHarness, options: AppOptions): Promise<RunningApp> {
  const source = options.source ?? uniqueName();
  const transports = { main: harness.transport(source, options.transport) };
  const testing = await Test.createTestingModule({
    // One run, unless it is retry that a test is about: what fails is a dead letter at once.
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
        // Before and after: what leaves the queue while it is looked at is in neither.
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

const patienceMs = 60_000;

/** Asks until there is an answer: what a broker holds can only be looked at, it tells nobody. */
export async function eventually<T>(
  ask: () => Promise<T | undefined>,
  what: string,
  limitMs = patienceMs,
): Promise<T> {
  const until = Date.now() + limitMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > until) throw new Error(`waited ${limitMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Something that a handler of a test tells and the test awaits. */
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
        const timer = setTimeout(() => reject(new Error(`saw ${this.all.length} of ${count}`)), patienceMs);
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

/** A door that handlers of a test wait at until the test opens it. */
export class Gate {
  #open!: () => void;
  readonly opened = new Promise<void>((resolve) => {
    this.#open = resolve;
  });

  open(): void {
    this.#open();
  }
}

/** Text of a letter's header, as an operator would read it. */
export function headerText(deadLetter: RawLetter | undefined, name: string): string | undefined {
  return deadLetter === undefined ? undefined : readText(deadLetter.headers, name, Infinity);
}

export const deathReason = (deadLetter: RawLetter): string | undefined =>
  headerText(deadLetter, headerNames.deathReason);
