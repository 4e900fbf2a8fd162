import { connect, type ChannelModel, type SocketOptions } from 'amqplib';
import { backoffMs, type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import { ConnectionStateCell } from '../../core/port/connection-state.js';
import { ClientClosedError } from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import { connectError, isRefusal } from './errors.js';
import { destroySocket, writeTogether } from './socket.js';

/** amqplib has no limit of its own on the handshake. */
const handshakeTimeoutMs = 10_000;

export interface ConnectionFields {
  /** Tried in turn. */
  readonly urls: readonly string[];
  /** Shown to operators, e.g. `shop/orders/consume`. */
  readonly name: string;
  readonly socket: SocketOptions;
  readonly reconnect: BackoffOptions;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
}

type Waiter = ReturnType<typeof withResolvers<ChannelModel>>;

/**
 * One connection that comes back: amqplib's own recovery stays off, because it restores no channel, settles on dead ones and waits
 * without limit. Every loss, whatever its cause, destroys the socket and begins again with the next address.
 */
export class Connection {
  readonly state = new ConnectionStateCell();
  readonly #fields: ConnectionFields;
  #closed = false;
  /** Ends the trying: for good, or because nobody waits for a first success any more. */
  #stop = new AbortController();
  #model: ChannelModel | undefined;
  #running: Promise<void> | undefined;
  #waiting: Waiter[] = [];
  #lastError: Error | undefined;
  #wasUp = false;

  constructor(fields: ConnectionFields) {
    this.#fields = fields;
  }

  /**
   * Begins to connect, if it has not begun. Rejects when `signal` aborts first, with what went wrong last, and at once where waiting
   * cannot help; the trying goes on only after a first success.
   */
  async open(signal: AbortSignal): Promise<void> {
    this.#running ??= this.#run();
    const waiter = this.#wait();
    const giveUp = (): void =>
      waiter.reject(this.#lastError ?? connectError(this.#fields.urls[0]!, signal.reason));
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      await waiter.promise;
    } catch (error) {
      this.#endTrying();
      throw error;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  /** The connection once it is up; rejects when it is closed for good. */
  ready(): Promise<ChannelModel> {
    if (this.#model !== undefined) return Promise.resolve(this.#model);
    return this.#wait().promise;
  }

  /** Ends it for good, within `limitMs`: a close on a stalled link never settles. */
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
    // A handshake that nobody answers takes longer than a shutdown may.
    if (this.#running !== undefined) await settlesWithin(this.#fields.clock, this.#running, limitMs);
    this.state.move({ value: 'closed' });
  }

  /** A start that has failed leaves nothing behind; `open` may be called again. */
  #endTrying(): void {
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
    const { urls, reconnect, clock, random, logger, name } = this.#fields;
    let failures = 0;
    const stop = this.#stop.signal;
    for (let i = 0; !stop.aborted; i++) {
      const url = urls[i % urls.length]!;
      this.state.move({ value: 'connecting' });
      try {
        const { lost } = await this.#connectTo(url, stop);
        if (failures > 0) logger.log(`${name}: connected`);
        failures = 0;
        this.#lastError = connectError(url, await lost);
      } catch (error) {
        this.#lastError = connectError(url, error);
        // Later it may be a broker that has not loaded its users yet: then only waiting helps.
        if (isRefusal(error) && !this.#wasUp) this.#failWaiting(this.#lastError);
      }
      if (stop.aborted) return;
      failures++;
      const delayMs = backoffMs(failures, reconnect, random);
      // Once for a trouble, not once for each try.
      if (failures === 1) logger.warn(`${name}: ${this.#lastError.message}; trying again`);
      this.state.move({ value: 'backoff', attempt: failures, delayMs, error: this.#lastError });
      await sleep(clock, delayMs, stop);
    }
  }

  /** Resolves once it is up, with a promise of its end. */
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
    writeTogether(model);
    let cause: unknown = 'closed';
    const lost = new Promise<unknown>((resolve) => {
      // A socket that we destroy ourselves tells nobody.
      const stopped = (): void => resolve(cause);
      stop.addEventListener('abort', stopped, { once: true });
      model.on('error', (error) => {
        cause = error;
      });
      model.on('close', (error) => {
        stop.removeEventListener('abort', stopped);
        this.#model = undefined;
        // After a heartbeat time-out amqplib leaves the socket open.
        destroySocket(model);
        resolve(error ?? cause);
      });
    });
    model.on('blocked', (reason) => this.state.move({ value: 'blocked', reason }));
    model.on('unblocked', () => this.state.move({ value: 'ready' }));
    this.#model = model;
    this.#wasUp = true;
    this.state.move({ value: 'ready' });
    this.#tellWaiting(model);
    return { lost };
  }

  #tellWaiting(model: ChannelModel): void {
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
