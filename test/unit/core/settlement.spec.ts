import { describe, expect, it } from 'vitest';
import { Counters } from '../../../lib/core/counters.js';
import type { Capabilities, Copy } from '../../../lib/core/driver.js';
import {
  acknowledge,
  giveBack,
  keepCopies,
  requeue,
  type SettlementScope,
} from '../../../lib/core/settlement.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newDelivery, newGate, noteWhenDone, RecordingLogger, settle } from './harness.js';

function newBench(requeuesTo: Capabilities['requeuesTo'] = 'broker') {
  const clock = new VirtualClock();
  const counters = new Counters();
  const logger = new RecordingLogger();
  const blocked: (string | undefined)[] = [];
  const scope: SettlementScope = {
    subscription: 'orders',
    clock,
    logger,
    counters,
    capabilities: { requeuesTo },
    writingBlocked: (why) => void blocked.push(why),
  };
  return { ...newDelivery(), clock, counters, logger, blocked, scope };
}

const letter: Copy = { to: 'dead-letter', headers: {} };
const other: Copy = { to: 'dead-letter', headers: { a: '1' } };

describe('acknowledge', () => {
  it('acknowledges, and counts as stale what cannot be settled any more', () => {
    const { delivery, source, counters, scope } = newBench();
    expect(acknowledge(delivery, scope)).toBe('done');
    expect([source.events, counters.snapshot()]).toEqual([['ack 1'], {}]);
    // Its handler had said so before it ended.
    acknowledge(delivery, scope);
    expect([source.events, counters.snapshot()]).toEqual([['ack 1'], {}]);
    const lost = newDelivery();
    lost.epoch.end();
    acknowledge(lost.delivery, scope);
    expect([lost.source.events, counters.snapshot()]).toEqual([[], { stale: 1 }]);
  });
});

describe('keepCopies', () => {
  it('confirms the copies, acknowledges, and counts each dead letter', async () => {
    const { delivery, source, counters, blocked, scope } = newBench();
    expect(await keepCopies(delivery, [letter, other], scope)).toBe('done');
    expect(source.events).toEqual(['copy 1', 'copy 1', 'ack 1']);
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
    const why = 'the broker says no';
    expect(blocked).toEqual([why]);
    await clock.advance(1_500);
    expect([blocked, note.done]).toEqual([[why], false]);
    await clock.advance(2_000);
    expect([blocked, note.done]).toEqual([[why, undefined], true]);
    // Whoever pauses the source knows whether this is the first, and says it once.
    expect(logger.lines).toEqual([]);
  });

  it('does not repeat the copies that are confirmed', async () => {
    const { delivery, source, clock, counters, scope } = newBench();
    source.refusals = 1;
    const note = noteWhenDone(keepCopies(delivery, [letter, other], scope));
    await settle();
    expect(source.copied).toEqual([other]);
    await clock.advance(500);
    expect([note.done, source.copied]).toEqual([true, [other, letter]]);
    expect(counters.snapshot()).toEqual({ 'dead-lettered': 2 });
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
    expect(blocked).toEqual(['the broker says no', undefined]);
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

  it('tries once more when it is aborted, and then gives the message back', async () => {
    const { delivery, source, clock, blocked, counters, scope } = newBench();
    source.refusals = Infinity;
    const note = noteWhenDone(keepCopies(delivery, [letter], scope));
    await settle();
    delivery.abort();
    await settle();
    expect(note.value).toBe('done');
    expect(source.events).toEqual(['copy 1', 'copy 1', 'requeue 1']);
    expect(blocked).toEqual(['the broker says no', undefined]);
    expect(counters.snapshot()).toEqual({ 'given-back': 1 });
    expect(clock.pendingTimers).toBe(0);
  });

  it('keeps the copies also when it is aborted while they are on their way, if the broker takes them', async () => {
    const { delivery, source, counters, scope } = newBench();
    const gate = newGate();
    source.gate = gate.promise;
    const note = noteWhenDone(keepCopies(delivery, [letter], scope));
    delivery.abort();
    gate.open();
    await settle();
    expect([note.value, source.events]).toEqual(['done', ['copy 1', 'ack 1']]);
    expect(counters.snapshot()).toEqual({ 'dead-lettered': 1 });
  });

  it('ends when somebody else has given the message back between two tries', async () => {
    const { delivery, source, clock, blocked, scope } = newBench();
    source.refusals = Infinity;
    const note = noteWhenDone(keepCopies(delivery, [letter], scope));
    await settle();
    delivery.requeue();
    await clock.advance(500);
    expect([note.done, source.events]).toEqual([true, ['copy 1', 'requeue 1']]);
    expect(blocked).toEqual(['the broker says no', undefined]);
  });
});

describe('giveBack', () => {
  it('waits a second, then gives the message back', async () => {
    const { delivery, source, clock, counters, scope } = newBench();
    const note = noteWhenDone(giveBack(delivery, scope));
    await clock.advance(999);
    expect([source.events, note.done]).toEqual([[], false]);
    await clock.advance(1);
    expect([source.events, note.value]).toEqual([['requeue 1'], 'done']);
    expect(counters.snapshot()).toEqual({ 'given-back': 1 });
  });

  it('has the message run again, unsettled, where the source cannot take it back', async () => {
    const { delivery, source, clock, counters, scope } = newBench('memory');
    const note = noteWhenDone(giveBack(delivery, scope));
    await clock.advance(999);
    expect(note.done).toBe(false);
    await clock.advance(1);
    expect([source.events, note.value, delivery.open]).toEqual([[], 'again', true]);
    expect(counters.snapshot()).toEqual({});
  });

  it.each(['broker', 'memory'] as const)('waits no longer once it is aborted (%s)', async (requeuesTo) => {
    const { delivery, source, clock, counters, scope } = newBench(requeuesTo);
    const note = noteWhenDone(giveBack(delivery, scope));
    await settle();
    delivery.abort();
    await settle();
    expect([source.events, note.value, clock.pendingTimers]).toEqual([['requeue 1'], 'done', 0]);
    expect(counters.snapshot()).toEqual({ 'given-back': 1 });
  });

  it.each(['broker', 'memory'] as const)(
    'counts as stale what was lost meanwhile (%s)',
    async (requeuesTo) => {
      const { delivery, source, epoch, clock, counters, scope } = newBench(requeuesTo);
      const note = noteWhenDone(giveBack(delivery, scope));
      epoch.end();
      await clock.advance(1_000);
      expect([source.events, note.value, counters.snapshot()]).toEqual([[], 'done', { stale: 1 }]);
    },
  );
});

describe('requeue', () => {
  it('gives the message back at once and counts it, once', () => {
    const { delivery, source, counters, scope } = newBench();
    expect([requeue(delivery, scope), requeue(delivery, scope)]).toEqual(['done', 'done']);
    expect([source.events, counters.snapshot()]).toEqual([['requeue 1'], { 'given-back': 1 }]);
  });

  it('counts as stale what its source has lost, and nothing where copies are on their way', () => {
    const lost = newBench();
    lost.epoch.end();
    requeue(lost.delivery, lost.scope);
    expect([lost.source.events, lost.counters.snapshot()]).toEqual([[], { stale: 1 }]);
    const copying = newBench();
    void copying.delivery.ackAfter([letter]);
    requeue(copying.delivery, copying.scope);
    expect([copying.source.events, copying.counters.snapshot()]).toEqual([['copy 1'], {}]);
  });
});
