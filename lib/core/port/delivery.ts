import type { MessageHeaders } from '../message/headers.js';
import type { InboundMessage } from './message.js';

/**
 * When a message is acknowledged. `at-least-once`: after its handler has succeeded. `at-most-once`: before
 * its handler starts. `manual`: when the handler calls `ack` or `nack`.
 */
export type DeliveryMode = 'at-least-once' | 'at-most-once' | 'manual';

/**
 * One uninterrupted period in which this consumer owns a source: a channel from opening to loss, or a
 * partition assignment from assignment to revocation. A message can be settled only in the session that
 * delivered it: delivery tags and offsets of a lost channel or partition assignment have no meaning in the
 * next one.
 */
export class SourceSession {
  readonly #listeners = new Set<() => void>();
  #ended = false;

  /** False once the channel or partition assignment is lost. */
  get isActive(): boolean {
    return !this.#ended;
  }

  /** Calls `listener` when the session ends, immediately if it has ended. */
  onEnd(listener: () => void): void {
    if (this.#ended) return listener();
    this.#listeners.add(listener);
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const listener of this.#listeners) listener();
    this.#listeners.clear();
  }
}

/**
 * How a driver settles its deliveries. `Delivery` makes the calls: at most one of `ack` and `requeue` per
 * message, and only while the session is active. A driver must end the session in the same tick in which it
 * detects the loss. `ack` and `requeue` must not throw. After `ackEarly` only `republish` is called.
 */
export interface DeliverySource {
  ack(delivery: Delivery): void;
  /**
   * Acknowledges before the handler starts (`at-most-once`). Resolves when the broker will not redeliver
   * the message, even if this process crashes. Rejects, or stays pending, if the session ends first. Called
   * at most once per delivery.
   */
  ackEarly(delivery: Delivery): Promise<void>;
  /**
   * Returns the message to the broker for immediate redelivery, to this consumer or to another. After
   * `Subscription.stop` it must go to another consumer.
   */
  requeue(delivery: Delivery): void;
  /**
   * Publishes the message to its dead letter or retry destination and resolves when the broker has
   * confirmed it. Declares a missing destination again. The body stays byte for byte the same. The headers
   * are `republished.headers`, except those that the broker itself interprets; if they do not all fit,
   * headers of other libraries are dropped. A dead letter carries no reply address, because its
   * request has already failed.
   */
  republish(delivery: Delivery, republished: RepublishedMessage): Promise<void>;
}

/** A message that is published to another destination before its delivery is acknowledged. */
export type RepublishedMessage = DeadLetterMessage | Redelivery;

export interface DeadLetterMessage {
  readonly to: 'dead-letter';
  /** All headers: those of the message, overwritten by the `stork-*` headers of the failure. */
  readonly headers: MessageHeaders;
  /**
   * One of the subscription's `deadLetterTargets`. @defaultValue the dead letter queue or topic of the
   * source
   */
  readonly target?: string | undefined;
}

/**
 * A message that returns to the subscription after a delay, through its source or through a retry
 * destination that the subscription reads too. It never returns early. A request keeps its reply address.
 */
export interface Redelivery {
  readonly to: 'redelivery';
  /** A delay that `Driver.roundDelay` has returned, the subscription's `unhandledDelayMs`, or 0. */
  readonly delayMs: number;
  readonly headers: MessageHeaders;
  /**
   * True if the handler has not run, e.g. because another consumer processes the same key: no attempt is
   * counted.
   */
  readonly isDeferral?: boolean;
  /**
   * True if this process has no handler for the message, so that another consumer should receive it. One
   * consumer owns a partition of a log, so a log appends the message to another partition than its own.
   */
  readonly isForOtherConsumer?: boolean;
}

export interface DeliveryFields {
  readonly message: InboundMessage;
  readonly session: SourceSession;
  readonly orderingKey: string | undefined;
  readonly redelivered: boolean;
  readonly tag: number;
  readonly source: DeliverySource;
  /** @defaultValue 'at-least-once' */
  readonly mode?: DeliveryMode;
}

/**
 * One delivery of a message by the broker. It is settled exactly once: a settlement that comes second, or
 * after the session has ended, returns false and has no effect.
 */
export class Delivery {
  readonly message: InboundMessage;
  readonly session: SourceSession;
  /** Deliveries with the same key are processed one after another, in order. Undefined: no order. */
  readonly orderingKey: string | undefined;
  readonly redelivered: boolean;
  /** The driver's identifier of the delivery, e.g. a delivery tag or an offset. */
  readonly tag: number;
  readonly mode: DeliveryMode;
  /** How often its handlers have requeued the message without a redelivery by the broker. */
  requeuesInProcess = 0;
  readonly #source: DeliverySource;
  #state: 'open' | 'republishing' | 'acking' | 'settled' = 'open';
  #isAcked = false;
  /** Confirmed messages; a repeated `republishThenAck` does not publish them again. */
  #confirmed: Set<RepublishedMessage> | undefined;
  #abort: AbortController | undefined;
  #aborted = false;
  #onAbort: Set<() => void> | undefined;

  constructor(fields: DeliveryFields) {
    this.message = fields.message;
    this.session = fields.session;
    this.orderingKey = fields.orderingKey;
    this.redelivered = fields.redelivered;
    this.tag = fields.tag;
    this.mode = fields.mode ?? 'at-least-once';
    this.#source = fields.source;
  }

  /** True while the delivery can still be settled. */
  get open(): boolean {
    return this.#state !== 'settled' && (this.#isAcked || this.session.isActive);
  }

  /**
   * True once the broker will not redeliver the message, because it was acknowledged, early or at its end.
   * From then on the end of the session does not affect it.
   */
  get isEarlyAcked(): boolean {
    return this.#isAcked;
  }

  /**
   * True once the outcome of the message is ignored: the session has ended or the shutdown deadline has
   * passed.
   */
  get aborted(): boolean {
    return this.#aborted;
  }

  /** True if the broker redelivers the message, so that its outcome here is ignored. */
  get isLost(): boolean {
    return this.#aborted && !this.#isAcked;
  }

  /** Aborts together with the delivery. Created on first use, because most handlers do not read it. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#aborted) this.#abort.abort();
    return this.#abort.signal;
  }

  /**
   * Calls `listener` when the delivery is aborted, immediately if it has been.
   *
   * @returns a function that removes the listener
   */
  onAbort(listener: () => void): () => void {
    if (this.#aborted) listener();
    else (this.#onAbort ??= new Set()).add(listener);
    return () => void this.#onAbort?.delete(listener);
  }

  /** Marks the outcome as ignored and calls the `onAbort` listeners. Does not settle the message. */
  abort(): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#abort?.abort();
    for (const listener of this.#onAbort ?? []) listener();
  }

  ack(): boolean {
    if (!this.#take()) return false;
    if (!this.#isAcked) this.#source.ack(this);
    this.#isAcked = true;
    return true;
  }

  requeue(): boolean {
    if (this.#isAcked || !this.#take()) return false;
    this.#source.requeue(this);
    return true;
  }

  /**
   * Acknowledges before the handler starts. Resolves with true when the broker will not redeliver the
   * message: from then on it exists only in this process. Resolves with false if the message was settled or
   * its source was lost first; the handler must not start.
   */
  async ackEarly(): Promise<boolean> {
    if (this.#state !== 'open' || !this.session.isActive || this.#aborted) return false;
    this.#state = 'acking';
    // If the source is lost, its `ackEarly` may never settle.
    const aborted = new Promise<void>((resolve) => this.onAbort(resolve));
    try {
      await Promise.race([this.#source.ackEarly(this), aborted]);
    } catch {
      return false;
    }
    if (this.#aborted) return false;
    this.#state = 'open';
    this.#isAcked = true;
    return true;
  }

  /**
   * Republishes every message and acknowledges the delivery when all are confirmed. Rejects, and leaves the
   * delivery open, when a publish fails; the next call publishes only what is still unconfirmed. Resolves
   * with false if the delivery was settled before, or if the session ended meanwhile: the messages are
   * published, and the broker redelivers the original too.
   */
  async republishThenAck(messages: readonly RepublishedMessage[]): Promise<boolean> {
    if (this.#state !== 'open' || !this.open) return false;
    this.#state = 'republishing';
    const confirmed = (this.#confirmed ??= new Set());
    const unconfirmed = messages.filter((message) => !confirmed.has(message));
    const outcomes = await Promise.allSettled(
      unconfirmed.map(async (message) => {
        await this.#source.republish(this, message);
        confirmed.add(message);
      }),
    );
    this.#state = 'open';
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return this.ack();
  }

  #take(): boolean {
    if (this.#state !== 'open') return false;
    this.#state = 'settled';
    return this.#isAcked || this.session.isActive;
  }
}
