import type { PublishCancellation } from '../port/publish-cancellation.js';

/** For the error of a message whose time is up while it waits. */
export const encodingHint = 'the codec of this or of an earlier message has not encoded it';

/**
 * Keeps messages in the order in which they were given to the client, although a codec may encode a later
 * one faster.
 */
export class EncodingOrder {
  /** Settles with the last message that is still being encoded. Never rejects. */
  #last: Promise<unknown> | undefined;

  /**
   * A message that is encoded at once, while no other one is being encoded, is passed on as it is. One that
   * is cancelled delays no other any more.
   */
  inOrder<T>(encoded: T | Promise<T>, cancellation: PublishCancellation): T | Promise<T> {
    const previous = this.#last;
    if (previous === undefined && !(encoded instanceof Promise)) return encoded;
    const cancelled = new Promise<void>((resolve) => {
      cancellation.withdraw = () => {
        resolve();
        return true;
      };
    });
    // Of both: a message that cannot be encoded must not let later ones overtake those before it.
    const settled: Promise<unknown> = Promise.allSettled([Promise.race([encoded, cancelled]), previous]).then(
      () => this.#forget(settled),
    );
    this.#last = settled;
    cancellation.isEncoding = true;
    return Promise.all([encoded, previous]).then(([message]) => {
      cancellation.isEncoding = false;
      return message;
    });
  }

  #forget(settled: Promise<unknown>): void {
    if (this.#last === settled) this.#last = undefined;
  }
}
