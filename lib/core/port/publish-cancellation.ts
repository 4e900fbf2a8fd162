/**
 * Ends one publish before the broker has confirmed it: its time limit has passed, its caller has aborted it,
 * or its request has failed. A driver must not send a cancelled message.
 */
export class PublishCancellation {
  #isCancelled = false;
  /** True while an asynchronous codec encodes the message or one that was published before it. */
  isEncoding = false;
  /**
   * Set by the driver when it accepts the message. Removes the message from the driver's buffer and returns
   * true. Returns false, and changes nothing, if the message may have been written. Must not throw.
   */
  withdraw: (() => boolean) | undefined;

  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** Returns true if the message was not written; then it never will be. */
  cancel(): boolean {
    this.#isCancelled = true;
    return this.withdraw === undefined || this.withdraw();
  }
}
