import { describe, expect, it } from 'vitest';
import type { DeliveryMode } from '../../../../lib/core/port/delivery.js';
import type { HandlerAttempt, HandlerDecision } from '../../../../lib/core/consume/handler-attempt.js';
import type { PipelineScope } from '../../../../lib/core/consume/pipeline.js';
import { newDelivery, newGate, newMessage, noteWhenDone, settle, type TestDelivery } from '../harness.js';
import {
  replyToInbox,
  failure,
  deadLetters,
  loseSource,
  newBench,
  refusal,
  TestHandler,
  processAlone,
} from '../pipeline-harness.js';

const ack: HandlerDecision = { kind: 'ack' };
const requeue: HandlerDecision = { kind: 'requeue' };
const reject: HandlerDecision = { kind: 'reject' };

function deliveryIn(mode: DeliveryMode, fields: Parameters<typeof newMessage>[0] = {}): TestDelivery {
  return newDelivery({ mode, message: newMessage(fields) });
}

describe('at-most-once', () => {
  it('is acknowledged before a handler runs, and dead-lettered when that fails', async () => {
    const gate = newGate();
    const handler = new TestHandler('event', 'h', '#', async () => failure('no'));
    const { scope, counters } = newBench([handler]);
    const test = deliveryIn('at-most-once');
    test.source.ackEarly = () => gate.promise;
    const done = processAlone(test.delivery, scope);
    await settle();
    expect(handler.attempts.length).toBe(0);
    gate.open();
    await done;
    expect([test.source.events, deadLetters(test)]).toEqual([['republish 1'], [['fatal', 'h', '1']]]);
    expect(counters.snapshot()).toEqual({ received: 1, failed: 1, 'dead-lettered': 1 });
  });

  it('is not processed when its source was lost before the early acknowledgement', async () => {
    const handler = new TestHandler('event', 'h', '#');
    const { scope, counters } = newBench([handler]);
    const test = deliveryIn('at-most-once');
    test.source.ackEarly = () => new Promise(() => {});
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    await done;
    expect([handler.attempts.length, test.source.events]).toEqual([0, []]);
    expect(counters.snapshot()).toEqual({ received: 1, 'stale-settlements': 1 });
  });

  it('continues after the end of its session: dead letter, reply', async () => {
    const gate = newGate();
    const handlers = ['event', 'message'] as const;
    for (const kind of handlers) {
      const handler = new TestHandler(kind, 'h', '#', async () => {
        await gate.promise;
        return failure('no');
      });
      const { scope, driver, counters } = newBench([handler]);
      if (kind === 'message') driver.target = replyToInbox;
      const test = deliveryIn('at-most-once');
      const done = processAlone(test.delivery, scope);
      await settle();
      test.session.end();
      gate.open();
      await done;
      expect(counters.snapshot()['stale-settlements']).toBeUndefined();
      if (kind === 'event') expect(deadLetters(test)).toEqual([['fatal', 'h', '1']]);
      else expect(driver.error).toMatchObject({ message: 'no' });
    }
  });

  it('retries its dead letter until the shutdown deadline, and logs the loss', async () => {
    const { scope, clock, logger } = newBench([
      new TestHandler('event', 'h', '#', async () => failure('no')),
    ]);
    const test = deliveryIn('at-most-once');
    test.source.refusals = Infinity;
    const done = noteWhenDone(processAlone(test.delivery, scope));
    await settle();
    test.session.end();
    await clock.advance(600);
    expect(done.done).toBe(false);
    test.delivery.abort();
    await settle();
    expect([done.done, test.source.events]).toEqual([
      true,
      ['ackEarly 1', 'republish 1', 'republish 1', 'republish 1'],
    ]);
    expect(logger.lines.at(-1)).toContain(refusal);
  });

  it('is not requeued when its reply is unconfirmed or its handler asks for it', async () => {
    const handler = new TestHandler('message', 'h', '#');
    const { scope, driver, clock } = newBench([handler], { random: () => 1 });
    driver.target = replyToInbox;
    driver.confirm = () => Promise.reject(new Error('the link is down'));
    const deadline = new Date(clock.now() + 400).toISOString();
    const test = deliveryIn('at-most-once', { headers: { 'stork-deadline': deadline } });
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['ackEarly 1']);

    const asking = new TestHandler('event', 'h', '#', async (run) => {
      expect(run.decide(requeue)).toBe(true);
      return undefined;
    });
    const other = deliveryIn('at-most-once');
    await processAlone(other.delivery, newBench([asking]).scope);
    expect(deadLetters(other)).toEqual([['rejected', 'h', '1']]);
  });

  it('is told to its caller as cut short where the shutdown did not wait for the whole of it', async () => {
    const handler = new TestHandler('message', 'h', '#', async ({ delivery }) => {
      delivery.abort();
      return undefined;
    });
    const { scope, driver } = newBench([handler]);
    driver.target = replyToInbox;
    await processAlone(deliveryIn('at-most-once').delivery, scope);
    expect(driver.error).toMatchObject({ name: 'AbortedError', retryable: true });
  });

  it('is not acknowledged early when it reaches no handler', async () => {
    const { scope } = newBench([new TestHandler('event', 'h', '#')]);
    const test = deliveryIn('at-most-once', { body: Buffer.from('{') });
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
  });
});

/** Handlers that hand out their runs and return. */
function keeping(ids: readonly string[], requeue: 'broker' | 'in-process' = 'broker') {
  const runs: HandlerAttempt[] = [];
  const handlers = ids.map(
    (id) =>
      new TestHandler('event', id, '#', async (run) => {
        runs.push(run);
        return undefined;
      }),
  );
  return { runs, ...newBench(handlers, { capabilities: { requeue: requeue } }) };
}

/** Processes a message until its handlers have returned and decide later. */
async function startDeferred(test: TestDelivery, scope: PipelineScope) {
  const later = noteWhenDone(processAlone(test.delivery, scope));
  await settle();
  expect(later.done).toBe(false);
  return later;
}

describe('manual', () => {
  it('acknowledges in the tick of the ack call, once, while the handler runs or afterwards', async () => {
    const { runs, scope, counters } = keeping(['h']);
    const test = deliveryIn('manual');
    const later = await startDeferred(test, scope);
    expect(test.source.events).toEqual([]);
    expect([runs[0]!.decide(ack), test.source.events, runs[0]!.decide(reject)]).toEqual([
      true,
      ['ack 1'],
      false,
    ]);
    await settle();
    expect(later.done).toBe(true);
    expect([test.source.events, counters.snapshot()]).toEqual([['ack 1'], { received: 1, handled: 1 }]);

    const events: string[][] = [];
    const early = deliveryIn('manual');
    const acks = new TestHandler('event', 'h', '#', async (run) => {
      run.decide(ack);
      events.push([...early.source.events]);
      return failure('too late');
    });
    const bench = newBench([acks]);
    await processAlone(early.delivery, bench.scope);
    expect([events, early.source.events]).toEqual([[['ack 1']], ['ack 1']]);
    expect(bench.logger.lines).toEqual([expect.stringContaining('failed after its ack: Error: too late')]);
    expect(bench.counters.snapshot()).toEqual({ received: 1, handled: 1 });
  });

  it.each([
    ['broker', ['requeue 1'], 1],
    ['in-process', [], 2],
  ] as const)('gives back after the usual pause (%s)', async (where, events, attempts) => {
    const { runs, scope, clock } = keeping(['h'], where);
    const test = deliveryIn('manual');
    const later = await startDeferred(test, scope);
    runs[0]!.decide(requeue);
    await settle();
    expect([later.done, test.source.events]).toEqual([false, []]);
    await clock.advance(1_000);
    await settle();
    expect([runs.length, test.source.events]).toEqual([attempts, events]);
  });

  it('dead-letters a rejected message, and acknowledges when that is confirmed', async () => {
    const { runs, scope } = keeping(['h']);
    const test = deliveryIn('manual');
    const later = await startDeferred(test, scope);
    runs[0]!.decide(reject);
    await settle();
    expect(later.done).toBe(true);
    expect([test.source.events, deadLetters(test)]).toEqual([
      ['republish 1', 'ack 1'],
      [['rejected', 'h', '1']],
    ]);
  });

  it('ends with its session: later ack and nack calls have no effect', async () => {
    const { runs, scope, counters } = keeping(['h']);
    const test = deliveryIn('manual');
    const later = await startDeferred(test, scope);
    loseSource(test);
    await settle();
    expect([later.done, runs[0]!.decide(ack), test.source.events]).toEqual([true, false, []]);
    expect(counters.snapshot()).toEqual({ received: 1, 'stale-settlements': 1 });
  });

  it('waits for every handler where several got a message after all', async () => {
    const { runs, scope } = keeping(['a', 'b']);
    const [both, mixed] = [deliveryIn('manual'), deliveryIn('manual')];
    const bothLater = await startDeferred(both, scope);
    runs[0]!.decide(ack);
    expect(both.source.events).toEqual([]);
    runs[1]!.decide(ack);
    await settle();
    expect([both.source.events, bothLater.done]).toEqual([['ack 1'], true]);
    await startDeferred(mixed, scope);
    runs[2]!.decide(ack);
    runs[3]!.decide(reject);
    await settle();
    expect([mixed.source.events, deadLetters(mixed)]).toEqual([
      ['republish 1', 'ack 1'],
      [['rejected', 'b', '1']],
    ]);
  });

  it('replies to a request before it is settled, and applies a decision made meanwhile', async () => {
    const gate = newGate<'confirmed'>();
    let run: HandlerAttempt | undefined;
    const handler = new TestHandler('message', 'h', '#', async (given) => {
      run = given;
      await given.emit(1);
      return undefined;
    });
    const { scope, driver } = newBench([handler]);
    driver.target = replyToInbox;
    driver.confirm = () => gate.promise;
    const test = deliveryIn('manual');
    const done = processAlone(test.delivery, scope);
    await settle();
    expect(run!.decide(reject)).toBe(true);
    gate.open('confirmed');
    await done;
    expect([test.source.events, driver.sent.at(-1)]).toEqual([
      ['republish 1', 'ack 1'],
      expect.not.stringMatching(/^error/),
    ]);
  });
});

describe('a decision outside manual', () => {
  const saying = (decision: HandlerDecision, end?: string) =>
    new TestHandler('event', 'h', '#', async (run) => {
      expect([run.decide(decision), run.decide(ack)]).toEqual([true, false]);
      return end === undefined ? undefined : failure(end);
    });

  it('says nothing any more when the handler has ended', async () => {
    let run: HandlerAttempt | undefined;
    const gate = newGate<undefined>();
    const handlers = [
      new TestHandler('event', 'a', '#', async (given) => void (run = given)),
      new TestHandler('event', 'b', '#', () => gate.promise),
    ];
    const { scope } = newBench(handlers);
    const test = deliveryIn('at-least-once');
    const done = processAlone(test.delivery, scope);
    await settle();
    expect(run!.decide(requeue)).toBe(false);
    gate.open(undefined);
    await done;
    expect(test.source.events).toEqual(['ack 1']);
  });

  it('ack: settled when the handler ends, a failure is only logged', async () => {
    const { scope, logger, counters } = newBench([saying(ack, 'too late')]);
    const test = deliveryIn('at-least-once');
    await processAlone(test.delivery, scope);
    expect([test.source.events, logger.lines.length]).toEqual([['ack 1'], 1]);
    expect(counters.snapshot()).toEqual({ received: 1, handled: 1 });
  });

  it('requeue: of one handler, for all of them, whatever they did', async () => {
    const handlers = [saying(requeue), new TestHandler('event', 'b', '#', async () => failure('no'))];
    const { scope, clock, counters } = newBench(handlers);
    const test = deliveryIn('at-least-once');
    const done = processAlone(test.delivery, scope);
    await settle();
    expect(test.source.events).toEqual([]);
    await clock.advance(1_000);
    await done;
    expect(test.source.events).toEqual(['requeue 1']);
    expect(counters.snapshot()).toEqual({ received: 1, requeued: 1 });
  });

  it('requeue on a request: no reply is sent, not even emitted values', async () => {
    const handler = new TestHandler('message', 'h', '#', async (run) => {
      await run.emit(1);
      run.decide(requeue);
      expect(run.emit(2)).toBe(false);
      return failure('and it failed');
    });
    const { scope, driver, clock } = newBench([handler]);
    driver.target = replyToInbox;
    const test = deliveryIn('at-least-once');
    const done = processAlone(test.delivery, scope);
    await settle();
    await clock.advance(1_000);
    await done;
    expect([driver.replies, test.source.events]).toEqual([[], ['requeue 1']]);
  });

  it('reject on a request: the caller gets an error, the message is dead-lettered', async () => {
    const handler = new TestHandler('message', 'h', '#', async (run) => {
      run.decide(reject);
      return undefined;
    });
    const { scope, driver } = newBench([handler]);
    driver.target = replyToInbox;
    const test = deliveryIn('at-least-once');
    await processAlone(test.delivery, scope);
    expect(driver.error).toMatchObject({ name: 'RejectedError', code: 'HANDLER_FAILED', retryable: false });
    expect(deadLetters(test)).toEqual([['rejected', 'h', '1']]);
  });

  it('does nothing once the message is lost', async () => {
    const test = deliveryIn('at-least-once');
    const handler = new TestHandler('event', 'h', '#', async (run) => {
      loseSource(test);
      expect(run.decide(ack)).toBe(false);
      return undefined;
    });
    await processAlone(test.delivery, newBench([handler]).scope);
    expect(test.source.events).toEqual([]);
  });

  it('requeue on a log: dead-lettered after the delivery limit, counted as one delivery', async () => {
    let attempts = 0;
    const handler = new TestHandler('event', 'h', '#', async (attempt) => {
      attempts++;
      attempt.decide(requeue);
      return undefined;
    });
    const { scope, clock, counters } = newBench([handler], {
      capabilities: { requeue: 'in-process' },
      deliveryLimit: 2,
    });
    const test = deliveryIn('at-least-once');
    const done = noteWhenDone(processAlone(test.delivery, scope));
    for (let seconds = 0; seconds < 3; seconds++) {
      await settle();
      expect(done.done).toBe(false);
      await clock.advance(1_000);
    }
    await settle();
    expect([done.done, attempts, deadLetters(test)]).toEqual([true, 3, [['delivery-limit', undefined, '1']]]);
    expect(counters.snapshot()).toEqual({ received: 1, 'dead-lettered': 1 });
  });
});
