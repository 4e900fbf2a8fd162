import { describe, expect, it } from 'vitest';
import { resolveDeadLetter } from '../../../../lib/core/dead-letter/dead-letter-options.js';
import type { Failure } from '../../../../lib/core/runtime/failure.js';
import type { DeliveryMode } from '../../../../lib/core/port/delivery.js';
import { resolveRetry, type RetryOptions } from '../../../../lib/core/retry/retry-options.js';
import { newDelivery, newGate, newMessage, noteWhenDone, settle } from '../harness.js';
import {
  replyToInbox,
  deliveryOf,
  failure,
  deadLetters,
  loseSource,
  newBench,
  TestHandler,
  type Behaviour,
  processAlone,
} from '../pipeline-harness.js';

/** One that may pass, as its caller is told. */
function passing(message: string): Failure {
  const { envelope, ...rest } = failure(message, 'retries-exhausted');
  return { ...rest, envelope: { ...envelope, retryable: true } };
}

const failing: Behaviour = async () => passing('no stock');

function newFailing(options: RetryOptions, behaviour = failing, kind: 'event' | 'message' = 'event') {
  const policy = { retry: resolveRetry({ jitter: 'none', ...options }), deadLetter: resolveDeadLetter() };
  const handler = new TestHandler(kind, 'h', '#', behaviour, policy);
  return { handler, ...newBench([handler]) };
}

const inMode = (mode: DeliveryMode) => newDelivery({ message: newMessage(), mode });

describe('a message whose handler fails', () => {
  it('waits in process exactly as long as its policy says, and is settled after the last attempt', async () => {
    const { handler, scope, clock, counters } = newFailing({ maxRetries: 2, delayMs: 1_000 });
    const test = deliveryOf();
    const done = noteWhenDone(processAlone(test.delivery, scope));
    const runsAfter = async (ms: number): Promise<number> => {
      await clock.advance(ms);
      await settle();
      return handler.attempts.length;
    };
    expect([await runsAfter(999), await runsAfter(1), await runsAfter(1_999)]).toEqual([1, 2, 2]);
    expect(test.source.events).toEqual([]);
    expect(await runsAfter(1)).toBe(3);
    expect(done.done).toBe(true);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    expect(deadLetters(test)).toEqual([['retries-exhausted', 'h', '3']]);
    expect(counters.snapshot()).toEqual({ received: 1, retried: 2, failed: 1, 'dead-lettered': 1 });
    const failedAt = handler.attempts[1]!.firstFailedAt;
    expect(failedAt).toBeTypeOf('number');
    expect(handler.attempts.map(({ firstFailedAt }) => firstFailedAt)).toEqual([
      undefined,
      failedAt,
      failedAt,
    ]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('gives each attempt its own context: an earlier one can no longer decide', async () => {
    const { handler, scope, clock } = newFailing({ maxRetries: 1, delayMs: 10 });
    const done = processAlone(deliveryOf().delivery, scope);
    await settle();
    expect(handler.attempts[0]!.decide({ kind: 'ack' })).toBe(false);
    await clock.advance(10);
    await done;
    expect(handler.attempts.map(({ number: attempt }) => attempt)).toEqual([1, 2]);
  });

  it('is requeued unchanged when the application stops during the wait, or before it', async () => {
    const { handler, scope, clock } = newFailing({ maxRetries: 1, delayMs: 60_000, maxDelayMs: 60_000 });
    const [waiting, later] = [deliveryOf(), deliveryOf()];
    const done = processAlone(waiting.delivery, scope);
    await settle();
    scope.retryTimers.close();
    await Promise.all([done, processAlone(later.delivery, scope)]);
    expect([waiting.source.events, later.source.events]).toEqual([['requeue 1'], ['requeue 1']]);
    expect(handler.attempts.length).toBe(2);
    expect(clock.pendingTimers).toBe(0);
  });

  it('returns for the interrupted handler only, when another handler of the event is done', async () => {
    const done = new TestHandler('event', 'done', '#');
    const rejected = new TestHandler('event', 'rejected', '#', async () => failure('no'));
    const { handler } = newFailing({ maxRetries: 1, delayMs: 60_000, maxDelayMs: 60_000 });
    const { scope, clock, counters } = newBench([done, handler, rejected]);
    const test = deliveryOf();
    const processed = processAlone(test.delivery, scope);
    await settle();
    scope.retryTimers.close();
    await processed;
    expect(test.source.events).toEqual(['republish 1', 'republish 1', 'ack 1']);
    const [redelivery] = test.source.republished;
    expect(redelivery).toMatchObject({
      to: 'redelivery',
      delayMs: 0,
      headers: { 'stork-handler': 'h', 'stork-attempt': '2', 'stork-first-failed-at': expect.any(String) },
    });
    expect(counters.snapshot()).toEqual({ received: 1, handled: 1, failed: 1, 'dead-lettered': 1 });
    expect(clock.pendingTimers).toBe(0);
  });

  it('is dropped for all its handlers when its source is lost, also if one is done', async () => {
    const { handler } = newFailing({ maxRetries: 1, delayMs: 60_000, maxDelayMs: 60_000 });
    const { scope } = newBench([new TestHandler('event', 'done', '#'), handler]);
    const test = deliveryOf();
    const processed = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    await processed;
    expect(test.source.events).toEqual([]);
  });

  it('is dropped when its source is lost during the wait', async () => {
    const { handler, scope, counters, clock } = newFailing({
      maxRetries: 1,
      delayMs: 60_000,
      maxDelayMs: 60_000,
    });
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    await done;
    expect([test.source.events, handler.attempts.length, clock.pendingTimers]).toEqual([[], 1, 0]);
    expect(counters.get('stale-settlements')).toBe(1);
  });

  it('is dead-lettered when the application stops during the wait and it was acknowledged early', async () => {
    const { scope } = newFailing({ maxRetries: 1, delayMs: 60_000, maxDelayMs: 60_000 });
    const test = inMode('at-most-once');
    const done = processAlone(test.delivery, scope);
    await settle();
    scope.retryTimers.close();
    await done;
    expect(deadLetters(test)).toEqual([['retries-exhausted', 'h', '1']]);
  });

  it('goes through the broker with its number, its first failure and its due date, confirmed before it is settled', async () => {
    const { scope, clock, counters, handler } = newFailing({ maxRetries: 0, redeliverDelaysMs: [1_500] });
    const test = deliveryOf({ headers: { tenant: 'a' } });
    test.source.refusals = 1;
    const began = clock.now();
    const done = processAlone(test.delivery, scope);
    await settle();
    expect(test.source.events).toEqual(['republish 1']);
    await clock.advance(500);
    await done;
    expect(test.source.events).toEqual(['republish 1', 'republish 1', 'ack 1']);
    const iso = (ms: number): string => new Date(ms).toISOString();
    // As the driver has rounded it.
    expect(test.source.republished).toMatchObject([{ to: 'redelivery', delayMs: 2_000 }]);
    expect({ ...test.source.republished[0]!.headers }).toEqual({
      tenant: 'a',
      'stork-attempt': '2',
      'stork-handler': 'h',
      'stork-first-failed-at': iso(began),
      'stork-due-at': iso(began + 2_000),
      'stork-origin': 'orders',
    });
    expect(counters.snapshot()).toEqual({ received: 1, redelivered: 1 });
    const next = deliveryOf({ headers: test.source.republished[0]!.headers });
    await processAlone(next.delivery, scope);
    expect(handler.attempts.at(-1)).toMatchObject({ number: 2, firstFailedAt: began });
    expect(deadLetters(next)).toEqual([['retries-exhausted', 'h', '2']]);
  });

  it('waits in process where the broker cannot delay it', async () => {
    const { scope, driver, clock, handler } = newFailing({ maxRetries: 1 }, async (run) => {
      if (run.number === 1) run.decide({ kind: 'retry', delayMs: 5_000 });
      return undefined;
    });
    driver.roundDelay = () => undefined;
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    await clock.advance(5_000);
    await done;
    expect([handler.attempts.length, test.source.events]).toEqual([2, ['ack 1']]);
  });

  it.each(['-1', 'NaN', '1.5', '9'.repeat(10_000), ''])(
    'takes a hostile number for absent: %s',
    async (value) => {
      const { scope, handler, clock } = newFailing({ maxRetries: 1, delayMs: 1 });
      const headers = {
        'stork-attempt': value,
        'stork-first-failed-at': value,
        'stork-due-at': '9999-01-01T00:00:00.000Z',
      };
      const test = deliveryOf({ headers });
      const done = processAlone(test.delivery, scope);
      await settle();
      await clock.advance(1);
      await done;
      expect(handler.attempts.map(({ number: attempt }) => attempt)).toEqual([1, 2]);
      expect(deadLetters(test)).toEqual([['retries-exhausted', 'h', '2']]);
    },
  );

  it('with a number beyond its maximum is attempted once', async () => {
    const { scope, handler } = newFailing({ maxRetries: 1 });
    const test = deliveryOf({ headers: { 'stork-attempt': '999999999' } });
    await processAlone(test.delivery, scope);
    expect([handler.attempts.length, deadLetters(test)]).toEqual([
      1,
      [['retries-exhausted', 'h', '999999999']],
    ]);
  });

  it('that is a dead letter itself is redelivered to its handler, not as a dead letter for all handlers', async () => {
    const { scope } = newFailing({ maxRetries: 0, redeliverDelaysMs: [1_000] });
    const test = deliveryOf({ headers: { 'stork-death-reason': 'fatal', 'stork-error-name': 'E' } });
    await processAlone(test.delivery, scope);
    const { headers } = test.source.republished[0]!;
    expect([headers['stork-death-reason'], headers['stork-error-name'], headers['stork-attempt']]).toEqual([
      undefined,
      undefined,
      '2',
    ]);
  });
});

describe('a request whose handler fails', () => {
  it('gets the reply of the attempt that succeeds, without values of earlier attempts', async () => {
    const { scope, driver, clock } = newFailing(
      { maxRetries: 1, delayMs: 10, requests: true },
      async (run) => {
        await run.emit(`run ${run.number}`);
        return run.number === 1 ? passing('late') : undefined;
      },
      'message',
    );
    driver.target = replyToInbox;
    const ordinary = deliveryOf();
    const done = processAlone(ordinary.delivery, scope);
    // Not one turn: the first value would have gone out.
    await clock.advance(10);
    await done;
    expect(driver.sent).toEqual(['value "run 2"']);
  });

  it('gets the error where the next attempt would start after its deadline', async () => {
    const { scope, driver, clock } = newFailing(
      { maxRetries: 3, delayMs: 1_000, requests: true },
      async () => passing('no'),
      'message',
    );
    driver.target = replyToInbox;
    const deadline = new Date(clock.now() + 500).toISOString();
    const test = deliveryOf({ headers: { 'stork-deadline': deadline } });
    await processAlone(test.delivery, scope);
    expect(driver.error).toMatchObject({ message: 'no' });
    expect(test.source.events).toEqual(['ack 1']);
  });

  it('gets the error where the wait, e.g. for onRetry, has outlasted its deadline', async () => {
    const { scope, driver, clock, handler } = newFailing(
      { maxRetries: 3, delayMs: 10, onRetry: () => new Promise(() => {}) },
      async () => passing('no'),
      'message',
    );
    driver.target = replyToInbox;
    const deadline = new Date(clock.now() + 2_000).toISOString();
    const test = deliveryOf({ headers: { 'stork-deadline': deadline } });
    const done = processAlone(test.delivery, scope);
    await settle();
    await clock.advance(5_000);
    await done;
    expect(driver.error).toMatchObject({ message: 'no' });
    expect([handler.attempts.length, test.source.events]).toEqual([1, ['ack 1']]);
  });
});

describe('onRetry', () => {
  it('is awaited before the next attempt, for 5 s at most', async () => {
    const { scope, clock, handler, logger } = newFailing({
      maxRetries: 1,
      delayMs: 10,
      onRetry: () => new Promise(() => {}),
    });
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    await clock.advance(4_999);
    await settle();
    expect(handler.attempts.length).toBe(1);
    await clock.advance(1);
    await done;
    expect([handler.attempts.length, test.source.events.at(-1)]).toEqual([2, 'ack 1']);
    expect(logger.lines).toContain('error orders: onRetry of "h" failed: it has not ended within 5000 ms');
  });

  it('is awaited by a shutdown, like onDeadLetter', async () => {
    const gates = [newGate(), newGate()];
    const onRetry = () => gates[0]!.promise;
    const onDeadLetter = () => gates[1]!.promise;
    const retry = resolveRetry({ maxRetries: 1, delayMs: 0, onRetry });
    const handler = new TestHandler('event', 'h', '#', failing, {
      retry,
      deadLetter: resolveDeadLetter({ onDeadLetter }),
    });
    const { scope, clock } = newBench([handler]);
    void processAlone(deliveryOf().delivery, scope);
    for (const gate of gates) {
      await settle();
      await clock.advance(0);
      const settled = noteWhenDone(scope.hooks.settled());
      await settle();
      expect(settled.done).toBe(false);
      gate.open();
      await settle();
      expect(settled.done).toBe(true);
    }
  });
});

describe('under manual', () => {
  it('a retry requested after the handler has returned counts as an attempt', async () => {
    const { scope, handler, clock } = newFailing({ maxRetries: 1, delayMs: 10 }, async () => undefined);
    const test = inMode('manual');
    const done = processAlone(test.delivery, scope);
    await settle();
    expect(handler.attempts[0]!.decide({ kind: 'retry' })).toBe(true);
    await settle();
    await clock.advance(10);
    await settle();
    expect(handler.attempts[1]!.number).toBe(2);
    handler.attempts[1]!.decide({ kind: 'retry' });
    await done;
    expect(deadLetters(test)).toEqual([['retries-exhausted', 'h', '2']]);
  });

  it('ack() in a retried attempt settles in that moment', async () => {
    const gate = newGate();
    const events: string[][] = [];
    const test = inMode('manual');
    const { scope, clock } = newFailing({ maxRetries: 1, delayMs: 10 }, async (attempt) => {
      if (attempt.number === 1) return passing('no stock');
      attempt.decide({ kind: 'ack' });
      events.push([...test.source.events]);
      await gate.promise;
      return undefined;
    });
    const done = processAlone(test.delivery, scope);
    await settle();
    await clock.advance(10);
    await settle();
    expect(events).toEqual([['ack 1']]);
    gate.open();
    await done;
    expect(test.source.events).toEqual(['ack 1']);
  });

  it('retries requested later go on from the attempts before: number, first failure, maxElapsedMs', async () => {
    const { scope, handler, clock } = newFailing(
      { maxRetries: 10, delayMs: 1_000, factor: 1, maxElapsedMs: 2_500 },
      async ({ number }) => (number === 1 ? passing('no stock') : undefined),
    );
    const test = inMode('manual');
    const done = processAlone(test.delivery, scope);
    const failedAt = clock.now();
    for (const number of [2, 3]) {
      await settle();
      await clock.advance(1_000);
      await settle();
      const attempt = handler.attempts.at(-1)!;
      expect([attempt.number, attempt.firstFailedAt]).toEqual([number, failedAt]);
      attempt.decide({ kind: 'retry' });
    }
    await done;
    expect(deadLetters(test)).toEqual([['retries-exhausted', 'h', '3']]);
    expect(scope.counters.get('received')).toBe(1);
  });
});
