import type { ChannelModel, ConfirmChannel } from 'amqplib';
import { backoffMs, type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers, withTimeout } from '../../core/runtime/with-timeout.js';
import { ConnectionStateCell } from '../../core/port/connection-state.js';
import {
  ClientClosedError,
  ConnectionLostError,
  messageOf,
  StorkConfigError,
} from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import type { Connection } from './connection.js';
import { replyCodeOf, replyCodes } from './errors.js';
import { OutageLog } from './outage-log.js';

/** amqplib's open and close of a channel never settle on a stalled link. */
const openTimeoutMs = 10_000;

/** Reply codes for which the first start fails at once: retrying does not help. */
const fatalAtBoot: ReadonlySet<number | undefined> = new Set([
  replyCodes.accessRefused,
  replyCodes.notFound,
  replyCodes.resourceLocked,
  replyCodes.preconditionFailed,
  replyCodes.notAllowed,
]);

function isFatalAtBoot(error: Error): boolean {
  return error instanceof StorkConfigError || fatalAtBoot.has(replyCodeOf(error));
}

export interface SupervisedChannelFields {
  readonly connection: Connection;
  /** For logs, e.g. `orders: consumer`. */
  readonly name: string;
  readonly reconnect: BackoffOptions;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  /** Declares and subscribes everything that the channel needs. Runs on every new channel. */
  setup(channel: ConfirmChannel): Promise<void>;
  /** Called synchronously when the channel becomes `current`. */
  up?(channel: ConfirmChannel): void;
  /** Called synchronously when the channel is closed: no ack or confirm is possible on it any more. */
  lost(error: Error): void;
}

/** A confirm channel that is reopened after a channel error and after a loss of its connection. */
export class SupervisedChannel {
  readonly #fields: SupervisedChannelFields;
  readonly #closing = new AbortController();
  /** Separate from the connection's state: RabbitMQ can close a channel on a healthy connection. */
  readonly state = new ConnectionStateCell();
  #current: ConfirmChannel | undefined;
  #running: Promise<void> | undefined;
  /** The last channel that was closed to be reopened, and why. */
  #restarted: { readonly channel: ConfirmChannel; readonly cause: Error } | undefined;
  readonly #log: OutageLog;
  readonly #started = withResolvers<void>();

  constructor(fields: SupervisedChannelFields) {
    this.#fields = fields;
    this.#log = new OutageLog(fields);
  }

  /** Undefined while the channel is closed or not set up. */
  get current(): ConfirmChannel | undefined {
    return this.#current;
  }

  /** Resolves after the first setup. Rejects on an error that is fatal at boot and on `close`. Idempotent. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return this.#started.promise;
  }

  /**
   * Closes the channel, which is then reopened.
   *
   * @param channel may still be in setup
   * @param cause for logs and the state
   */
  async restart(channel: ConfirmChannel, cause: Error): Promise<void> {
    this.#restarted = { channel, cause };
    await this.#closeQuietly(channel);
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    if (this.#running !== undefined) this.#started.reject(this.#closedError());
    await this.#closeQuietly(this.#current);
    await this.#running;
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`${this.#fields.name}: closed`);
  }

  async #run(): Promise<void> {
    const { connection, name, reconnect, clock, random } = this.#fields;
    let hasBeenUp = false;
    for (let failures = 0; !this.#closing.signal.aborted;) {
      // A shutdown does not wait for the broker.
      const model = await withTimeout(connection.ready(), { signal: this.#closing.signal }).catch(
        (error: Error) => {
          this.#started.reject(error);
          return undefined;
        },
      );
      if (model === undefined) return;
      const { error, wasUp } = await this.#runChannel(model);
      if (this.#closing.signal.aborted) return;
      hasBeenUp ||= wasUp;
      // After a first setup every error is retried: the broker may recover, or an operator may fix it.
      if (!hasBeenUp && isFatalAtBoot(error)) return this.#started.reject(error);
      failures = wasUp ? 1 : failures + 1;
      this.#log.failed(`${name}: the channel was closed and is reopened: ${messageOf(error)}`);
      const delayMs = backoffMs(failures, reconnect, random);
      this.state.move({ value: 'backoff', attempt: failures, delayMs, error });
      await sleep(clock, delayMs, this.#closing.signal);
    }
  }

  /** Opens one channel, sets it up and waits for its end. Never rejects. */
  async #runChannel(model: ChannelModel): Promise<{ error: Error; wasUp: boolean }> {
    let wasUp = false;
    let cause: Error = new ConnectionLostError(`${this.#fields.name}: the connection was lost`);
    try {
      const channel = await this.#openWithin(model);
      let isClosed = false;
      const noteCause = (error: Error): void => {
        cause = error;
      };
      // amqplib reports a connection error on the connection, a channel error on the channel, never on both.
      channel.on('error', noteCause);
      model.on('error', noteCause);
      const closed = new Promise<void>((resolve) => {
        // Runs before amqplib's own listener rejects the pending confirms: `lost` must be called first.
        channel.prependListener('close', () => {
          isClosed = true;
          if (this.#restarted?.channel === channel) cause = this.#restarted.cause;
          this.#restarted = undefined;
          this.#current = undefined;
          model.off('error', noteCause);
          this.#fields.lost(cause);
          resolve();
        });
      });
      await this.#setUp(channel, closed);
      if (!isClosed) {
        wasUp = true;
        this.#current = channel;
        this.state.move({ value: 'ready' });
        this.#log.recovered(`${this.#fields.name}: the channel is open again`);
        this.#fields.up?.(channel);
        this.#started.resolve();
      }
      await closed;
      return { error: cause, wasUp };
    } catch (error) {
      return { error: error instanceof Error ? error : cause, wasUp };
    }
  }

  async #setUp(channel: ConfirmChannel, closed: Promise<void>): Promise<void> {
    try {
      await Promise.race([this.#fields.setup(channel), closed]);
    } catch (error) {
      await this.#closeQuietly(channel);
      throw error;
    }
  }

  async #openWithin(model: ChannelModel): Promise<ConfirmChannel> {
    const opening = model.createConfirmChannel();
    if (
      await settlesWithin(
        this.#fields.clock,
        opening.catch(() => {}),
        openTimeoutMs,
      )
    )
      return opening;
    throw new ConnectionLostError(
      `${this.#fields.name}: the broker opened no channel within ${openTimeoutMs} ms`,
    );
  }

  /** With a time limit: `channel.close()` never settles on a cut link. */
  async #closeQuietly(channel: ConfirmChannel | undefined): Promise<void> {
    if (channel === undefined) return;
    // amqplib throws synchronously when the channel is already closed.
    const closed = Promise.resolve().then(() => channel.close());
    await settlesWithin(
      this.#fields.clock,
      closed.catch(() => {}),
      openTimeoutMs,
    );
  }
}
