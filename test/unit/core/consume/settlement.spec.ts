import { describe, expect, it } from 'vitest';
import type { Capabilities } from '../../../../lib/core/port/driver.js';
import type { RepublishedMessage } from '../../../../lib/core/port/delivery.js';
import {
  acknowledge,
  republishUntilConfirmed,
  requeue,
  requeueAfterDelay,
} from '../../../../lib/core/consume/settlement.js';
import { RetryTimers } from '../../../../lib/core/retry/retry-timers.js';
import { DeliveryDispatcher } from '../../../../lib/core/dispatch/delivery-dispatcher.js';
import { newPipeline } from '../../../../lib/core/consume/pipeline.js';
import { newDelivery, newGate, newMessage, noteWhenDone, settle } from '../harness.js';
import { failure, freeSlot, newBench, TestHandler } from '../pipeline-harness.js';

function newSettlement(requeue: Capabilities['requeue'] = 'broker') {
  const test = newDelivery();
  const bench = newBench([], { capabilities: { requeue } });
  const started = { delivery: test.delivery, slot: freeSlot(test.delivery, bench.scope) };
  return { ...test, ...bench, started };
}

const deadLetter: RepublishedMessage = { to: 'dead-letter', headers: {} };
const other: RepublishedMessage = { to: 'dead-letter', headers: { a: '1' } };

describe('acknowledge', () => {
  it('acknowledges, and counts as stale what cannot be settled any more', () => {
    const { delivery, source, counters, scope } = newSettlement();
    acknowledge(delivery, scope);
    expect([source.events, counters.snapshot()]).toEqual([['ack 1'], {}]);
    // Its handler had said so before it ended.
    acknowledge(delivery, scope);
    expect([source.events, counters.snapshot()]).toEqual([['ack 1'], {}]);
    const lost = newDelivery();
    lost.session.end();
    acknowledge(lost.delivery, scope);
    expect([lost.source.events, counters.snapshot()]).toEqual([[], { 'stale-settlements': 1 }]);
  });
});

describe('republishUntilConfirmed', () => {
  it('confirms the republished messages, acknowledges, and counts each dead letter', async () => {
    const { source, counters, blocked, scope, started } = newSettlement();
    expect(await republishUntilConfirmed(started, [deadLetter, other], scope)).toBe('settled');
    expect(source.events).toEqual(['republish 1', 'republish 1', 'ack 1']);
    expect(counters.snapshot()).toEqual({ 'dead-lettered': 2 });
    expect(blocked).toEqual([]);
  });

  it('retries with back-off until every message is confirmed, and never drops the message', async () => {
    const { source, clock, counters, scope, started } = newSettlement();
    source.refusals = 9;
    const note = noteWhenDone(republishUntilConfirmed(started, [deadLetter], scope));
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
    expect(source.events.slice(-2)).toEqual(['republish 1', 'ack 1']);
    expect(source.events.filter((event) => event === 'republish 1')).toHaveLength(10);
    expect(counters.snapshot()).toEqual({ 'dead-lettered': 1 });
    expect(clock.pendingTimers).toBe(0);
  });

  it('still waits 30 seconds after a thousand tries', async () => {
    const { delivery, source, scope } = newSettlement();
    source.refusals = 1_100;
    const waits: number[] = [];
    // A clock that lets nobody wait, but not for ever either.
    const setTimer = (delayMs: number, fire: () => void): (() => void) => {
      waits.push(delayMs);
      if (waits.length <= 2_000) queueMicrotask(fire);
      return () => {};
    };
    const clock = { now: () => 0, setTimer };
    const slot = freeSlot(delivery, { ...scope, clock, retryTimers: new RetryTimers(clock) });
    await republishUntilConfirmed({ delivery, slot }, [deadLetter], { ...scope, clock });
    expect(waits).toHaveLength(1_100);
    expect(new Set(waits.slice(6))).toEqual(new Set([30_000]));
    expect(source.events.at(-1)).toBe('ack 1');
  });

  it('blocks the source once at the first refusal and frees it once at the end', async () => {
    const { source, clock, blocked, logger, scope, started } = newSettlement();
    source.refusals = 3;
    const note = noteWhenDone(republishUntilConfirmed(started, [deadLetter], scope));
    await settle();
    const why = 'the broker rejects it';
    expect(blocked).toEqual([why]);
    await clock.advance(1_500);
    expect([blocked, note.done]).toEqual([[why], false]);
    await clock.advance(2_000);
    expect([blocked, note.done]).toEqual([[why, undefined], true]);
    // Whoever pauses the source knows whether this is the first, and says it once.
    expect(logger.lines).toEqual([]);
  });

  it('does not repeat the republished messages that are confirmed', async () => {
    const { source, clock, counters, scope, started } = newSettlement();
    source.refusals = 1;
    const note = noteWhenDone(republishUntilConfirmed(started, [deadLetter, other], scope));
    await settle();
    expect(source.republished).toEqual([other]);
    await clock.advance(500);
    expect([note.done, source.republished]).toEqual([true, [other, deadLetter]]);
    expect(counters.snapshot()).toEqual({ 'dead-lettered': 2 });
  });

  it('ends when the session has ended: the message is redelivered, the source resumes', async () => {
    const { source, session, clock, blocked, counters, scope, started } = newSettlement();
    source.refusals = Infinity;
    const note = noteWhenDone(republishUntilConfirmed(started, [deadLetter], scope));
    await settle();
    session.end();
    await clock.advance(500);
    expect(note.done).toBe(true);
    expect(source.events).toEqual(['republish 1']);
    expect(blocked).toEqual(['the broker rejects it', undefined]);
    expect(counters.snapshot()).toEqual({ 'stale-settlements': 1 });
  });

  it('publishes nothing in a session that has already ended', async () => {
    const { source, session, counters, blocked, scope, started } = newSettlement();
    session.end();
    await republishUntilConfirmed(started, [deadLetter], scope);
    expect([source.events, blocked, counters.snapshot()]).toEqual([[], [], { 'stale-settlements': 1 }]);
  });

  it('counts no dead letter when the session ended while the republished messages were on their way', async () => {
    const { source, session, counters, blocked, scope, started } = newSettlement();
    const gate = newGate();
    source.gate = gate.promise;
    const done = republishUntilConfirmed(started, [deadLetter], scope);
    session.end();
    gate.open();
    await done;
    expect([source.events, blocked, counters.snapshot()]).toEqual([
      ['republish 1'],
      [],
      { 'stale-settlements': 1 },
    ]);
  });

  it('tries once more when it is aborted, and then gives the message back', async () => {
    const { delivery, source, clock, blocked, counters, scope, started } = newSettlement();
    source.refusals = Infinity;
    const note = noteWhenDone(republishUntilConfirmed(started, [deadLetter], scope));
    await settle();
    delivery.abort();
    await settle();
    expect(note.value).toBe('settled');
    expect(source.events).toEqual(['republish 1', 'republish 1', 'requeue 1']);
    expect(blocked).toEqual(['the broker rejects it', undefined]);
    expect(counters.snapshot()).toEqual({ requeued: 1 });
    expect(clock.pendingTimers).toBe(0);
  });

  it('counts the messages even if it is aborted before they are confirmed', async () => {
    const { delivery, source, counters, scope, started } = newSettlement();
    const gate = newGate();
    source.gate = gate.promise;
    const note = noteWhenDone(republishUntilConfirmed(started, [deadLetter], scope));
    delivery.abort();
    gate.open();
    await settle();
    expect([note.value, source.events]).toEqual(['settled', ['republish 1', 'ack 1']]);
    expect(counters.snapshot()).toEqual({ 'dead-lettered': 1 });
  });

  it('continues its retries during a shutdown', async () => {
    const { source, clock, scope, started } = newSettlement();
    source.refusals = 2;
    const note = noteWhenDone(republishUntilConfirmed(started, [deadLetter], scope));
    await settle();
    scope.retryTimers.close();
    await clock.advance(1_500);
    await settle();
    expect([note.done, source.events.length, clock.pendingTimers]).toEqual([true, 4, 0]);
  });

  it('occupies no concurrency slot between its retries', async () => {
    const handled = new TestHandler('event', 'handled', 'order.shipped');
    const failing = new TestHandler('event', 'failing', 'order.paid', async () => failure('no'));
    const { scope, clock } = newBench([handled, failing], { capabilities: { requeue: 'in-process' } });
    const dispatcher = new DeliveryDispatcher({
      concurrency: 1,
      maxWaiting: 10,
      pausesWithoutRedelivery: true,
      pausesWhileRepublishBlocked: false,
      clock,
      retryTimers: scope.retryTimers,
      process: newPipeline(scope),
      returnToSource: (delivery) => requeue(delivery, scope),
    });
    const [blocked, sameKey, otherKey] = [
      newDelivery({ orderingKey: 'a' }),
      newDelivery({ orderingKey: 'a', message: newMessage({ patterns: ['order.shipped'] }) }),
      newDelivery({ orderingKey: 'b', message: newMessage({ patterns: ['order.shipped'] }) }),
    ];
    blocked.source.refusals = 1;
    for (const { delivery } of [blocked, sameKey, otherKey]) dispatcher.deliver(delivery);
    await settle();
    expect([sameKey.source.events, otherKey.source.events]).toEqual([[], ['ack 1']]);
    await clock.advance(500);
    await settle();
    expect(blocked.source.events).toEqual(['republish 1', 'republish 1', 'ack 1']);
    expect([sameKey.source.events, dispatcher.inFlight]).toEqual([['ack 1'], 0]);
  });

  it('ends when the message was requeued between two retries', async () => {
    const { delivery, source, clock, blocked, scope, started } = newSettlement();
    source.refusals = Infinity;
    const note = noteWhenDone(republishUntilConfirmed(started, [deadLetter], scope));
    await settle();
    delivery.requeue();
    await clock.advance(500);
    expect([note.done, source.events]).toEqual([true, ['republish 1', 'requeue 1']]);
    expect(blocked).toEqual(['the broker rejects it', undefined]);
  });
});

describe('requeueAfterDelay', () => {
  it('waits a second, then gives the message back', async () => {
    const { delivery, source, clock, counters, scope } = newSettlement();
    const note = noteWhenDone(requeueAfterDelay({ delivery, slot: freeSlot(delivery, scope), scope }));
    await clock.advance(999);
    expect([source.events, note.done]).toEqual([[], false]);
    await clock.advance(1);
    expect([source.events, note.value]).toEqual([['requeue 1'], 'settled']);
    expect(counters.snapshot()).toEqual({ requeued: 1 });
  });

  it('has the message processed again, unsettled, where the source cannot take it back', async () => {
    const { delivery, source, clock, counters, scope } = newSettlement('in-process');
    const note = noteWhenDone(requeueAfterDelay({ delivery, slot: freeSlot(delivery, scope), scope }));
    await clock.advance(999);
    expect(note.done).toBe(false);
    await clock.advance(1);
    expect([source.events, note.value, delivery.open]).toEqual([[], 'reprocess', true]);
    expect(counters.snapshot()).toEqual({});
  });

  it.each(['broker', 'in-process'] as const)('waits no longer once it is aborted (%s)', async (requeue) => {
    const { delivery, source, clock, counters, scope } = newSettlement(requeue);
    const note = noteWhenDone(requeueAfterDelay({ delivery, slot: freeSlot(delivery, scope), scope }));
    await settle();
    delivery.abort();
    await settle();
    expect([source.events, note.value, clock.pendingTimers]).toEqual([['requeue 1'], 'settled', 0]);
    expect(counters.snapshot()).toEqual({ requeued: 1 });
  });

  it.each(['broker', 'in-process'] as const)(
    'counts as stale what was lost meanwhile (%s)',
    async (requeue) => {
      const { delivery, source, session, clock, counters, scope } = newSettlement(requeue);
      const note = noteWhenDone(requeueAfterDelay({ delivery, slot: freeSlot(delivery, scope), scope }));
      session.end();
      await clock.advance(1_000);
      expect([source.events, note.value, counters.snapshot()]).toEqual([
        [],
        'settled',
        { 'stale-settlements': 1 },
      ]);
    },
  );
});

describe('requeue', () => {
  it('gives the message back at once and counts it, once', () => {
    const { delivery, source, counters, scope } = newSettlement();
    for (const _ of [1, 2]) requeue(delivery, scope);
    expect([source.events, counters.snapshot()]).toEqual([['requeue 1'], { requeued: 1 }]);
  });

  it('counts as stale what its source has lost, and nothing while a republish is unconfirmed', () => {
    const lost = newSettlement();
    lost.session.end();
    requeue(lost.delivery, lost.scope);
    expect([lost.source.events, lost.counters.snapshot()]).toEqual([[], { 'stale-settlements': 1 }]);
    const copying = newSettlement();
    void copying.delivery.republishThenAck([deadLetter]);
    requeue(copying.delivery, copying.scope);
    expect([copying.source.events, copying.counters.snapshot()]).toEqual([['republish 1'], {}]);
  });
});
