import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';

describe('VirtualClock', () => {
  it('stands still until it is advanced', async () => {
    const clock = new VirtualClock(1_000);
    expect(clock.now()).toBe(1_000);
    await clock.advance(250);
    expect(clock.now()).toBe(1_250);
  });

  it('fires due timers in order of time, ties in order of creation, each at its own time', async () => {
    const clock = new VirtualClock(0);
    const fired: string[] = [];
    const note = (name: string) => () => void fired.push(`${name}@${clock.now()}`);
    clock.setTimer(30, note('c'));
    clock.setTimer(10, note('a'));
    clock.setTimer(30, note('d'));
    clock.setTimer(20, note('b'));
    clock.setTimer(31, note('e'));
    await clock.advance(30);
    expect(fired).toEqual(['a@10', 'b@20', 'c@30', 'd@30']);
    expect(clock.pendingTimers).toBe(1);
  });

  it('lets a handler that a timer started set further timers inside the window', async () => {
    const clock = new VirtualClock(0);
    const fired: number[] = [];
    clock.setTimer(10, () => {
      void (async () => {
        for (let i = 0; i < 20; i++) await Promise.resolve();
        await new Promise(setImmediate);
        clock.setTimer(5, () => void fired.push(clock.now()));
      })();
    });
    clock.setTimer(100, () => void fired.push(clock.now()));
    await clock.advance(100);
    expect(fired).toEqual([15, 100]);
  });

  it('fires a timer that work begun before the advance is about to set', async () => {
    const clock = new VirtualClock(0);
    let firedAt = -1;
    void Promise.resolve().then(() => clock.setTimer(7, () => (firedAt = clock.now())));
    await clock.advance(10);
    expect(firedAt).toBe(7);
  });

  it('does not fire a cancelled timer, also one cancelled by an earlier one', async () => {
    const clock = new VirtualClock(0);
    let fired = 0;
    const cancel = clock.setTimer(5, () => (fired += 1));
    clock.setTimer(5, () => cancelSecond());
    const cancelSecond = clock.setTimer(6, () => (fired += 1));
    cancel();
    cancel();
    await clock.advance(10);
    expect(fired).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it('fires a timer without delay at the next advance, even by 0 ms', async () => {
    const clock = new VirtualClock(0);
    let fired = 0;
    clock.setTimer(0, () => (fired += 1));
    clock.setTimer(-5, () => (fired += 1));
    expect(fired).toBe(0);
    await clock.advance(0);
    expect(fired).toBe(2);
  });

  it.each([-1, Number.NaN, Infinity])('throws on an advance by %d ms', async (ms) => {
    await expect(new VirtualClock().advance(ms)).rejects.toThrow(RangeError);
  });
});
