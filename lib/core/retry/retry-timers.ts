import type { StorkClock } from '../runtime/clock.js';
import type { Delivery } from '../port/delivery.js';

/** Waits before further runs. All end at once when nothing may run any more, and that of a delivery when it is taken away. */
export class RetryTimers {
  readonly #clock: StorkClock;
  readonly #wakers = new Set<() => void>();
  #isOver = false;

  constructor(clock: StorkClock) {
    this.#clock = clock;
  }

  /** True once nothing may run any more but what runs. */
  get isClosed(): boolean {
    return this.#isOver;
  }

  /** True when the time has passed, false when the wait was cut short. */
  wait(delayMs: number, delivery: Delivery): Promise<boolean> {
    if (this.#isOver || delivery.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const end = (isWhole: boolean): void => {
        cancel();
        this.#wakers.delete(wake);
        forget();
        resolve(isWhole);
      };
      const wake = (): void => end(false);
      const cancel = this.#clock.setTimer(delayMs, () => end(true));
      this.#wakers.add(wake);
      const forget = delivery.onAbort(wake);
    });
  }

  /** What else has to know then, at once if it is so. @returns takes the listener away again */
  onClose(listener: () => void): () => void {
    if (this.#isOver) listener();
    else this.#wakers.add(listener);
    return () => void this.#wakers.delete(listener);
  }

  /** Ends every wait, those to come included. */
  close(): void {
    this.#isOver = true;
    for (const wake of this.#wakers) wake();
  }
}
