import type { CancelTimer, StorkClock } from './clock.js';

/** When to stop waiting; at least one of `limitMs` and `signal`. */
export interface WaitLimit {
  /** Needed with `limitMs`. */
  readonly clock?: StorkClock;
  readonly limitMs?: number;
  /** What `withTimeout` rejects with when the limit passes. @defaultValue an error that says after how long */
  readonly timeoutError?: () => Error;
  /** `withTimeout` rejects with its reason when it aborts. */
  readonly signal?: AbortSignal;
}

/**
 * Settles as the work does, or rejects when the time limit passes or the signal aborts first. The work itself goes on; its result is
 * then ignored. A function is called at once; what it throws is a rejection.
 */
export function withTimeout<T>(
  work: PromiseLike<T> | (() => T | PromiseLike<T>),
  { clock, limitMs, timeoutError, signal }: WaitLimit,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let cancelTimer: CancelTimer | undefined;
    const abort = (): void => settle(() => reject(signal!.reason));
    const settle = (how: () => void): void => {
      cancelTimer?.();
      signal?.removeEventListener('abort', abort);
      how();
    };
    const late = (): Error => timeoutError?.() ?? new Error(`no result within ${limitMs} ms`);
    const started = typeof work === 'function' ? Promise.resolve(work()) : work;
    started.then(
      (value) => settle(() => resolve(value)),
      (error: unknown) => settle(() => reject(error)),
    );
    // A microtask later: work that has settled already takes precedence.
    if (signal?.aborted) queueMicrotask(abort);
    else signal?.addEventListener('abort', abort, { once: true });
    if (clock !== undefined && limitMs !== undefined) {
      cancelTimer = clock.setTimer(limitMs, () => settle(() => reject(late())));
    }
  });
}

/** True when `work` ended in time, false when `limitMs` passed first. `work` must not reject. */
export async function settlesWithin(
  clock: StorkClock,
  work: Promise<unknown>,
  limitMs: number,
): Promise<boolean> {
  let cancel: CancelTimer = () => {};
  const late = new Promise<false>((resolve) => {
    cancel = clock.setTimer(limitMs, () => resolve(false));
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    cancel();
  }
}

/** `Promise.withResolvers`, which Node 20 does not have. */
export function withResolvers<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
