import { backoffMs, sleep, type StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError, messageOf } from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import type { StorkTransport } from '../../core/stork-transport.js';

/** Between attempts that have failed; during an attempt the driver itself reconnects. */
const backoff = { delayMs: 1_000, maxDelayMs: 30_000 };

export interface TransportStartFields {
  readonly transport: StorkTransport;
  /** The transport's `required` option. */
  readonly isRequired: boolean;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
}

/** The start of one transport: `prepare`, then `consume` once the application has bootstrapped. */
export class TransportStart {
  readonly isRequired: boolean;
  readonly #fields: TransportStartFields;
  readonly #stopSignal = new AbortController();
  #isStarted = false;
  #inBackground: Promise<void> | undefined;
  #error: Error | undefined;

  constructor(fields: TransportStartFields) {
    this.isRequired = fields.isRequired;
    this.#fields = fields;
  }

  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** Why the last attempt in the background has failed. */
  get error(): Error | undefined {
    return this.#error;
  }

  async prepare(): Promise<void> {
    const { transport } = this.#fields;
    await transport.connect();
    await transport.declare();
  }

  async consume(): Promise<void> {
    await this.#fields.transport.consume();
    this.#isStarted = true;
    this.#error = undefined;
  }

  /**
   * Attempts the whole start until it succeeds or `stop` is called. A refusal by the broker is retried too:
   * an operator can grant a right or delete a queue while the application runs. Never rejects.
   */
  runInBackground(bootstrapped: Promise<void>): Promise<void> {
    return (this.#inBackground ??= this.#startUntilStopped(bootstrapped));
  }

  async #startUntilStopped(bootstrapped: Promise<void>): Promise<void> {
    const { transport, clock, logger } = this.#fields;
    const stop = this.#stopSignal.signal;
    for (let attempt = 1; !stop.aborted; attempt++) {
      try {
        await this.prepare();
        await bootstrapped;
        await this.consume();
        if (attempt > 1) logger.log(`${transport.name}: started, after ${attempt} attempts`);
        return;
      } catch (error) {
        if (stop.aborted) return;
        this.#report(error);
        await sleep(clock, backoffMs(attempt, backoff, Math.random), stop);
      }
    }
  }

  /** Ends an attempt to connect that is under way. */
  stopConnecting(): void {
    this.#fields.transport.stopConnecting();
  }

  /** Ends the attempts in the background; the transport's `close` ends the one under way. */
  stop(): void {
    this.#stopSignal.abort();
  }

  /** Logs once per cause, not once per attempt. */
  #report(error: unknown): void {
    const { transport, logger } = this.#fields;
    const isNew = messageOf(error) !== this.#error?.message;
    this.#error = error instanceof Error ? error : new Error(messageOf(error));
    if (!isNew) return;
    const line = `${transport.name}: not started, the application runs without it and retries: ${messageOf(error)}`;
    if (error instanceof ConnectionLostError) logger.warn(line);
    else logger.error(line);
  }
}
