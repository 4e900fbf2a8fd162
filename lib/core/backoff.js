/** Full jitter over a doubling bound: clients that lost one broker together do not come back together. `attempt` counts from 1. */
export function backoffMs(attempt, options, random) {
  const bound = Math.min(options.maxDelayMs, options.delayMs * 2 ** Math.min(attempt - 1, 30));
  return Math.ceil(bound * random());
}
