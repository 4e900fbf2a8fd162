/** The ack methods of a channel. */
export interface AckSender {
  ack(deliveryTag: number, multiple: boolean): void;
  nack(deliveryTag: number): void;
}

/**
 * Batches acknowledgements. Acks of one turn that extend the contiguous range of settled deliveries are
 * sent as one frame with `multiple`, all others individually, so that a slow handler does not delay the
 * acks of other messages. Delivery tags of a channel count from 1.
 */
export class Acknowledger {
  readonly #sender: AckSender;
  /** Every delivery up to this tag is settled. */
  #floor = 0;
  /** Settled deliveries above the floor. */
  readonly #ahead = new Set<number>();
  /** Acked, and not sent yet. */
  #unsent: number[] = [];
  #scheduled: NodeJS.Immediate | undefined;

  constructor(sender: AckSender) {
    this.#sender = sender;
  }

  ack(tag: number): void {
    this.#ahead.add(tag);
    this.#unsent.push(tag);
    this.#scheduled ??= setImmediate(() => this.flush());
  }

  nack(tag: number): void {
    this.#ahead.add(tag);
    this.#sender.nack(tag);
  }

  /** Sends the pending acks now instead of at the end of the turn. */
  flush(): void {
    clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    if (this.#unsent.length === 0) return;
    while (this.#ahead.delete(this.#floor + 1)) this.#floor++;
    const unsent = this.#unsent;
    this.#unsent = [];
    let highest = 0;
    let folded = 0;
    for (const tag of unsent) {
      if (tag > this.#floor) {
        this.#sender.ack(tag, false);
        continue;
      }
      folded++;
      highest = Math.max(highest, tag);
    }
    if (folded > 0) this.#sender.ack(highest, folded > 1);
  }

  /** Drops the pending acks of a closed channel. */
  discard(): void {
    clearImmediate(this.#scheduled);
    this.#unsent = [];
  }
}
