import type { CancelTimer, StorkClock } from './clock.js';

/** When to stop waiting: a time limit, a signal, or both. */
export interface WaitLimit {
  /** Required with `limitMs`. */
  readonly clock?: StorkClock;
  readonly limitMs?: number;
  /** Creates the error for the time limit. @defaultValue an error that names the limit */
  readonly timeoutError?: () => Error;
  /** On abort, `withTimeout` rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * Settles like `work`, or rejects when the time limit passes or the signal aborts first. The work is not
 * cancelled: its late result or rejection is ignored. A function is called synchronously; an exception that
 * it throws becomes a rejection.
 */
export function withTimeout<T>(
  work: PromiseLike<T> | (() => T | PromiseLike<T>),
  { clock, limitMs, timeoutError, signal }: WaitLimit,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let cancelTimer: CancelTimer | undefined;
    const settle = (how: () => void): void => {
      cancelTimer?.();
      signal?.removeEventListener('abort', abort);
      how();
    };
    // In a microtask: work that settled before the abort has its reaction queued already and wins.
    const abort = (): void => queueMicrotask(() => settle(() => reject(signal!.reason)));
    Promise.resolve(typeof work === 'function' ? work() : work).then(
      (value) => settle(() => resolve(value)),
      (error: unknown) => settle(() => reject(error)),
    );
    if (signal?.aborted) abort();
    else signal?.addEventListener('abort', abort, { once: true });
    if (clock === undefined || limitMs === undefined) return;
    const newError = timeoutError ?? ((): Error => new Error(`no result within ${limitMs} ms`));
    cancelTimer = clock.setTimer(limitMs, () => settle(() => reject(newError())));
  });
}

/**
 * Resolves to true when `work` resolved in time, to false when `limitMs` passed first. `work` must not
 * reject.
 */
export async function settlesWithin(
  clock: StorkClock,
  work: Promise<unknown>,
  limitMs: number,
): Promise<boolean> {
  let cancel: CancelTimer = () => {};
  const timeout = new Promise<false>((resolve) => {
    cancel = clock.setTimer(limitMs, () => resolve(false));
  });
  try {
    return await Promise.race([work.then(() => true), timeout]);
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

/** Whether the value is a promise, also one that another library has created. */
export function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | undefined)?.then === 'function';
}

/** Like `then` of a promise. A value that is there already is passed on at once. */
export function andThen<T, U>(value: T | Promise<T>, next: (value: T) => U | Promise<U>): U | Promise<U> {
  return value instanceof Promise ? value.then(next) : next(value);
}
