import { Redis } from 'ioredis';
import { withTimeout } from '../core/runtime/with-timeout.js';
import { backoffMs, systemClock } from '../core/runtime/clock.js';
import { addressOf, describeError } from './errors.js';
import type { RedisClient } from './options.js';

/** A client that commands can be given to, ours or the user's. */
export interface Connection {
  readonly client: RedisClient;
  /** For error messages. */
  readonly description: string;
  /** Resolves when a command would be sent at once; rejects at once while there is no connection and none is being opened. */
  whenReady(): Promise<void>;
  /** The server did not answer: what waits on this connection fails, and another one is opened. */
  reset(): void;
  close(): Promise<void>;
}

/** States of the client in which a command would lie in a queue for nobody knows how long. */
const disconnectedStates = new Set(['reconnecting', 'close', 'end']);
/** Well below the time for which the end of a run is told again. */
const backoff = { delayMs: 100, maxDelayMs: 1_000 };
/** How long the client waits for the server's farewell, which a stalled link does not bring. */
const disconnectTimeoutMs = 100;

export interface ManagedConnectionSettings {
  readonly url: string;
  readonly connectTimeoutMs: number;
  readonly commandTimeoutMs: number;
}

/** Connects with the first command, and comes back by itself; it never queues a command. */
export class ManagedConnection implements Connection {
  readonly client: Redis;
  readonly description: string;
  readonly #settings: ManagedConnectionSettings;
  #lastError: string | undefined;
  #opening: Promise<void> | undefined;

  constructor(settings: ManagedConnectionSettings) {
    const { url, connectTimeoutMs } = settings;
    this.#settings = settings;
    this.description = `Redis at ${addressOf(url)}`;
    this.client = new Redis(url, {
      lazyConnect: true,
      connectTimeout: connectTimeoutMs,
      disconnectTimeout: disconnectTimeoutMs,
      retryStrategy: (attempt) => backoffMs(attempt, backoff, Math.random),
      // A server that has become a replica refuses to write for ever: the name may lead to another one by now.
      reconnectOnError: (error) => error.message.includes('READONLY'),
      // A command that nobody waits for any more must not take a lease later: it fails with its connection.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
    });
    this.client.on('error', (error) => {
      this.#lastError = describeError(error);
    });
    this.client.on('ready', () => {
      this.#lastError = undefined;
    });
  }

  whenReady(): Promise<void> {
    if (this.client.status === 'ready') return Promise.resolve();
    if (disconnectedStates.has(this.client.status)) return Promise.reject(this.#notConnectedError());
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  reset(): void {
    const { status } = this.client;
    if (status === 'ready' || status === 'connect') this.client.disconnect(true);
  }

  async close(): Promise<void> {
    if (this.client.status === 'ready') {
      // After the commands before it, so that what is under way gets its answer.
      const { commandTimeoutMs } = this.#settings;
      const quit = () => this.client.quit();
      await withTimeout(quit, { clock: systemClock, limitMs: commandTimeoutMs }).catch(() => {});
    }
    this.client.disconnect();
  }

  async #open(): Promise<void> {
    const { connectTimeoutMs } = this.#settings;
    const timeoutError = () => new Error(`no connection within ${connectTimeoutMs} ms`);
    try {
      await withTimeout(() => this.#awaitReady(), {
        clock: systemClock,
        limitMs: connectTimeoutMs,
        timeoutError,
      });
    } catch (error) {
      // The client limits the connection's opening, not the greeting that follows.
      this.reset();
      throw error;
    }
  }

  #awaitReady(): Promise<void> {
    const { client } = this;
    return new Promise((resolve, reject) => {
      const settle = (end: () => void) => (): void => {
        client.off('ready', onReady).off('close', onClose);
        end();
      };
      const onReady = settle(resolve);
      const onClose = settle(() => reject(this.#notConnectedError()));
      client.on('ready', onReady).on('close', onClose);
      if (client.status === 'wait') client.connect().catch(() => {});
    });
  }

  #notConnectedError(): Error {
    return new Error(this.#lastError ?? 'the connection was lost');
  }
}

/** The user's client: how it connects, queues and ends is the user's affair, as far as nobody waits for it here. */
export class ProvidedConnection implements Connection {
  readonly client: RedisClient;
  readonly description = 'Redis';

  constructor(client: RedisClient) {
    this.client = client;
  }

  async whenReady(): Promise<void> {
    if (disconnectedStates.has(this.client.status)) throw new Error(`the client's state is '${this.client.status}'`);
  }

  reset(): void {}

  async close(): Promise<void> {}
}
