import { describe, expect, it } from 'vitest';
import { Counters } from '../../../lib/core/counters.js';
import type { Copy } from '../../../lib/core/driver.js';
import { acknowledge, giveBack, keepCopies, type SettlementScope } from '../../../lib/core/settlement.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newDelivery, newGate, RecordingLogger, settle } from './harness.js';

function newBench() {
  const clock = new VirtualClock();
  const counters = new Counters();
  const logger = new RecordingLogger();
  const stop = new AbortController();
  const blocked: boolean[] = [];
  const scope: SettlementScope = {
    subscription: 'orders',
    clock,
    logger,
    counters,
    stopping: stop.signal,
    writingBlocked: (isBlocked) => void blocked.push(isBlocked),
  };
  return { ...newDelivery(), clock, counters, logger, stop, blocked, scope };
}

function noteWhenDone(promise: Promise<void>): { done: boolean } {
  const note = { done: false };
  void promise.then(() => (note.done = true));
  return note;
}

const letter: Copy = { to: 'dead-letter', headers: {} };

describe('acknowledge', () => {
  it('acknowledges, and counts as stale what cannot be settled any more', () => {
    const { delivery, source, counters, scope } = newBench();
    acknowledge(delivery, scope);
    expect([source.events, counters.snapshot()]).toEqual([['ack 1'], {}]);
    acknowledge(delivery, scope);
    expect([source.events, counters.snapshot()]).toEqual([['ack 1'], { stale: 1 }]);
  });
});

describe('keepCopies', () => {
  it('confirms the copies, acknowledges, and counts each dead letter', async () => {
    const { delivery, source, counters, blocked, scope } = newBench();
    await keepCopies(delivery, [letter, letter], scope);
    expect(source.events).toEqual(['copy 1', 'ack 1']);
    expect(counters.snapshot()).toEqual({ 'dead-lettered': 2 });
    expect(blocked).toEqual([]);
  });

  it('tries again, each time later, until the copies are confirmed, and never gives the message up', async () => {
    const { delivery, source, clock, counters, scope } = newBench();
    source.refusals = 9;
    const note = noteWhenDone(keepCopies(delivery, [letter], scope));
    await settle();
    let tries = 1;
    for (const delayMs of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]) {
      expect([source.events.length, note.done]).toEqual([tries, false]);
      await clock.advance(delayMs - 1);
      expect(source.events).toHaveLength(tries);
      await clock.advance(1);
      tries++;
    }
    await settle();
    expect(note.done).toBe(true);
    expect(source.events.slice(-2)).toEqual(['copy 1', 'ack 1']);
    expect(source.events.filter((event) => event === 'copy 1')).toHaveLength(10);
    expect(counters.snapshot()).toEqual({ 'dead-lettered': 1 });
    expect(clock.pendingTimers).toBe(0);
  });

  it('still waits 30 seconds after a thousand tries', async () => {
    const { delivery, source, scope } = newBench();
    source.refusals = 1_100;
    const waits: number[] = [];
    // A clock that lets nobody wait, but not for ever either.
    const setTimer = (delayMs: number, fire: () => void): (() => void) => {
      waits.push(delayMs);
      if (waits.length <= 2_000) queueMicrotask(fire);
      return () => {};
    };
    await keepCopies(delivery, [letter], { ...scope, clock: { now: () => 0, setTimer } });
    expect(waits).toHaveLength(1_100);
    expect(new Set(waits.slice(6))).toEqual(new Set([30_000]));
    expect(source.events.at(-1)).toBe('ack 1');
  });

  it('blocks the source once at the first refusal and frees it once at the end', async () => {
    const { delivery, source, clock, blocked, logger, scope } = newBench();
    source.refusals = 3;
    const note = noteWhenDone(keepCopies(delivery, [letter], scope));
    await settle();
    expect(blocked).toEqual([true]);
    await clock.advance(1_500);
    expect([blocked, note.done]).toEqual([[true], false]);
    await clock.advance(2_000);
    expect([blocked, note.done]).toEqual([[true, false], true]);
    expect(logger.lines).toHaveLength(3);
    expect(logger.lines[0]).toBe(
      'error orders: a dead letter could not be written, paused, next try in 500 ms: the broker says no',
    );
  });

  it('ends when the epoch has ended: the message comes again, the source goes on', async () => {
    const { delivery, source, epoch, clock, blocked, counters, scope } = newBench();
    source.refusals = Infinity;
    const note = noteWhenDone(keepCopies(delivery, [letter], scope));
    await settle();
    epoch.end();
    await clock.advance(500);
    expect(note.done).toBe(true);
    expect(source.events).toEqual(['copy 1']);
    expect(blocked).toEqual([true, false]);
    expect(counters.snapshot()).toEqual({ stale: 1 });
  });

  it('tries nothing in an epoch that has already ended', async () => {
    const { delivery, source, epoch, counters, blocked, scope } = newBench();
    epoch.end();
    await keepCopies(delivery, [letter], scope);
    expect([source.events, blocked, counters.snapshot()]).toEqual([[], [], { stale: 1 }]);
  });

  it('counts no dead letter when the epoch ended while the copies were on their way', async () => {
    const { delivery, source, epoch, counters, blocked, scope } = newBench();
    const gate = newGate();
    source.gate = gate.promise;
    const done = keepCopies(delivery, [letter], scope);
    epoch.end();
    gate.open();
    await done;
    expect([source.events, blocked, counters.snapshot()]).toEqual([['copy 1'], [], { stale: 1 }]);
  });

  it('tries once more when the shutdown has lost its patience, and then gives the message back', async () => {
    const { delivery, source, clock, stop, blocked, scope } = newBench();
    source.refusals = Infinity;
    const note = noteWhenDone(keepCopies(delivery, [letter], scope));
    await settle();
    stop.abort();
    await settle();
    expect(note.done).toBe(true);
    expect(source.events).toEqual(['copy 1', 'copy 1', 'requeue 1']);
    expect(blocked).toEqual([true, false]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('keeps the copies also during an impatient shutdown, if the broker takes them', async () => {
    const { delivery, source, stop, counters, scope } = newBench();
    stop.abort();
    await keepCopies(delivery, [letter], scope);
    expect(source.events).toEqual(['copy 1', 'ack 1']);
    expect(counters.snapshot()).toEqual({ 'dead-lettered': 1 });
  });

  it('ends when somebody else has given the message back between two tries', async () => {
    const { delivery, source, clock, blocked, scope } = newBench();
    source.refusals = Infinity;
    const note = noteWhenDone(keepCopies(delivery, [letter], scope));
    await settle();
    delivery.requeue();
    await clock.advance(500);
    expect([note.done, source.events, blocked]).toEqual([true, ['copy 1', 'requeue 1'], [true, false]]);
  });
});

describe('giveBack', () => {
  it('waits a second, then gives the message back', async () => {
    const { delivery, source, clock, counters, scope } = newBench();
    const note = noteWhenDone(giveBack(delivery, scope));
    await clock.advance(999);
    expect([source.events, note.done]).toEqual([[], false]);
    await clock.advance(1);
    expect([source.events, note.done]).toEqual([['requeue 1'], true]);
    expect(counters.snapshot()).toEqual({ 'given-back': 1 });
  });

  it('does not wait once the shutdown has lost its patience', async () => {
    const { delivery, source, clock, stop, scope } = newBench();
    const note = noteWhenDone(giveBack(delivery, scope));
    await settle();
    stop.abort();
    await settle();
    expect([source.events, note.done, clock.pendingTimers]).toEqual([['requeue 1'], true, 0]);
  });

  it('counts as stale what was lost meanwhile', async () => {
    const { delivery, source, epoch, clock, counters, scope } = newBench();
    const note = noteWhenDone(giveBack(delivery, scope));
    epoch.end();
    await clock.advance(1_000);
    expect([source.events, note.done, counters.snapshot()]).toEqual([[], true, { stale: 1 }]);
  });
});
