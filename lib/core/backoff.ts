/** How long to wait between tries. */
export interface BackoffOptions {
  /** Longest wait before the second try, in milliseconds. */
  readonly delayMs: number;
  /** What the wait grows to at most. */
  readonly maxDelayMs: number;
}

/** Full jitter over a doubling bound: clients that lost one broker together do not come back together. `attempt` counts from 1. */
export function backoffMs(attempt: number, options: BackoffOptions, random: () => number): number {
  const bound = Math.min(options.maxDelayMs, options.delayMs * 2 ** Math.min(attempt - 1, 30));
  return Math.ceil(bound * random());
}
