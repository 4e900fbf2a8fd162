import { randomUUID } from 'node:crypto';
import { Socket } from 'node:net';
import type { INestApplicationContext, ModuleMetadata, Type } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { onTestFinished, vi } from 'vitest';
import { StorkModule, type StorkModuleOptions } from 'nestjs-stork';
import { memory, MemoryBroker, type MemoryOptions } from 'nestjs-stork/memory';
import { readText } from '../../lib/core/message/headers.js';
import { eventually } from '../contract/app.js';

/** A module with memory queues that a test can inspect. */
export class Shop {
  readonly broker = new MemoryBroker();
  readonly queue = `e2e.${randomUUID().slice(0, 13)}`;

  transport(options: Partial<MemoryOptions> = {}) {
    return memory({ queue: this.queue, broker: this.broker, ...options });
  }

  /** `StorkModule` with this queue as transport `main`. */
  stork(options: Partial<StorkModuleOptions> = {}) {
    return StorkModule.forRoot({
      transports: { main: this.transport() },
      retry: { maxRetries: 0 },
      ...options,
    });
  }

  compile(controllers: readonly Type[], metadata: ModuleMetadata = {}): Promise<TestingModule> {
    return Test.createTestingModule({
      ...metadata,
      imports: [this.stork(), ...(metadata.imports ?? [])],
      controllers: [...controllers],
    }).compile();
  }

  /** Dead letters of the queue as `{ header: text }`, once there are that many. */
  deadLetters(count: number, queue = this.queue): Promise<Record<string, string | undefined>[]> {
    return eventually(async () => {
      const deadLetters = this.broker.queue(`${queue}.dlq`)?.peek() ?? [];
      if (deadLetters.length < count) return undefined;
      return deadLetters.map(({ headers }) =>
        Object.fromEntries(Object.keys(headers).map((name) => [name, readText(headers, name, Infinity)])),
      );
    }, `${count} dead letters of ${queue}`);
  }

  /** Resolves when the queue is empty and nothing of it is unsettled. */
  async settled(queue = this.queue): Promise<void> {
    await eventually(async () => {
      const { ready, unacked } = this.broker.queue(queue)!;
      return ready + unacked === 0 ? true : undefined;
    }, `${queue} to be settled`);
  }
}

/** What the application logged. */
export class LogLines {
  readonly lines: string[] = [];
  readonly log = (line: unknown): void => this.#add(line);
  readonly warnings: string[] = [];
  readonly warn = (line: unknown): void => {
    this.warnings.push(String(line));
    this.#add(line);
  };
  readonly error = (line: unknown): void => this.#add(line);
  readonly debug = (line: unknown): void => this.#add(line);
  readonly verbose = (line: unknown): void => this.#add(line);
  readonly fatal = (line: unknown): void => this.#add(line);

  containing(text: string): string[] {
    return this.lines.filter((line) => line.includes(text));
  }

  #add(line: unknown): void {
    this.lines.push(String(line));
  }
}

export const activeResources = (): readonly string[] => process.getActiveResourcesInfo();

/**
 * Shorter than the limits after which leaked resources end by themselves: a socket's handshake, 10 s, and
 * timers, 5 s.
 */
const goneMs = { TCPSocketWrap: 9_000, Timeout: 2_000 };

/** Resolves when the process has no more sockets and timers than `before`. */
export async function expectNothingLeft(before: readonly string[]): Promise<void> {
  const count = (names: readonly string[], kind: string) => names.filter((name) => name === kind).length;
  for (const [kind, limitMs] of Object.entries(goneMs))
    await eventually(
      async () => (count(activeResources(), kind) <= count(before, kind) ? true : undefined),
      `each ${kind} to be gone`,
      limitMs,
    );
}

// oxlint-disable-next-line typescript/unbound-method -- called with the socket as `this`
const { write: socketWrite } = Socket.prototype;

/** Resolves when the sockets of this process have been written to that many times. */
export function untilSocketWrites(writes: number): Promise<void> {
  if (writes === 0) return Promise.resolve();
  return new Promise((resolve) => {
    let left = writes;
    const spy = vi.spyOn(Socket.prototype, 'write').mockImplementation(function (this: Socket, ...args) {
      if (--left === 0) resolve();
      return Reflect.apply(socketWrite, this, args);
    });
    onTestFinished(() => spy.mockRestore());
  });
}

/** Runs what `enableShutdownHooks()` runs at a signal, all but the end of the process. */
export async function closeBySignal(app: INestApplicationContext): Promise<void> {
  const signal = 'SIGUSR2';
  const before = process.listeners(signal);
  app.enableShutdownHooks([signal]);
  const added = process.listeners(signal).find((listener) => !before.includes(listener));
  const shutDown = added as unknown as (signal: string) => Promise<void>;
  const kill = vi.spyOn(process, 'kill').mockReturnValue(true);
  try {
    await shutDown(signal);
  } finally {
    kill.mockRestore();
  }
}
