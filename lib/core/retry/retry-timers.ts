import type { StorkClock } from '../runtime/clock.js';
import type { Delivery } from '../port/delivery.js';

/**
 * Waits between attempts. All of them end when the transport shuts down; the wait of one delivery ends when
 * it is aborted.
 */
export class RetryTimers {
  readonly #clock: StorkClock;
  readonly #interrupts = new Set<() => void>();
  readonly #abandonListeners = new Set<() => void>();
  #isClosed = false;
  #isAbandoned = false;

  constructor(clock: StorkClock) {
    this.#clock = clock;
  }

  /** True once a shutdown has begun: no further attempt may start. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * Resolves with true when the delay has passed and `until` has resolved, with false when the wait was
   * interrupted.
   */
  wait(delayMs: number, delivery: Delivery, until?: Promise<void>): Promise<boolean> {
    if (this.#isClosed || delivery.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const end = (hasElapsed: boolean): void => {
        cancel();
        this.#interrupts.delete(interrupt);
        removeListener();
        resolve(hasElapsed);
      };
      const interrupt = (): void => end(false);
      const cancel = this.#clock.setTimer(delayMs, () => {
        if (until === undefined) end(true);
        else void until.then(() => end(true));
      });
      this.#interrupts.add(interrupt);
      const removeListener = delivery.onAbort(interrupt);
    });
  }

  /** Interrupts every wait; later waits end immediately. */
  close(): void {
    this.#isClosed = true;
    for (const interrupt of this.#interrupts) interrupt();
  }

  /**
   * Calls `listener` when a shutdown no longer waits for the aborted delivery, immediately if it does not.
   * The loss of the source alone does not call it: the handler still occupies its key here.
   *
   * @returns a function that removes the listener
   */
  onAbandoned(delivery: Delivery, listener: () => void): () => void {
    const removeListener = delivery.onAbort(() => {
      if (this.#isAbandoned) listener();
      else this.#abandonListeners.add(listener);
    });
    return () => {
      removeListener();
      this.#abandonListeners.delete(listener);
    };
  }

  /** Called when a shutdown no longer waits for handlers. */
  abandon(): void {
    this.#isAbandoned = true;
    for (const listener of this.#abandonListeners) listener();
  }
}
