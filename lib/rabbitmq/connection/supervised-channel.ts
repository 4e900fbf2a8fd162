import type { ChannelModel, ConfirmChannel } from 'amqplib';
import { backoffMs, type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import { ConnectionStateCell } from '../../core/port/connection-state.js';
import { ConnectionLostError, messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import type { Connection } from './connection.js';
import { replyCodeOf, replyCodes } from './errors.js';

/** Opening a channel on a stalled link never settles. */
const openTimeoutMs = 10_000;

/** What trying again cannot mend while the application starts. */
const definite: ReadonlySet<number | undefined> = new Set([
  replyCodes.accessRefused,
  replyCodes.notFound,
  replyCodes.resourceLocked,
  replyCodes.preconditionFailed,
  replyCodes.notAllowed,
]);

function isDefinite(error: Error): boolean {
  return error instanceof StorkConfigError || definite.has(replyCodeOf(error));
}

export interface SupervisedChannelFields {
  readonly connection: Connection;
  /** For logs, e.g. `orders: consumer`. */
  readonly name: string;
  readonly reconnect: BackoffOptions;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  /** Everything that the channel needs, from nothing: run whole after every loss. */
  setup(channel: ConfirmChannel): Promise<void>;
  /** Called in the tick in which the channel becomes `current`. */
  up?(channel: ConfirmChannel): void;
  /** Called in the very tick in which the channel is gone: nothing on it can be settled or confirmed any more. */
  lost(error: Error): void;
}

/** A confirm channel that comes back: after its own death, which the broker decides, and after its connection's. */
export class SupervisedChannel {
  readonly #fields: SupervisedChannelFields;
  readonly #closing = new AbortController();
  /** The channel's own, beside its connection's: a queue may be lost on a healthy link. */
  readonly state = new ConnectionStateCell();
  #current: ConfirmChannel | undefined;
  #running: Promise<void> | undefined;
  readonly #started = withResolvers<void>();

  constructor(fields: SupervisedChannelFields) {
    this.#fields = fields;
  }

  /** Undefined while it is away or not set up. */
  get current(): ConfirmChannel | undefined {
    return this.#current;
  }

  /** Resolves when it is set up for the first time; rejects where that can never be. A second call joins the first. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return this.#started.promise;
  }

  /** Breaks it on purpose: it comes back. @param channel perhaps not set up yet */
  async restart(channel: ConfirmChannel): Promise<void> {
    await this.#closeQuietly(channel);
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    await this.#closeQuietly(this.#current);
    await this.#running;
  }

  async #run(): Promise<void> {
    const { connection, name, reconnect, clock, random, logger } = this.#fields;
    let wasEverUp = false;
    for (let failures = 0; !this.#closing.signal.aborted;) {
      const model = await connection.ready().catch((error: Error) => {
        this.#started.reject(error);
        return undefined;
      });
      if (model === undefined) return;
      const { error, wasUp } = await this.#live(model);
      if (this.#closing.signal.aborted) return;
      wasEverUp ||= wasUp;
      // A start that can never succeed ends here; what has once been up is never given up.
      if (!wasEverUp && isDefinite(error)) return this.#started.reject(error);
      failures = wasUp ? 1 : failures + 1;
      if (failures === 1) logger.warn(`${name}: the channel was lost and comes back: ${messageOf(error)}`);
      const delayMs = backoffMs(failures, reconnect, random);
      this.state.move({ value: 'backoff', attempt: failures, delayMs, error });
      await sleep(clock, delayMs, this.#closing.signal);
    }
  }

  /** One channel, from its opening to its end. Never rejects. */
  async #live(model: ChannelModel): Promise<{ error: Error; wasUp: boolean }> {
    let wasUp = false;
    let cause: Error = new ConnectionLostError(`${this.#fields.name}: the connection was lost`);
    try {
      const channel = await this.#openWithin(model);
      let isGone = false;
      const explain = (error: Error): void => {
        cause = error;
      };
      // Of the two only one speaks: what breaks the connection is not told to its channels.
      channel.on('error', explain);
      model.on('error', explain);
      const gone = new Promise<void>((resolve) => {
        // Before the client's own listener, which fails the confirmations: their owner must know the cause by then.
        channel.prependListener('close', () => {
          isGone = true;
          this.#current = undefined;
          model.off('error', explain);
          this.#fields.lost(cause);
          resolve();
        });
      });
      await this.#setUp(channel, gone);
      if (!isGone) {
        wasUp = true;
        this.#current = channel;
        this.state.move({ value: 'ready' });
        this.#fields.up?.(channel);
        this.#started.resolve();
      }
      await gone;
      return { error: cause, wasUp };
    } catch (error) {
      return { error: error instanceof Error ? error : cause, wasUp };
    }
  }

  async #setUp(channel: ConfirmChannel, gone: Promise<void>): Promise<void> {
    try {
      await Promise.race([this.#fields.setup(channel), gone]);
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

  /** A close on a cut link never settles. */
  async #closeQuietly(channel: ConfirmChannel | undefined): Promise<void> {
    if (channel === undefined) return;
    // The client throws at once where the channel is gone already.
    const closed = Promise.resolve().then(() => channel.close());
    await settlesWithin(
      this.#fields.clock,
      closed.catch(() => {}),
      openTimeoutMs,
    );
  }
}
