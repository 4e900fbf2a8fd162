/** Cancels a timer that has not fired. No effect afterwards. */
export type CancelTimer = () => void;

/** The library's source of time, so that tests and the in-memory broker can use a virtual clock. */
export interface StorkClock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /**
   * Calls `fire` once, after `delayMs`. A pending timer keeps the process alive, because an operation waits
   * for it.
   */
  setTimer(delayMs: number, fire: () => void): CancelTimer;
}

/** Maximum delay of `setTimeout`, 24.8 days; it fires a longer timer at once. */
const maxTimeoutMs = 2 ** 31 - 1;

export const systemClock: StorkClock = {
  now: () => Date.now(),
  setTimer(delayMs, fire) {
    const dueAt = Date.now() + delayMs;
    let handle: NodeJS.Timeout;
    const arm = (remainingMs: number): void => {
      const step = Math.min(remainingMs, maxTimeoutMs);
      handle = setTimeout(() => (step < remainingMs ? arm(dueAt - Date.now()) : fire()), Math.max(0, step));
    };
    arm(delayMs);
    return () => clearTimeout(handle);
  },
};

/** Resolves after `delayMs`, or when `signal` aborts. Never rejects: the caller checks the signal. */
export function sleep(clock: StorkClock, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const wake = (): void => {
      cancel();
      signal?.removeEventListener('abort', wake);
      resolve();
    };
    const cancel = clock.setTimer(delayMs, wake);
    signal?.addEventListener('abort', wake, { once: true });
  });
}

/** Exponential back-off. */
export interface BackoffOptions {
  /** Upper bound of the wait before the second try, in milliseconds. It doubles with each try. */
  readonly delayMs: number;
  /** Maximum of the upper bound, in milliseconds. */
  readonly maxDelayMs: number;
}

/**
 * Full jitter below a doubling bound, so that clients that lost the same broker do not reconnect at the
 * same time. `attempt` counts from 1.
 */
export function backoffMs(attempt: number, options: BackoffOptions, random: () => number): number {
  const bound = Math.min(options.maxDelayMs, options.delayMs * 2 ** Math.min(attempt - 1, 30));
  return Math.ceil(bound * random());
}
