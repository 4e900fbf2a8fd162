import type { Clock } from './clock.js';

/** What `ask` resolves or rejects with, or `tooLate()` where that takes longer than `limitMs`. What then still comes is dropped. */
export function answerWithin<T>(
  clock: Clock,
  ask: () => Promise<T>,
  limitMs: number,
  tooLate: () => Error,
): Promise<T> {
  return new Promise((resolve, reject) => {
    // A store of somebody's may answer without a promise.
    const asked = Promise.resolve(ask());
    const cancel = clock.setTimer(limitMs, () => reject(tooLate()));
    const answered = (answer: T): void => {
      cancel();
      resolve(answer);
    };
    const failed = (error: unknown): void => {
      cancel();
      reject(error);
    };
    asked.then(answered, failed);
  });
}
