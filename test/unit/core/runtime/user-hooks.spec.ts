import { describe, expect, it } from 'vitest';
import { messageOf } from '../../../../lib/core/runtime/errors.js';
import { UserHooks } from '../../../../lib/core/runtime/user-hooks.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';

function newHooks() {
  const clock = new VirtualClock();
  const errors: string[] = [];
  return {
    clock,
    hooks: new UserHooks(clock),
    errors,
    onError: (error: unknown) => errors.push(messageOf(error)),
  };
}

const hang = (): Promise<never> => new Promise(() => {});

describe('UserHooks', () => {
  it('waits 5 s for a hook', async () => {
    const { clock, hooks, errors, onError } = newHooks();
    const call = hooks.run(hang, onError);
    await clock.advance(4_999);
    expect(errors).toEqual([]);
    await clock.advance(1);
    await Promise.all([call, hooks.settled()]);
    expect(errors).toEqual(['it has not ended within 5000 ms']);
  });

  it('ends the waits when it is closed, and reports the hooks that were cut off', async () => {
    const { clock, hooks, errors, onError } = newHooks();
    const ended = hooks.run(() => {}, onError);
    const calls = [hooks.run(hang, onError), hooks.run(hang, onError)];
    await ended;
    hooks.close();
    await Promise.all([...calls, hooks.settled()]);
    const cutOff = 'it had not ended when the application was shut down';
    expect([errors, clock.pendingTimers]).toEqual([[cutOff, cutOff], 0]);
  });

  it('calls a hook after it is closed, without a timer', async () => {
    const { clock, hooks, errors, onError } = newHooks();
    hooks.close();
    let calls = 0;
    await hooks.run(() => void calls++, onError);
    await hooks.run(() => Promise.reject(new Error('no stock')), onError);
    void hooks.run(hang, onError);
    expect([calls, errors, clock.pendingTimers]).toEqual([1, ['no stock'], 0]);
  });
});
