import { describe, expect, it } from 'vitest';
import type { StorkClock } from '../../../../lib/core/runtime/clock.js';
import { Counters } from '../../../../lib/core/runtime/reporting.js';
import {
  ConnectionLostError,
  RequestTimeoutError,
  StorkConfigError,
  TooManyPendingError,
} from '../../../../lib/core/runtime/errors.js';
import { PendingRequests, type ReplyReceiver } from '../../../../lib/core/publish/pending-requests.js';
import type { InboundReply, ReplyKind } from '../../../../lib/core/port/message.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';

class RecordingWaiter implements ReplyReceiver {
  readonly kinds: ReplyKind[] = [];
  readonly errors: Error[] = [];
  reply(reply: InboundReply): void {
    this.kinds.push(reply.kind);
  }
  fail(error: Error): void {
    this.errors.push(error);
  }
}

function reply(correlationId: string, kind: ReplyKind = 'value'): InboundReply {
  return { kind, correlationId, body: null, contentType: undefined, headers: {} };
}

function newBench(maxPending = 100) {
  const clock = new VirtualClock();
  const counters = new Counters();
  const pending = new PendingRequests(maxPending, clock, counters);
  const register = (id: string, timeoutMs = 1_000): RecordingWaiter => {
    const waiter = new RecordingWaiter();
    pending.register(id, waiter, timeoutMs, () => `${id} took too long`);
    return waiter;
  };
  return { clock, counters, pending, register };
}

describe('a reply', () => {
  it.each<ReplyKind>(['value', 'end', 'error'])('of the kind %s ends its request and no other', (kind) => {
    const { pending, register } = newBench();
    const [a, b] = [register('a'), register('b')];
    pending.handleReply(reply('a', kind));
    expect([a.kinds, b.kinds, pending.size]).toEqual([[kind], [], 1]);
  });

  it('that is an item leaves its request pending', () => {
    const { pending, register } = newBench();
    const waiter = register('a');
    for (const kind of ['item', 'item', 'end'] as const) pending.handleReply(reply('a', kind));
    expect([waiter.kinds, pending.size]).toEqual([['item', 'item', 'end'], 0]);
  });

  it('to a cancelled or timed-out request is counted as late; a reply to an unknown id is not', async () => {
    const { clock, counters, pending, register } = newBench();
    pending.handleReply(reply('unknown'));
    const repeated = register('repeated');
    pending.handleReply(reply('repeated'));
    pending.handleReply(reply('repeated'));
    const givenUp = register('given up');
    pending.cancel('given up', givenUp);
    pending.handleReply(reply('given up', 'item'));
    const timedOut = register('timed out');
    await clock.advance(1_000);
    pending.handleReply(reply('timed out'));
    expect(counters.get('late-replies')).toBe(2);
    expect([repeated.kinds, givenUp.kinds, timedOut.kinds]).toEqual([['value'], [], []]);
  });

  it.each(['__proto__', 'constructor', ''])('with the id %j settles no request', (id) => {
    const { counters, pending } = newBench();
    pending.handleReply(reply(id));
    expect(counters.get('late-replies')).toBe(0);
  });
});

describe('a request', () => {
  it('with the id of a pending request is rejected, and the pending one continues', () => {
    const { pending, register } = newBench();
    const first = register('a');
    expect(() => register('a')).toThrow(StorkConfigError);
    expect(() => register('a')).toThrow('a request with the id "a" is already pending');
    pending.handleReply(reply('a'));
    expect(first.kinds).toEqual(['value']);
  });

  it('may reuse the id of a settled request', () => {
    const { pending, register } = newBench();
    register('a');
    pending.handleReply(reply('a'));
    const second = register('a');
    pending.handleReply(reply('a'));
    expect(second.kinds).toEqual(['value']);
  });

  it('beyond maxPending is rejected until another is settled', () => {
    const { pending, register } = newBench(2);
    register('a');
    register('b');
    expect(() => register('c')).toThrow(TooManyPendingError);
    pending.handleReply(reply('a', 'item'));
    expect(() => register('c')).toThrow('2 requests are pending, maxPending allows no more');
    pending.handleReply(reply('a', 'end'));
    expect(register('c').errors).toEqual([]);
    expect(pending.size).toBe(2);
  });

  it('that is cancelled receives nothing more; a newer one with the same id stays', async () => {
    const { clock, pending, register } = newBench();
    const first = register('a');
    pending.cancel('a', first);
    expect(pending.size).toBe(0);
    const second = register('a');
    pending.cancel('a', first);
    expect(pending.size).toBe(1);
    await clock.advance(1_000);
    expect([first.errors.length, second.errors.length]).toEqual([0, 1]);
  });
});

describe('a time-out', () => {
  it('occurs after timeoutMs and not before, with the description', async () => {
    const { clock, pending, register } = newBench();
    const waiter = register('a', 1_000);
    await clock.advance(999);
    expect(waiter.errors).toEqual([]);
    await clock.advance(1);
    expect(waiter.errors).toEqual([new RequestTimeoutError('a took too long')]);
    expect(waiter.errors[0]).toBeInstanceOf(RequestTimeoutError);
    expect(pending.size).toBe(0);
  });

  it('occurs for each request after its own timeoutMs, in whatever order they were registered', async () => {
    const { clock, register } = newBench();
    const waiters = [3_000, 1_000, 2_000, 1_000].map((timeoutMs, i) => register(String(i), timeoutMs));
    const timedOut = (): number[] => waiters.map(({ errors }) => errors.length);
    await clock.advance(1_000);
    expect(timedOut()).toEqual([0, 1, 0, 1]);
    await clock.advance(1_000);
    expect(timedOut()).toEqual([0, 1, 1, 1]);
    await clock.advance(1_000);
    expect(timedOut()).toEqual([1, 1, 1, 1]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('is restarted by each item, and by nothing else', async () => {
    const { clock, pending, register } = newBench();
    const [stream, other] = [register('stream', 1_000), register('other', 1_500)];
    for (let i = 0; i < 5; i++) {
      await clock.advance(900);
      pending.handleReply(reply('stream', 'item'));
    }
    expect([stream.errors.length, other.errors.length]).toEqual([0, 1]);
    await clock.advance(999);
    expect(stream.errors).toEqual([]);
    await clock.advance(1);
    expect(stream.errors).toHaveLength(1);
  });

  it('uses one timer for all requests, which is cancelled when all have timed out', async () => {
    const { clock, register } = newBench();
    for (let i = 0; i < 50; i++) {
      register(String(i), 1_000 + ((i * 37) % 50));
      expect(clock.pendingTimers).toBe(1);
    }
    await clock.advance(1_010);
    expect(clock.pendingTimers).toBe(1);
    await clock.advance(1_000);
    expect(clock.pendingTimers).toBe(0);
  });

  it('leaves no timer when no request is pending, however the last one was settled', () => {
    const { clock, pending, register } = newBench();
    for (const kind of ['value', 'end', 'error'] as const) {
      register('a');
      const other = register('b');
      pending.handleReply(reply('a', kind));
      expect(clock.pendingTimers).toBe(1);
      pending.cancel('b', other);
      expect(clock.pendingTimers).toBe(0);
    }
  });

  it('occurs in time for a request registered after all others were settled', async () => {
    const { clock, pending, register } = newBench();
    register('a', 1_000);
    pending.handleReply(reply('a'));
    await clock.advance(500);
    const waiter = register('b', 1_000);
    await clock.advance(999);
    expect(waiter.errors).toEqual([]);
    await clock.advance(1);
    expect(waiter.errors).toHaveLength(1);
  });

  it('sets no timer for a request that is due after the timer', () => {
    const virtual = new VirtualClock();
    let timers = 0;
    const clock: StorkClock = {
      now: () => virtual.now(),
      setTimer: (delayMs, fire) => {
        timers++;
        return virtual.setTimer(delayMs, fire);
      },
    };
    const pending = new PendingRequests(1_000, clock, new Counters());
    for (let i = 0; i < 100; i++) pending.register(String(i), new RecordingWaiter(), 1_000, () => '');
    expect(timers).toBe(1);
  });

  it('occurs also for a request registered while another times out', async () => {
    const { clock, pending } = newBench();
    const second = new RecordingWaiter();
    const first: ReplyReceiver = {
      reply: () => {},
      fail: () => pending.register('again', second, 500, () => 'again'),
    };
    pending.register('first', first, 1_000, () => 'first');
    await clock.advance(1_499);
    expect(second.errors).toEqual([]);
    await clock.advance(1);
    expect(second.errors).toHaveLength(1);
  });
});

describe('failAll', () => {
  it('fails every pending request once, and leaves no timer', async () => {
    const { clock, pending, register } = newBench();
    const waiters = [register('a'), register('b')];
    const error = new ConnectionLostError('gone');
    pending.failAll(error);
    pending.failAll(error);
    expect(waiters.map(({ errors }) => errors)).toEqual([[error], [error]]);
    expect([pending.size, clock.pendingTimers]).toEqual([0, 0]);
  });

  it('does not fail requests registered afterwards, or while it fails the others', async () => {
    const { clock, pending, register } = newBench();
    const second = new RecordingWaiter();
    const first: ReplyReceiver = {
      reply: () => {},
      fail: () => pending.register('a', second, 500, () => 'a'),
    };
    pending.register('a', first, 1_000, () => 'a');
    pending.failAll(new ConnectionLostError('gone'));
    expect([pending.size, second.errors]).toEqual([1, []]);
    const third = register('b', 2_000);
    await clock.advance(2_000);
    expect([second.errors.length, third.errors.length]).toEqual([1, 1]);
  });
});
