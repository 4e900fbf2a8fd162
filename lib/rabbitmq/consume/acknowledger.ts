/** What a channel can say of deliveries. */
export interface AckSender {
  ack(deliveryTag: number, multiple: boolean): void;
  nack(deliveryTag: number): void;
}

/**
 * Folds acknowledgements: those of one turn that close the row from the first unsettled delivery leave as one frame with `multiple`,
 * the others each by itself, so that no slow handler holds back what is done. Tags of a channel count from 1.
 */
export class Acknowledger {
  readonly #sender: AckSender;
  /** Every delivery up to here is settled. */
  #floor = 0;
  /** Settled above the floor. */
  readonly #ahead = new Set<number>();
  /** Settled by an acknowledgement that has not left. */
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

  /** Sends what has not left, at once. */
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

  /** Forgets what has not left: the channel is gone. */
  discard(): void {
    clearImmediate(this.#scheduled);
    this.#unsent = [];
  }
}
