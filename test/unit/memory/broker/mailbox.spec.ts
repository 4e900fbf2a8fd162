import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Mailbox } from '../../../../lib/memory/broker/mailbox.js';

describe('Mailbox', () => {
  it('delivers items in order, in a microtask and never within post', async () => {
    const seen: number[] = [];
    const mailbox = new Mailbox<number>((item) => void seen.push(item));
    mailbox.post(1);
    mailbox.post(2);
    expect(seen).toEqual([]);
    await Promise.resolve();
    expect(seen).toEqual([1, 2]);
  });

  it('does not deliver withdrawn items, also during a delivery', async () => {
    const seen: number[] = [];
    let rest: number[] = [];
    const mailbox = new Mailbox<number>((item) => {
      seen.push(item);
      if (item === 2) rest = mailbox.withdraw();
    });
    for (const item of [1, 2, 3, 4]) mailbox.post(item);
    await nextTurn();
    expect(seen).toEqual([1, 2]);
    expect(rest).toEqual([3, 4]);
    mailbox.post(5);
    await nextTurn();
    expect(seen).toEqual([1, 2, 5]);
  });

  it('lets the event loop turn although each item posts the next', async () => {
    let seen = 0;
    let stopped = false;
    const mailbox = new Mailbox<number>((item) => {
      seen += 1;
      // Ends the test at last when the guard is broken.
      if (!stopped && seen < 100_000) mailbox.post(item);
    });
    mailbox.post(1);
    await nextTurn();
    stopped = true;
    expect(seen).toBeLessThan(10_000);
  });
});
