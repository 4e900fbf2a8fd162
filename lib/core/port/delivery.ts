import type { MessageHeaders } from '../message/headers.js';
import type { InboundMessage } from './message.js';

/**
 * When a message counts as done. `at-least-once`: when its handler has succeeded. `at-most-once`: before its handler runs. `manual`: when
 * the handler says so.
 */
export type DeliveryMode = 'at-least-once' | 'at-most-once' | 'manual';

/**
 * One unbroken spell of owning a source: from a channel's opening to its loss, from a partition's assignment to its revocation.
 * What was delivered in an epoch can only be settled in it.
 */
export class SourceSession {
  readonly #listeners = new Set<() => void>();
  #ended = false;

  /** False once the channel or the partition is gone. */
  get isActive(): boolean {
    return !this.#ended;
  }

  /** Calls `listener` when the epoch ends, at once if it has. */
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
 * The driver's side of a delivery: called by `Delivery`, at most one of `ack` and `requeue`, and only while its epoch lives. A driver ends
 * the epoch in the tick in which it learns of the loss; `ack` and `requeue` must not throw. After `forgo` only `copy` is called.
 */
export interface DeliverySource {
  ack(delivery: Delivery): void;
  /**
   * At most once: resolves when the message will not come again, whatever happens here; rejects, or never resolves, where the epoch ends
   * first. Neither `ack` nor `requeue` is called afterwards.
   */
  ackEarly(delivery: Delivery): Promise<void>;
  /** Gives the message back, to be delivered again at once, here or elsewhere. After `Subscription.stop()` to somebody else. */
  requeue(delivery: Delivery): void;
  /**
   * Publishes the copy to its companion and resolves when it is confirmed. Where the companion is gone it is declared again. Body bytes
   * unchanged. Headers are `copy.headers` but for those that the broker itself reads or writes; where it cannot carry them all, the
   * longest foreign ones are left out. A dead letter has no reply address.
   */
  republish(delivery: Delivery, copy: RepublishedMessage): Promise<void>;
}

/** A message to be kept elsewhere before its source is acknowledged. */
export type RepublishedMessage = DeadLetterMessage | Redelivery;

export interface DeadLetterMessage {
  readonly to: 'dead-letter';
  /** Complete: the message's own headers with ours written over them. */
  readonly headers: MessageHeaders;
  /** One of the subscription's `deadLetterTargets`; undefined: the source's companion. */
  readonly target?: string | undefined;
}

/** Comes back to the source, or to what the subscription reads beside it, and never early. A request keeps its reply address. */
export interface Redelivery {
  readonly to: 'redelivery';
  /** As `Driver.roundDelay` has given it. */
  readonly delayMs: number;
  readonly headers: MessageHeaders;
  /** It is for the run that was to come now, not for one after a failure. */
  readonly isDeferral?: boolean;
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
 * One attempt of the broker to hand us a message. It is settled exactly once: whoever comes second, or after the epoch has ended,
 * gets `false` and nothing happens.
 */
export class Delivery {
  readonly message: InboundMessage;
  readonly session: SourceSession;
  /** Deliveries of one lane run one after another, in order; `undefined` runs free. */
  readonly orderingKey: string | undefined;
  readonly redelivered: boolean;
  /** The driver's own mark, e.g. a delivery tag or an offset. */
  readonly tag: number;
  readonly mode: DeliveryMode;
  /** Runs that ended here and of which its headers know nothing. */
  uncountedAttempts = 0;
  readonly #source: DeliverySource;
  #state: 'open' | 'copying' | 'forgoing' | 'settled' = 'open';
  #isFinal = false;
  /** Copies that are confirmed: trying the others again must not repeat them. */
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

  /** Whether it can still be settled, by whoever comes first. */
  get open(): boolean {
    return this.#state !== 'settled' && (this.#isFinal || this.session.isActive);
  }

  /** True once the message will not come again: it was forgone or acknowledged. Its epoch means nothing to it any more. */
  get isEarlyAcked(): boolean {
    return this.#isFinal;
  }

  /** True once its outcome no longer counts: the epoch has ended, or the shutdown's patience has. */
  get aborted(): boolean {
    return this.#aborted;
  }

  /** Aborts together with the delivery. Made on first use: most handlers never ask. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#aborted) this.#abort.abort();
    return this.#abort.signal;
  }

  /** What else has to stop then, at once if it is aborted. @returns takes the listener away again */
  onAbort(listener: () => void): () => void {
    if (this.#aborted) listener();
    else (this.#onAbort ??= new Set()).add(listener);
    return () => void this.#onAbort?.delete(listener);
  }

  /** Tells whoever works on it that its outcome no longer counts. Settles nothing. */
  abort(): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#abort?.abort();
    for (const listener of this.#onAbort ?? []) listener();
  }

  ack(): boolean {
    if (!this.#take()) return false;
    if (!this.#isFinal) this.#source.ack(this);
    this.#isFinal = true;
    return true;
  }

  requeue(): boolean {
    if (this.#isFinal || !this.#take()) return false;
    this.#source.requeue(this);
    return true;
  }

  /**
   * Resolves to true when the message will not come again, whatever becomes of it here: from then on it is this process alone that has it.
   * False: it was settled before, or taken away meanwhile, and is nothing to us.
   */
  async ackEarly(): Promise<boolean> {
    if (this.#state !== 'open' || !this.session.isActive || this.#aborted) return false;
    this.#state = 'forgoing';
    // A source that is lost may never answer.
    const aborted = new Promise<void>((resolve) => this.onAbort(resolve));
    try {
      await Promise.race([this.#source.ackEarly(this), aborted]);
    } catch {
      return false;
    }
    if (this.#aborted) return false;
    this.#state = 'open';
    this.#isFinal = true;
    return true;
  }

  /**
   * Confirms every copy, then acknowledges. Rejects, and stays open, when a copy could not be confirmed; the next call tries those that
   * are missing. False: settled before, or the epoch ended meanwhile: the copies exist and the message comes again.
   */
  async republishThenAck(republished: readonly RepublishedMessage[]): Promise<boolean> {
    if (this.#state !== 'open' || !this.open) return false;
    this.#state = 'copying';
    const confirmed = (this.#confirmed ??= new Set());
    const missing = republished.filter((copy) => !confirmed.has(copy));
    const outcomes = await Promise.allSettled(
      missing.map(async (copy) => {
        await this.#source.republish(this, copy);
        confirmed.add(copy);
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
    return this.#isFinal || this.session.isActive;
  }
}
