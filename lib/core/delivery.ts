import type { Copy, DeliverySource } from './driver.js';
import type { Epoch } from './epoch.js';
import type { InboundMessage } from './message.js';

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
  readonly #source: DeliverySource;
  #state: 'open' | 'copying' | 'settled' = 'open';

  constructor(fields: DeliveryFields) {
    this.message = fields.message;
    this.epoch = fields.epoch;
    this.lane = fields.lane;
    this.redelivered = fields.redelivered;
    this.tag = fields.tag;
    this.#source = fields.source;
  }

  /** True until settled or lost: what a loop that tries to settle it looks at. */
  get open(): boolean {
    return this.#state !== 'settled' && this.epoch.live;
  }

  ack(): boolean {
    if (!this.#take()) return false;
    this.#source.ack(this);
    return true;
  }

  requeue(): boolean {
    if (!this.#take()) return false;
    this.#source.requeue(this);
    return true;
  }

  /**
   * Confirms every copy, then acknowledges. Rejects, and stays open, when a copy could not be confirmed. False: settled before, or
   * the epoch ended meanwhile: the copies exist and the message comes again.
   */
  async ackAfter(copies: readonly Copy[]): Promise<boolean> {
    if (this.#state !== 'open' || !this.epoch.live) return false;
    this.#state = 'copying';
    try {
      await this.#source.copy(this, copies);
    } finally {
      this.#state = 'open';
    }
    return this.ack();
  }

  #take(): boolean {
    if (this.#state !== 'open') return false;
    this.#state = 'settled';
    return this.epoch.live;
  }
}

export interface DeliveryFields {
  readonly message: InboundMessage;
  readonly epoch: Epoch;
  readonly lane: string | undefined;
  readonly redelivered: boolean;
  readonly tag: number;
  readonly source: DeliverySource;
}
