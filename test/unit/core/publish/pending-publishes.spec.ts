import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { ConnectionStateCell } from '../../../../lib/core/port/connection-state.js';
import type { PublishCancellation } from '../../../../lib/core/port/publish-cancellation.js';
import { PendingPublishes } from '../../../../lib/core/publish/pending-publishes.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { newGate, settle, type Gate } from '../harness.js';

interface Sent {
  readonly cancellation: PublishCancellation;
  readonly confirm: Gate;
}

/** `isWritten`: the driver cannot withdraw the message. */
function newBench() {
  const [clock, state] = [new VirtualClock(), new ConnectionStateCell()];
  const publishes = new PendingPublishes({ transport: 'shop', state, clock });
  const outcomes = new Map<string, unknown>();
  const publish = (pattern: string, timeoutMs: number, signal?: AbortSignal, isWritten = false): Sent => {
    const confirm = newGate();
    let sent: PublishCancellation | undefined;
    publishes
      .run({ pattern, timeoutMs, signal }, (cancellation) => {
        sent = cancellation;
        if (isWritten) cancellation.withdraw = () => false;
        return confirm.promise;
      })
      .then(
        () => outcomes.set(pattern, 'confirmed'),
        (error: unknown) => outcomes.set(pattern, error),
      );
    return { cancellation: sent!, confirm };
  };
  return { clock, state, publishes, outcomes, publish };
}

describe('a publish', () => {
  it('leaves no timer once it has ended', async () => {
    const { clock, publish } = newBench();
    const [first, second] = [publish('a', 1_000), publish('b', 500)];
    first.confirm.open();
    await settle();
    expect(clock.pendingTimers).toBe(1);
    second.confirm.open();
    await settle();
    expect(clock.pendingTimers).toBe(0);
  });

  it('settles as its driver does', async () => {
    const { clock, outcomes, publish } = newBench();
    publish('a', 1_000).confirm.open();
    const refused = new Error('refused');
    publish('b', 1_000).confirm.fail(refused);
    await clock.advance(5_000);
    expect([outcomes, clock.pendingTimers]).toEqual([
      new Map<string, unknown>([
        ['a', 'confirmed'],
        ['b', refused],
      ]),
      0,
    ]);
  });

  it.each([
    [false, 'CONNECTION_LOST', 'shop: the message with the pattern "a" was not sent within 1000 ms'],
    [
      true,
      'PUBLISH_UNCONFIRMED',
      'shop: the message with the pattern "a" was not confirmed within 1000 ms; the broker may have stored it',
    ],
  ])('that was written: %s, rejects in time with %s', async (isWritten, code, message) => {
    const { clock, outcomes, publish } = newBench();
    const { cancellation } = publish('a', 1_000, undefined, isWritten);
    await clock.advance(999);
    expect([outcomes.size, cancellation.isCancelled]).toEqual([0, false]);
    await clock.advance(1);
    expect([outcomes.get('a'), cancellation.isCancelled]).toMatchObject([{ code, message }, true]);
  });

  it('that was not sent says why the broker is away', async () => {
    const { clock, state, outcomes, publish } = newBench();
    const error = new Error('connect ECONNREFUSED');
    state.move({ value: 'backoff', attempt: 1, delayMs: 1, error });
    publish('a', 10);
    await clock.advance(10);
    expect(outcomes.get('a')).toMatchObject({
      message: expect.stringMatching(/not sent within 10 ms: the transport is reconnecting: connect ECONN/),
    });
  });

  it.each([new Error('no time left'), 'text', undefined])(
    'rejects with the reason of its signal, %s, and is withdrawn',
    async (reason) => {
      const { outcomes, publish } = newBench();
      const controller = new AbortController();
      const { cancellation } = publish('a', 1_000, controller.signal);
      let isWithdrawn = false;
      cancellation.withdraw = () => (isWithdrawn = true);
      controller.abort(reason);
      await settle();
      expect([outcomes.get('a'), isWithdrawn]).toEqual([controller.signal.reason, true]);
    },
  );

  it('leaves no listener at its signal, however it ended', async () => {
    const { clock, publish } = newBench();
    const { signal } = new AbortController();
    publish('a', 1_000, signal).confirm.open();
    publish('b', 1_000, signal).confirm.fail(new Error('refused'));
    publish('c', 1_000, signal);
    await clock.advance(1_000);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('ignores what the driver does after it has ended', async () => {
    const { clock, outcomes, publish } = newBench();
    const late = [publish('a', 10), publish('b', 10)];
    await clock.advance(10);
    late[0]!.confirm.open();
    late[1]!.confirm.fail(new Error('too late'));
    await settle();
    expect([...outcomes.values()]).toMatchObject([{ code: 'CONNECTION_LOST' }, { code: 'CONNECTION_LOST' }]);
  });
});

describe('time limits', () => {
  it('end each publish after its own, with one timer for all', async () => {
    const { clock, outcomes, publish } = newBench();
    for (const [i, timeoutMs] of [3_000, 1_000, 2_000, 1_000].entries()) publish(`${i}`, timeoutMs);
    expect(clock.pendingTimers).toBe(1);
    const ended: string[][] = [];
    for (let i = 0; i < 3; i++) {
      await clock.advance(1_000);
      ended.push([...outcomes.keys()]);
    }
    expect([ended, clock.pendingTimers]).toEqual([
      [
        ['1', '3'],
        ['1', '3', '2'],
        ['1', '3', '2', '0'],
      ],
      0,
    ]);
  });

  it('set no timer for publishes that are confirmed while an earlier one is pending', async () => {
    const { clock, publish } = newBench();
    let timers = 0;
    const setTimer = clock.setTimer.bind(clock);
    clock.setTimer = (...args) => {
      timers++;
      return setTimer(...args);
    };
    const first = publish('first', 1_000);
    for (let i = 0; i < 100; i++) {
      publish(`${i}`, 1_000).confirm.open();
      await settle();
    }
    first.confirm.open();
    await settle();
    expect([timers, clock.pendingTimers]).toEqual([1, 0]);
  });

  it('hold for a publish that begins while others end', async () => {
    const { clock, outcomes, publish } = newBench();
    const controller = new AbortController();
    controller.signal.addEventListener('abort', () => publish('second', 500));
    const { cancellation } = publish('first', 1_000);
    cancellation.withdraw = () => {
      controller.abort();
      return true;
    };
    await clock.advance(1_499);
    expect([...outcomes.keys()]).toEqual(['first']);
    await clock.advance(1);
    expect([...outcomes.keys()]).toEqual(['first', 'second']);
  });
});

it('a close rejects what is pending and leaves no timer', async () => {
  const { clock, publishes, outcomes, publish } = newBench();
  publish('waiting', 1_000);
  publish('written', 1_000, undefined, true);
  publishes.close();
  await settle();
  expect([...outcomes.values()]).toMatchObject([{ code: 'CLOSED' }, { code: 'PUBLISH_UNCONFIRMED' }]);
  expect(clock.pendingTimers).toBe(0);
});
