import type { StorkClock } from './clock.js';
import { isThenable, withTimeout } from './with-timeout.js';

/** How long `onRetry` and `onDeadLetter` may take before nothing waits for them any more. */
const hookLimitMs = 5_000;

/**
 * Calls of the user's `onRetry` and `onDeadLetter`. A shutdown waits for them, so that it does not cut them
 * off.
 */
export class UserHooks {
  readonly #clock: StorkClock;
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();

  constructor(clock: StorkClock) {
    this.#clock = clock;
  }

  /**
   * Calls the hook. Resolves when it has ended or has taken too long; `onError` gets what it throws, or
   * rejects with.
   */
  run(hook: () => unknown, onError: (error: unknown) => void): Promise<void> {
    const timeoutError = (): Error => new Error(`it has not ended within ${hookLimitMs} ms`);
    const { signal } = this.#closing;
    // Nothing waits for a hook that is called after the shutdown.
    const limit = signal.aborted ? {} : { clock: this.#clock, limitMs: hookLimitMs, timeoutError, signal };
    const call = withTimeout(async () => void (await hook()), limit).catch(onError);
    this.#running.add(call);
    void call.then(() => this.#running.delete(call));
    return call;
  }

  /** Resolves when every hook that has been called has ended, or has taken too long. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Ends the waits for hooks that are still running: their timers would keep the process alive. */
  close(): void {
    this.#closing.abort(new Error('it had not ended when the application was shut down'));
  }
}

/**
 * For the answer of a user's function that must answer at once: the rejection of a promise must not end the
 * process.
 */
export function ignoreRejection(answer: unknown): void {
  if (isThenable(answer)) Promise.resolve(answer).catch(() => {});
}
