/** Stops a timer that has not fired; harmless afterwards. */
export type CancelTimer = () => void;

/** Time as the library sees it, so that tests and the in-memory broker can run on a virtual one. */
export interface StorkClock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /**
   * Calls `fire` once, `delayMs` from now. A pending timer keeps the process alive: somebody waits for it.
   */
  setTimer(delayMs: number, fire: () => void): CancelTimer;
}

/** `setTimeout` fires at once for anything longer than this, 24.8 days. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

export const systemClock: StorkClock = {
  now: () => Date.now(),
  setTimer(delayMs, fire) {
    const dueAt = Date.now() + delayMs;
    let handle: NodeJS.Timeout;
    const arm = (remainingMs: number): void => {
      const step = Math.min(remainingMs, LONGEST_TIMEOUT_MS);
      handle = setTimeout(() => (step < remainingMs ? arm(dueAt - Date.now()) : fire()), Math.max(0, step));
    };
    arm(delayMs);
    return () => clearTimeout(handle);
  },
};

/**
 * Resolves after `delayMs`, or at once when `signal` aborts; it never rejects: the caller looks at the
 * signal.
 */
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

/** How long to wait between tries. */
export interface BackoffOptions {
  /** Longest wait before the second try, in milliseconds. */
  readonly delayMs: number;
  /** What the wait grows to at most. */
  readonly maxDelayMs: number;
}

/**
 * Full jitter over a doubling bound: clients that lost one broker together do not come back together.
 * `attempt` counts from 1.
 */
export function backoffMs(attempt: number, options: BackoffOptions, random: () => number): number {
  const bound = Math.min(options.maxDelayMs, options.delayMs * 2 ** Math.min(attempt - 1, 30));
  return Math.ceil(bound * random());
}
