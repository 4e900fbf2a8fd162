import { Redis } from 'ioredis';
import { withTimeout } from '../core/runtime/with-timeout.js';
import { backoffMs, systemClock } from '../core/runtime/clock.js';
import { shownAddress } from '../core/message/text.js';
import { describeError } from './errors.js';
import type { RedisClient } from './options.js';

/** A connection to Redis, opened by the store or by the user. */
export interface Connection {
  readonly client: RedisClient;
  /** For error messages. */
  readonly description: string;
  /** Resolves when a command can be sent. Rejects at once while the connection is lost. */
  whenReady(): Promise<void>;
  /** Called when the server does not answer: fails the pending commands and reconnects. */
  reset(): void;
  close(): Promise<void>;
}

/** States of ioredis in which it would queue a command without a time limit. */
const disconnectedStates = new Set(['reconnecting', 'close', 'end']);
/** Well below the time limit within which `complete` and `release` are retried. */
const backoff = { delayMs: 100, maxDelayMs: 1_000 };
/**
 * How long ioredis waits for the server to close the socket, which never happens on a stalled connection.
 */
const disconnectTimeoutMs = 100;

export interface ManagedConnectionSettings {
  readonly url: string;
  readonly connectTimeoutMs: number;
  readonly commandTimeoutMs: number;
}

/**
 * A connection opened by the store. Connects on the first command and reconnects automatically. Never
 * queues a command.
 */
export class ManagedConnection implements Connection {
  readonly client: Redis;
  readonly description: string;
  readonly #settings: ManagedConnectionSettings;
  #lastError: string | undefined;
  #opening: Promise<void> | undefined;

  constructor(settings: ManagedConnectionSettings) {
    const { url, connectTimeoutMs } = settings;
    this.#settings = settings;
    this.description = `Redis at ${shownAddress(url)}`;
    this.client = new Redis(url, {
      lazyConnect: true,
      connectTimeout: connectTimeoutMs,
      disconnectTimeout: disconnectTimeoutMs,
      retryStrategy: (attempt) => backoffMs(attempt, backoff, Math.random),
      // After a failover the old primary is a read-only replica. The host name may resolve to the new
      // primary.
      reconnectOnError: (error) => error.message.includes('READONLY'),
      // A command that is sent after a reconnect could acquire a lease that is no longer wanted: it fails
      // instead.
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
      // QUIT is answered after the commands before it.
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
      // `connectTimeout` of ioredis covers the TCP connection, not the handshake that follows.
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

/**
 * The user's client. The user decides how it connects, queues and closes; the store only refuses to wait
 * for a lost connection.
 */
export class ProvidedConnection implements Connection {
  readonly client: RedisClient;
  readonly description = 'Redis';

  constructor(client: RedisClient) {
    this.client = client;
  }

  async whenReady(): Promise<void> {
    if (disconnectedStates.has(this.client.status))
      throw new Error(`the client's state is '${this.client.status}'`);
  }

  reset(): void {}

  async close(): Promise<void> {}
}
