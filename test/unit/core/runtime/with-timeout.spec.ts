import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { settlesWithin, withResolvers, withTimeout } from '../../../../lib/core/runtime/with-timeout.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { newGate, noteWhenDone, settle } from '../harness.js';
import { newCountedSignal } from './counted-signal.js';

const aborted = new Error('aborted by the test');
const never = (): Promise<never> => new Promise(() => {});

let clock: VirtualClock;
let unhandled: unknown[];
const noteUnhandled = (error: unknown): void => void unhandled.push(error);

beforeEach(() => {
  clock = new VirtualClock();
  unhandled = [];
  process.on('unhandledRejection', noteUnhandled);
});

afterEach(async () => {
  // Node reports unhandled rejections after the microtasks of a turn.
  await new Promise((resolve) => setImmediate(resolve));
  process.off('unhandledRejection', noteUnhandled);
  expect(unhandled).toEqual([]);
});

describe('withTimeout', () => {
  describe('with a time limit', () => {
    it('resolves with the result of the work and cancels the timer', async () => {
      const work = withResolvers<string>();
      const result = withTimeout(work.promise, { clock, limitMs: 1_000 });
      expect(clock.pendingTimers).toBe(1);
      work.resolve('done');
      expect(await result).toBe('done');
      expect(clock.pendingTimers).toBe(0);
    });

    it('rejects with the error of the work and cancels the timer', async () => {
      const error = new Error('failed');
      await expect(withTimeout(Promise.reject(error), { clock, limitMs: 1_000 })).rejects.toBe(error);
      expect(clock.pendingTimers).toBe(0);
    });

    it('rejects when the limit passes, and not before', async () => {
      const result = withTimeout(never(), { clock, limitMs: 1_000 });
      const note = noteWhenDone(result.catch(() => {}));
      await clock.advance(999);
      expect(note.done).toBe(false);
      await clock.advance(1);
      await expect(result).rejects.toThrow('no result within 1000 ms');
      expect(clock.pendingTimers).toBe(0);
    });

    it('rejects with the given error, which is created only then', async () => {
      const error = new Error('late');
      const timeoutError = vi.fn<() => Error>(() => error);
      expect(await withTimeout(Promise.resolve(1), { clock, limitMs: 1_000, timeoutError })).toBe(1);
      expect(timeoutError).not.toHaveBeenCalled();
      const result = withTimeout(never(), { clock, limitMs: 1_000, timeoutError });
      const rejection = expect(result).rejects.toBe(error);
      await clock.advance(1_000);
      await rejection;
      expect(timeoutError).toHaveBeenCalledTimes(1);
    });

    it('ignores a result and a rejection that come late', async () => {
      const late = [withResolvers<number>(), withResolvers<number>()] as const;
      const results = late.map(({ promise }) => withTimeout(promise, { clock, limitMs: 1 }));
      const rejections = results.map((result) => expect(result).rejects.toThrow('no result'));
      await clock.advance(1);
      await Promise.all(rejections);
      late[0].resolve(1);
      late[1].reject(new Error('late'));
      await settle();
    });
  });

  describe('with a signal', () => {
    it('resolves with the result of the work and removes its listener', async () => {
      const { signal, listeners } = newCountedSignal();
      const work = withResolvers<string>();
      const result = withTimeout(work.promise, { signal });
      expect(listeners()).toBe(1);
      work.resolve('done');
      expect(await result).toBe('done');
      expect(listeners()).toBe(0);
    });

    it('rejects with the reason of an abort while the work is pending', async () => {
      const { controller, signal, listeners } = newCountedSignal();
      const result = withTimeout(never(), { signal });
      controller.abort(aborted);
      await expect(result).rejects.toBe(aborted);
      expect(listeners()).toBe(0);
    });

    it('rejects with the reason of a signal that was aborted before', async () => {
      const { controller, signal, listeners } = newCountedSignal();
      controller.abort(aborted);
      await expect(withTimeout(never(), { signal })).rejects.toBe(aborted);
      expect(listeners()).toBe(0);
    });

    it('calls the function even if the signal was aborted before', async () => {
      const work = vi.fn<() => Promise<number>>(never);
      await expect(withTimeout(work, { signal: AbortSignal.abort(aborted) })).rejects.toBe(aborted);
      expect(work).toHaveBeenCalledTimes(1);
    });

    it.each<[string, () => Promise<string>, string]>([
      ['a result', async () => 'done', 'done'],
      ['an error', () => Promise.reject(new Error('failed')), 'failed'],
    ])('prefers %s that was there already to an abort before', async (_, work, expected) => {
      const result = withTimeout(work(), { signal: AbortSignal.abort(aborted) });
      expect(await result.catch((error: Error) => error.message)).toBe(expected);
    });

    it('prefers a result that was there before an abort in the same turn', async () => {
      const controller = new AbortController();
      const work = withResolvers<string>();
      const result = withTimeout(work.promise, { signal: controller.signal });
      work.resolve('done');
      controller.abort(aborted);
      expect(await result).toBe('done');
    });

    it('prefers an abort to a result that came after it in the same turn', async () => {
      const controller = new AbortController();
      const work = withResolvers<string>();
      const result = withTimeout(work.promise, { signal: controller.signal });
      controller.abort(aborted);
      work.resolve('done');
      await expect(result).rejects.toBe(aborted);
    });

    it('ignores a rejection of the work after the abort', async () => {
      const controller = new AbortController();
      const work = withResolvers<string>();
      const result = withTimeout(work.promise, { signal: controller.signal });
      controller.abort(aborted);
      await expect(result).rejects.toBe(aborted);
      work.reject(new Error('late'));
      await settle();
    });
  });

  it.each<[string, (controller: AbortController, resolve: (value: number) => void) => Promise<unknown>]>([
    ['the work', async (_, resolve) => resolve(1)],
    ['the time limit', () => clock.advance(1_000)],
    ['the signal', async (controller) => controller.abort(aborted)],
  ])('leaves no timer and no listener when %s comes first', async (_, act) => {
    const { controller, signal, listeners } = newCountedSignal();
    const work = withResolvers<number>();
    const result = withTimeout(work.promise, { clock, limitMs: 1_000, signal }).catch(() => {});
    expect([clock.pendingTimers, listeners()]).toEqual([1, 1]);
    await act(controller, work.resolve);
    await result;
    expect([clock.pendingTimers, listeners()]).toEqual([0, 0]);
  });

  describe('of a function', () => {
    it('calls it synchronously', () => {
      const work = vi.fn<() => Promise<number>>(async () => 1);
      void withTimeout(work, { clock, limitMs: 1_000 });
      expect(work).toHaveBeenCalledTimes(1);
    });

    it('rejects with what the function throws, without a timer and a listener', async () => {
      const { signal, listeners } = newCountedSignal();
      const error = new Error('thrown');
      const result = withTimeout(
        () => {
          throw error;
        },
        { clock, limitMs: 1_000, signal },
      );
      expect([clock.pendingTimers, listeners()]).toEqual([0, 0]);
      await expect(result).rejects.toBe(error);
    });

    it('resolves with a value that is not a promise', async () => {
      expect(await withTimeout(() => 7, { clock, limitMs: 1_000 })).toBe(7);
      expect(clock.pendingTimers).toBe(0);
    });

    it('takes a thenable that calls back synchronously', async () => {
      const { signal, listeners } = newCountedSignal();
      // eslint-disable-next-line unicorn/no-thenable -- the function takes any thenable, so the test needs one
      const thenable = { then: (done: (value: number) => void) => done(7) } as unknown as PromiseLike<number>;
      expect(await withTimeout(thenable, { clock, limitMs: 1_000, signal })).toBe(7);
      expect([clock.pendingTimers, listeners()]).toEqual([0, 0]);
    });
  });
});

describe('settlesWithin', () => {
  it('is true when the work ends in time, and leaves no timer', async () => {
    const gate = newGate();
    const result = settlesWithin(clock, gate.promise, 1_000);
    await clock.advance(999);
    gate.open();
    expect(await result).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  });

  it('is false when the limit passes first', async () => {
    const result = settlesWithin(clock, never(), 1_000);
    await clock.advance(1_000);
    expect(await result).toBe(false);
    expect(clock.pendingTimers).toBe(0);
  });

  it('is true for work that has already ended, even with a limit of 0 ms', async () => {
    expect(await settlesWithin(clock, Promise.resolve(), 0)).toBe(true);
  });

  it('rejects with the error of the work, and leaves no timer', async () => {
    const error = new Error('failed');
    await expect(settlesWithin(clock, Promise.reject(error), 1_000)).rejects.toBe(error);
    expect(clock.pendingTimers).toBe(0);
  });
});
