import { encodingHint } from './encoding-order.js';
import { outageOf, type ConnectionStateCell } from '../port/connection-state.js';
import { PublishCancellation } from '../port/publish-cancellation.js';
import type { CancelTimer, StorkClock } from '../runtime/clock.js';
import { ClientClosedError, ConnectionLostError, PublishUnconfirmedError } from '../runtime/errors.js';

/** When to stop waiting for the broker's confirmation of one message. */
export interface PublishLimit {
  /** For error texts. */
  readonly pattern: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

class PendingPublish extends PublishCancellation {
  /** Set while it listens to the signal of its limit. */
  onAbort: (() => void) | undefined;

  constructor(
    readonly limit: PublishLimit,
    readonly dueAt: number,
    readonly reject: (error: unknown) => void,
  ) {
    super();
  }
}

export interface PendingPublishesFields {
  readonly transport: string;
  readonly state: ConnectionStateCell;
  readonly clock: StorkClock;
}

/** Publishes that the broker has not confirmed. They share one timer: most are confirmed before it fires. */
export class PendingPublishes {
  readonly #fields: PendingPublishesFields;
  readonly #pending = new Set<PendingPublish>();
  #timer: { readonly dueAt: number; readonly cancel: CancelTimer } | undefined;

  constructor(fields: PendingPublishesFields) {
    this.#fields = fields;
  }

  /**
   * Settles like `send`. Rejects when the time limit passes or the signal aborts first; the message is then
   * withdrawn unless it may have been written.
   */
  run(limit: PublishLimit, send: (cancellation: PublishCancellation) => Promise<void>): Promise<void> {
    const dueAt = this.#fields.clock.now() + limit.timeoutMs;
    return new Promise((resolve, reject) => {
      const pending = new PendingPublish(limit, dueAt, reject);
      this.#pending.add(pending);
      this.#arm(dueAt);
      if (limit.signal !== undefined) this.#follow(limit.signal, pending);
      send(pending).then(
        () => {
          this.#end(pending);
          resolve();
        },
        (error: unknown) => this.#fail(pending, error),
      );
    });
  }

  /** Rejects what is still pending, because nothing will be sent or confirmed any more. */
  close(): void {
    this.#disarm();
    for (const pending of this.#pending) {
      const what = `${this.#describe(pending)}: the transport was closed before`;
      const isUnsent = pending.cancel();
      const error = isUnsent
        ? new ClientClosedError(`${what} it was sent`)
        : new PublishUnconfirmedError(`${what} it was confirmed; the broker may have stored it`);
      this.#fail(pending, error);
    }
  }

  #follow(signal: AbortSignal, pending: PendingPublish): void {
    pending.onAbort = () => {
      pending.cancel();
      this.#fail(pending, signal.reason);
    };
    signal.addEventListener('abort', pending.onAbort, { once: true });
  }

  #fail(pending: PendingPublish, error: unknown): void {
    this.#end(pending);
    pending.reject(error);
  }

  #end(pending: PendingPublish): void {
    this.#pending.delete(pending);
    if (this.#pending.size === 0) this.#disarm();
    if (pending.onAbort !== undefined) pending.limit.signal?.removeEventListener('abort', pending.onAbort);
  }

  #arm(dueAt: number): void {
    if (this.#timer !== undefined && this.#timer.dueAt <= dueAt) return;
    this.#timer?.cancel();
    const { clock } = this.#fields;
    const cancel = clock.setTimer(dueAt - clock.now(), () => this.#sweep());
    this.#timer = { dueAt, cancel };
  }

  #disarm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #sweep(): void {
    this.#timer = undefined;
    const now = this.#fields.clock.now();
    let nextDueAt = Infinity;
    for (const pending of this.#pending) {
      if (pending.dueAt <= now) this.#fail(pending, this.#timeoutError(pending));
      else nextDueAt = Math.min(nextDueAt, pending.dueAt);
    }
    if (nextDueAt !== Infinity) this.#arm(nextDueAt);
  }

  #timeoutError(pending: PendingPublish): Error {
    const what = this.#describe(pending);
    const within = `within ${pending.limit.timeoutMs} ms`;
    if (!pending.cancel())
      return new PublishUnconfirmedError(
        `${what} was not confirmed ${within}; the broker may have stored it`,
      );
    const outage = pending.isEncoding ? encodingHint : outageOf(this.#fields.state.current);
    const why = outage === undefined ? '' : `: ${outage}`;
    return new ConnectionLostError(`${what} was not sent ${within}${why}`);
  }

  #describe({ limit }: PendingPublish): string {
    return `${this.#fields.transport}: the message with the pattern ${JSON.stringify(limit.pattern)}`;
  }
}
