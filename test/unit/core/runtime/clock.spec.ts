import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { sleep, systemClock } from '../../../../lib/core/runtime/clock.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { noteWhenDone, settle } from '../harness.js';
import { newCountedSignal } from './counted-signal.js';

describe('sleep', () => {
  it('resolves when the time has passed', async () => {
    const clock = new VirtualClock();
    const note = noteWhenDone(sleep(clock, 1_000));
    await clock.advance(999);
    expect(note.done).toBe(false);
    await clock.advance(1);
    expect(note.done).toBe(true);
  });

  it('resolves at once on abort and leaves no timer and no listener', async () => {
    const clock = new VirtualClock();
    const { controller, signal, listeners } = newCountedSignal();
    const note = noteWhenDone(sleep(clock, 1_000, signal));
    expect([clock.pendingTimers, listeners()]).toEqual([1, 1]);
    controller.abort(new Error('never seen'));
    await settle();
    expect([note.done, clock.pendingTimers, listeners()]).toEqual([true, 0, 0]);
  });

  it('leaves no listener when the time has passed', async () => {
    const clock = new VirtualClock();
    const { signal, listeners } = newCountedSignal();
    void sleep(clock, 1_000, signal);
    await clock.advance(1_000);
    expect(listeners()).toBe(0);
  });

  it('sets no timer where the signal has already aborted', async () => {
    const clock = new VirtualClock();
    await sleep(clock, 1_000, AbortSignal.abort());
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('systemClock', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('returns the system time', () => {
    vi.setSystemTime(Date.UTC(2026, 0, 1));
    expect(systemClock.now()).toBe(Date.UTC(2026, 0, 1));
  });

  it('fires once, after the delay', () => {
    const fire = vi.fn<() => void>();
    systemClock.setTimer(1_000, fire);
    vi.advanceTimersByTime(999);
    expect(fire).not.toHaveBeenCalled();
    vi.advanceTimersByTime(10_000);
    expect(fire).toHaveBeenCalledTimes(1);
  });

  it.each([0, -5])('fires after %d ms in the next turn, never synchronously', (delayMs) => {
    const fire = vi.fn<() => void>();
    systemClock.setTimer(delayMs, fire);
    expect(fire).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(fire).toHaveBeenCalledTimes(1);
  });

  it('does not fire once it is cancelled; cancelling afterwards is harmless', () => {
    const fire = vi.fn<() => void>();
    const cancel = systemClock.setTimer(1_000, fire);
    cancel();
    vi.advanceTimersByTime(2_000);
    expect(fire).not.toHaveBeenCalled();
    cancel();
    const cancelLate = systemClock.setTimer(1, fire);
    vi.advanceTimersByTime(1);
    cancelLate();
    expect(fire).toHaveBeenCalledTimes(1);
  });

  const longMs = 60 * 24 * 3_600_000;

  it('waits longer than the maximum of `setTimeout`', () => {
    const fire = vi.fn<() => void>();
    systemClock.setTimer(longMs, fire);
    vi.advanceTimersByTime(longMs - 1);
    expect(fire).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(fire).toHaveBeenCalledTimes(1);
  });

  it('keeps the process alive while a timer is pending', () => {
    vi.useRealTimers();
    const timers = (): number =>
      process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
    const before = timers();
    const cancel = systemClock.setTimer(60_000, () => {});
    const pending = timers();
    cancel();
    expect([pending, timers()]).toEqual([before + 1, before]);
  });

  it('cancels a longer timer after its first part', () => {
    const fire = vi.fn<() => void>();
    const cancel = systemClock.setTimer(longMs, fire);
    vi.advanceTimersByTime(longMs / 2);
    cancel();
    expect(vi.getTimerCount()).toBe(0);
    vi.advanceTimersByTime(longMs);
    expect(fire).not.toHaveBeenCalled();
  });
});
