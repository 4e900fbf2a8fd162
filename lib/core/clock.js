/** `setTimeout` fires at once for anything longer than this, 24.8 days. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;
export const systemClock = {
  now: () => Date.now(),
  setTimer(delayMs, fire) {
    const dueAt = Date.now() + delayMs;
    let handle;
    const arm = (remainingMs) => {
      const step = Math.min(remainingMs, LONGEST_TIMEOUT_MS);
      handle = setTimeout(() => (step < remainingMs ? arm(dueAt - Date.now()) : fire()), Math.max(0, step));
    };
    arm(delayMs);
    return () => clearTimeout(handle);
  },
};
/** Resolves after `delayMs`, or at once when `signal` aborts; it never rejects: the caller looks at the signal. */
export function sleep(clock, delayMs, signal) {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const wake = () => {
      cancel();
      signal?.removeEventListener('abort', wake);
      resolve();
    };
    const cancel = clock.setTimer(delayMs, wake);
    signal?.addEventListener('abort', wake, { once: true });
  });
}
/** True when `work` ended in time, false when `limitMs` passed first. `work` must not reject. */
export async function endsWithin(clock, work, limitMs) {
  let cancel = () => {};
  const late = new Promise((resolve) => {
    cancel = clock.setTimer(limitMs, () => resolve(false));
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    cancel();
  }
}
