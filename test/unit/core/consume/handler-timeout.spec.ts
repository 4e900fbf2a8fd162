import { describe, expect, it } from 'vitest';
import type { Handler } from '../../../../lib/core/consume/handler.js';
import type { HandlerAttempt } from '../../../../lib/core/consume/handler-attempt.js';
import { patternFromString } from '../../../../lib/core/message/pattern.js';
import { newGate, noteWhenDone, settle } from '../harness.js';
import {
  deliveryOf,
  failure,
  deadLetters,
  loseSource,
  newBench,
  type Behaviour,
  processAlone,
} from '../pipeline-harness.js';

function newLimited(behaviour: Behaviour, timeoutMs = 1_000) {
  const handler: Handler = {
    id: 'Orders.paid',
    kind: 'event',
    patterns: [patternFromString('#')],
    consume: { timeoutMs },
    run: behaviour,
  };
  return newBench([handler]);
}

describe('a handler with a time limit', () => {
  it('leaves no timer behind where it is in time', async () => {
    const { scope, clock, counters } = newLimited(async () => undefined);
    await processAlone(deliveryOf().delivery, scope);
    expect(counters.get('handled')).toBe(1);
    expect(clock.pendingTimers).toBe(0);
  });

  it('occupies its slot for at most 5 s after its timeout; its later result is ignored', async () => {
    const gate = newGate();
    const runs: HandlerAttempt[] = [];
    const { scope, clock, logger } = newLimited(async (run) => {
      runs.push(run);
      await gate.promise;
      return failure('far too late');
    });
    const test = deliveryOf();
    const done = noteWhenDone(processAlone(test.delivery, scope));
    await settle();
    const { signal } = runs[0]!;
    await clock.advance(999);
    await settle();
    expect(signal.aborted).toBe(false);
    await clock.advance(1);
    await settle();
    expect(signal.aborted).toBe(true);
    expect([runs[0]!.emit(1), runs[0]!.decide({ kind: 'ack' })]).toEqual([false, false]);
    await clock.advance(4_999);
    await settle();
    expect(done.done).toBe(false);
    await clock.advance(1);
    await settle();
    expect(done.done).toBe(true);
    expect(deadLetters(test)).toEqual([['timeout', 'Orders.paid', '1']]);
    gate.open();
    await settle();
    expect(logger.lines.filter((line) => /timed-out|its timeout/.test(line))).toEqual([
      'warn orders: handler "Orders.paid", message "m-1": still running 5000 ms after its timeout of 1000 ms; other messages of its key are now processed',
      'debug orders: handler "Orders.paid", message "m-1": the timed-out attempt failed: far too late',
    ]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('aborts with its delivery too, and tells listeners that come late', async () => {
    const gate = newGate();
    const runs: HandlerAttempt[] = [];
    const { scope } = newLimited(async (run) => {
      runs.push(run);
      await gate.promise;
      return undefined;
    });
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    const heard: string[] = [];
    runs[0]!.onAbort(() => heard.push('early'));
    loseSource(test);
    runs[0]!.onAbort(() => heard.push('late'));
    expect(heard).toEqual(['early', 'late']);
    gate.open();
    await done;
    expect(test.source.events).toEqual([]);
  });

  it.each([
    ['within its time limit', 0],
    ['after its timeout', 1_000],
  ])('whose message a shutdown has requeued leaves no timer, nor a warning: %s', async (_, ranMs) => {
    const { scope, clock, logger } = newLimited(() => new Promise(() => {}));
    const test = deliveryOf();
    void processAlone(test.delivery, scope);
    await clock.advance(ranMs);
    scope.retryTimers.abandon();
    test.delivery.abort();
    await clock.advance(0);
    expect(clock.pendingTimers).toBe(0);
    expect(logger.lines.filter((line) => line.includes('still running'))).toEqual([]);
  });

  it('keeps its time limit when its source is lost, until a shutdown no longer waits for it', async () => {
    const { scope, clock } = newLimited(() => new Promise(() => {}));
    const [first, second] = [deliveryOf(), deliveryOf()];
    const done = noteWhenDone(processAlone(first.delivery, scope));
    await settle();
    loseSource(first);
    await clock.advance(6_000);
    expect(done.done).toBe(true);
    void processAlone(second.delivery, scope);
    await settle();
    loseSource(second);
    expect(clock.pendingTimers).toBe(1);
    scope.retryTimers.abandon();
    expect(clock.pendingTimers).toBe(0);
  });
});
