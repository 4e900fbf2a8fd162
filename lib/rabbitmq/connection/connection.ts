import { connect, type ChannelModel, type SocketOptions } from 'amqplib';
import { backoffMs, type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import { ConnectionStateCell } from '../../core/port/connection-state.js';
import { ClientClosedError } from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import { connectError, isAuthError } from './errors.js';
import { OutageLog } from './outage-log.js';
import { destroySocket, corkWrites } from './socket.js';
import { tolerateUndecodableHeaders } from './undecodable-headers.js';

/** amqplib does not limit the duration of the AMQP handshake. */
const handshakeTimeoutMs = 10_000;

export interface ConnectionFields {
  /** Each attempt uses the next one. */
  readonly urls: readonly string[];
  /** Connection name in the management UI, e.g. `main/consume/1f2e3d4c`. */
  readonly name: string;
  readonly socket: SocketOptions;
  readonly reconnect: BackoffOptions;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
}

type Waiter = ReturnType<typeof withResolvers<ChannelModel>>;

/**
 * A connection that reconnects after every loss: it destroys the socket and connects to the next URL, with
 * back-off. amqplib's own recovery is not used: it restores no channels, lets acks of the old channel
 * throw, and waits without limit.
 */
export class Connection {
  readonly state = new ConnectionStateCell();
  readonly #fields: ConnectionFields;
  #closed = false;
  /** Ends the reconnect loop: on `close`, or when `open` fails before the first successful connection. */
  #stop = new AbortController();
  #model: ChannelModel | undefined;
  /** The reconnect loop. */
  #running: Promise<void> | undefined;
  #waiting: Waiter[] = [];
  #lastError: Error | undefined;
  #hasConnected = false;

  constructor(fields: ConnectionFields) {
    this.#fields = fields;
  }

  /**
   * Starts the reconnect loop and resolves on the first connection. Rejects with the last error when
   * `signal` aborts, and at once on an authentication error. A rejection stops the loop.
   */
  async open(signal: AbortSignal): Promise<void> {
    this.#running ??= this.#run();
    const waiter = this.#wait();
    const onAbort = (): void =>
      waiter.reject(this.#lastError ?? connectError(this.#fields.urls[0]!, signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await waiter.promise;
    } catch (error) {
      this.#reset();
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Undefined while disconnected. */
  get current(): ChannelModel | undefined {
    return this.#model;
  }

  /** Resolves with the current connection, or with the next one while disconnected. Rejects on `close`. */
  ready(): Promise<ChannelModel> {
    if (this.#model !== undefined) return Promise.resolve(this.#model);
    return this.#wait().promise;
  }

  /** Closes the connection, within `limitMs`: amqplib's `close()` never settles on a stalled link. */
  async close(limitMs: number): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const model = this.#model;
    this.#stop.abort();
    this.#failWaiting(this.#closedError());
    if (model !== undefined) {
      await settlesWithin(
        this.#fields.clock,
        model.close().catch(() => {}),
        limitMs,
      );
      destroySocket(model);
    }
    // A pending handshake may outlast the shutdown deadline.
    if (this.#running !== undefined) await settlesWithin(this.#fields.clock, this.#running, limitMs);
    this.state.move({ value: 'closed' });
  }

  /** Stops the loop after a failed `open`, which may then be called again. */
  #reset(): void {
    this.#stop.abort();
    this.#running = undefined;
    if (!this.#closed) this.#stop = new AbortController();
  }

  #wait(): Waiter {
    const waiter: Waiter = withResolvers<ChannelModel>();
    if (this.#closed) waiter.reject(this.#closedError());
    else if (this.#model !== undefined) waiter.resolve(this.#model);
    else this.#waiting.push(waiter);
    return waiter;
  }

  async #run(): Promise<void> {
    const { urls, reconnect, clock, random, name } = this.#fields;
    const log = new OutageLog(this.#fields);
    let failures = 0;
    const stop = this.#stop.signal;
    for (let i = 0; !stop.aborted; i++) {
      const url = urls[i % urls.length]!;
      this.state.move({ value: 'connecting' });
      try {
        const { lost } = await this.#connectTo(url, stop);
        log.recovered(`${name}: connected`);
        failures = 0;
        this.#lastError = connectError(url, await lost);
      } catch (error) {
        this.#lastError = connectError(url, error);
        // After a first connection it is retried: a starting broker refuses logins until its users are
        // loaded.
        if (isAuthError(error) && !this.#hasConnected) this.#failWaiting(this.#lastError);
      }
      if (stop.aborted) return;
      failures++;
      const delayMs = backoffMs(failures, reconnect, random);
      log.failed(`${name}: ${this.#lastError.message}; retrying`);
      this.state.move({ value: 'backoff', attempt: failures, delayMs, error: this.#lastError });
      await sleep(clock, delayMs, stop);
    }
  }

  /** Resolves when connected. `lost` resolves with the cause when the connection ends. */
  async #connectTo(url: string, stop: AbortSignal): Promise<{ readonly lost: Promise<unknown> }> {
    const { socket, name } = this.#fields;
    const model = await connect(url, {
      ...socket,
      noDelay: true,
      timeout: handshakeTimeoutMs,
      clientProperties: { connection_name: name },
    });
    if (stop.aborted) {
      destroySocket(model);
      throw this.#closedError();
    }
    corkWrites(model);
    tolerateUndecodableHeaders(model);
    let cause: unknown = 'closed';
    const lost = new Promise<unknown>((resolve) => {
      // amqplib emits no close event after `destroySocket`.
      const stopped = (): void => resolve(cause);
      stop.addEventListener('abort', stopped, { once: true });
      model.on('error', (error) => {
        cause = error;
      });
      model.on('close', (error) => {
        stop.removeEventListener('abort', stopped);
        this.#model = undefined;
        // amqplib leaves the socket open after a heartbeat timeout.
        destroySocket(model);
        resolve(error ?? cause);
      });
    });
    model.on('blocked', (reason) => this.state.move({ value: 'blocked', reason }));
    model.on('unblocked', () => this.state.move({ value: 'ready' }));
    this.#model = model;
    this.#hasConnected = true;
    this.state.move({ value: 'ready' });
    this.#resolveWaiting(model);
    return { lost };
  }

  #resolveWaiting(model: ChannelModel): void {
    for (const waiter of this.#takeWaiting()) waiter.resolve(model);
  }

  #failWaiting(error: Error): void {
    for (const waiter of this.#takeWaiting()) waiter.reject(error);
  }

  #takeWaiting(): readonly Waiter[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`the connection ${this.#fields.name} is closed`);
  }
}
