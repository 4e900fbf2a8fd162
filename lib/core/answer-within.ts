import type { CancelTimer, Clock } from './clock.js';

/** What `ask` resolves or rejects with, or `tooLate()` where that takes longer than `limitMs`. What then still comes is dropped. */
export async function answerWithin<T>(
  clock: Clock,
  ask: () => Promise<T>,
  limitMs: number,
  tooLate: () => Error,
): Promise<T> {
  let cancel: CancelTimer = () => {};
  const late = new Promise<never>((_, reject) => {
    cancel = clock.setTimer(limitMs, () => reject(tooLate()));
  });
  try {
    return await Promise.race([ask(), late]);
  } finally {
    cancel();
  }
}
