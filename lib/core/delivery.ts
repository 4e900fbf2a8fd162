import type { Copy, DeliveryMode, DeliverySource } from './driver.js';
import type { Epoch } from './epoch.js';
import type { InboundMessage } from './message.js';

export interface DeliveryFields {
  readonly message: InboundMessage;
  readonly epoch: Epoch;
  readonly lane: string | undefined;
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
  readonly epoch: Epoch;
  /** Deliveries of one lane run one after another, in order; `undefined` runs free. */
  readonly lane: string | undefined;
  readonly redelivered: boolean;
  /** The driver's own mark, e.g. a delivery tag or an offset. */
  readonly tag: number;
  readonly mode: DeliveryMode;
  /** Runs that ended here and of which its headers know nothing. */
  uncountedRuns = 0;
  readonly #source: DeliverySource;
  #state: 'open' | 'copying' | 'forgoing' | 'settled' = 'open';
  #isFinal = false;
  /** Copies that are confirmed: trying the others again must not repeat them. */
  #confirmed: Set<Copy> | undefined;
  #abort: AbortController | undefined;
  #aborted = false;
  #onAbort: Set<() => void> | undefined;

  constructor(fields: DeliveryFields) {
    this.message = fields.message;
    this.epoch = fields.epoch;
    this.lane = fields.lane;
    this.redelivered = fields.redelivered;
    this.tag = fields.tag;
    this.mode = fields.mode ?? 'at-least-once';
    this.#source = fields.source;
  }

  /** Whether it can still be settled, by whoever comes first. */
  get open(): boolean {
    return this.#state !== 'settled' && (this.#isFinal || this.epoch.live);
  }

  /** True once the message will not come again: it was forgone or acknowledged. Its epoch means nothing to it any more. */
  get isFinal(): boolean {
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
  async forgo(): Promise<boolean> {
    if (this.#state !== 'open' || !this.epoch.live || this.#aborted) return false;
    this.#state = 'forgoing';
    // A source that is lost may never answer.
    const aborted = new Promise<void>((resolve) => this.onAbort(resolve));
    try {
      await Promise.race([this.#source.forgo(this), aborted]);
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
  async ackAfter(copies: readonly Copy[]): Promise<boolean> {
    if (this.#state !== 'open' || !this.open) return false;
    this.#state = 'copying';
    const confirmed = (this.#confirmed ??= new Set());
    const missing = copies.filter((copy) => !confirmed.has(copy));
    const outcomes = await Promise.allSettled(
      missing.map(async (copy) => {
        await this.#source.copy(this, copy);
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
    return this.#isFinal || this.epoch.live;
  }
}
