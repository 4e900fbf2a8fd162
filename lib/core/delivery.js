/**
 * One attempt of the broker to hand us a message. It is settled exactly once: whoever comes second, or after the epoch has ended,
 * gets `false` and nothing happens.
 */
export class Delivery {
  message;
  epoch;
  /** Deliveries of one lane run one after another, in order; `undefined` runs free. */
  lane;
  redelivered;
  /** The driver's own mark, e.g. a delivery tag or an offset. */
  tag;
  mode;
  #source;
  #state = 'open';
  #isFinal = false;
  /** Copies that are confirmed: trying the others again must not repeat them. */
  #confirmed;
  #abort;
  #aborted = false;
  #onAbort;
  constructor(fields) {
    this.message = fields.message;
    this.epoch = fields.epoch;
    this.lane = fields.lane;
    this.redelivered = fields.redelivered;
    this.tag = fields.tag;
    this.mode = fields.mode ?? 'at-least-once';
    this.#source = fields.source;
  }
  /** Whether it can still be settled, by whoever comes first. */
  get open() {
    return this.#state !== 'settled' && (this.#isFinal || this.epoch.live);
  }
  /** True once the message will not come again: it was forgone or acknowledged. Its epoch means nothing to it any more. */
  get isFinal() {
    return this.#isFinal;
  }
  /** True once its outcome no longer counts: the epoch has ended, or the shutdown's patience has. */
  get aborted() {
    return this.#aborted;
  }
  /** Aborts together with the delivery. Made on first use: most handlers never ask. */
  get signal() {
    this.#abort ??= new AbortController();
    if (this.#aborted) this.#abort.abort();
    return this.#abort.signal;
  }
  /** What else has to stop then, at once if it is aborted. */
  onAbort(listener) {
    if (this.#aborted) listener();
    else (this.#onAbort ??= []).push(listener);
  }
  /** Tells whoever works on it that its outcome no longer counts. Settles nothing. */
  abort() {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#abort?.abort();
    for (const listener of this.#onAbort ?? []) listener();
  }
  ack() {
    if (!this.#take()) return false;
    if (!this.#isFinal) this.#source.ack(this);
    this.#isFinal = true;
    return true;
  }
  requeue() {
    if (this.#isFinal || !this.#take()) return false;
    this.#source.requeue(this);
    return true;
  }
  /**
   * Resolves to true when the message will not come again, whatever becomes of it here: from then on it is this process alone that has it.
   * False: it was settled before, or taken away meanwhile, and is nothing to us.
   */
  async forgo() {
    if (this.#state !== 'open' || !this.epoch.live || this.#aborted) return false;
    this.#state = 'forgoing';
    // A source that is lost may never answer.
    const aborted = new Promise((resolve) => this.onAbort(resolve));
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
  async ackAfter(copies) {
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
  #take() {
    if (this.#state !== 'open') return false;
    this.#state = 'settled';
    return this.#isFinal || this.epoch.live;
  }
}
