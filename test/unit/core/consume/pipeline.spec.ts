import { describe, expect, it } from 'vitest';
import type { Failure } from '../../../../lib/core/runtime/failure.js';
import type { InboundMessage } from '../../../../lib/core/port/message.js';
import { resolveDeadLetter } from '../../../../lib/core/dead-letter/dead-letter-options.js';
import { resolveIdempotency } from '../../../../lib/core/idempotency/idempotency-options.js';
import { newMemoryStore } from '../../../support/stores.js';
import { resolveRetry } from '../../../../lib/core/retry/retry-options.js';
import { newPipeline } from '../../../../lib/core/consume/pipeline.js';
import type { ProcessingSlot } from '../../../../lib/core/consume/delivery-context.js';
import type { ReplyTarget } from '../../../../lib/core/port/message.js';
import { newCodecs, newDelivery, newGate, settle } from '../harness.js';
import {
  replyToInbox,
  deliveryOf,
  failure,
  freeSlot,
  deadLetters,
  loseSource,
  newBench,
  refusal,
  TestHandler,
  type Behaviour,
  processAlone,
} from '../pipeline-harness.js';

describe('an event', () => {
  it('is acknowledged when its handler has succeeded, and not before', async () => {
    const gate = newGate();
    const handler = new TestHandler('event', 'h', 'order.paid', async () => {
      await gate.promise;
      return undefined;
    });
    const { counters, scope } = newBench([handler]);
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    expect(test.source.events).toEqual([]);
    gate.open();
    await done;
    expect(test.source.events).toEqual(['ack 1']);
    expect(counters.snapshot()).toEqual({ received: 1, handled: 1 });
  });

  it('reaches its handler decoded, with the pattern that matched and what the headers say', async () => {
    const handler = new TestHandler('event', 'h', 'order.*');
    const { scope } = newBench([handler]);
    const test = deliveryOf({ patterns: ['nobody', 'order.paid'], headers: { 'stork-attempt': '2' } });
    await processAlone(test.delivery, scope);
    expect(handler.attempts).toMatchObject([
      { pattern: 'order.paid', value: { id: 1 }, metadata: { attempt: 2 } },
    ]);
    expect(handler.attempts[0]?.delivery).toBe(test.delivery);
  });

  it('that is a tombstone reaches its handler as null', async () => {
    const handler = new TestHandler('event', 'h', '#');
    const { scope } = newBench([handler]);
    await processAlone(deliveryOf({ body: null }).delivery, scope);
    expect(handler.attempts[0]?.value).toBeNull();
  });

  it('whose handler has failed is dead-lettered and then acknowledged', async () => {
    const handler = new TestHandler('event', 'Orders.paid', '#', async () =>
      failure('no stock', 'retries-exhausted'),
    );
    const { counters, logger, scope } = newBench([handler]);
    const test = deliveryOf({ headers: { 'stork-attempt': '3', tenant: 'a' } });
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    expect(deadLetters(test)).toEqual([['retries-exhausted', 'Orders.paid', '3']]);
    expect(test.source.republished[0]!.headers).toMatchObject({
      tenant: 'a',
      'stork-error-message': 'no stock',
      'stork-origin': 'orders',
      'stork-failed-at': '2026-01-01T00:00:00.000Z',
    });
    expect(counters.snapshot()).toEqual({ received: 1, failed: 1, 'dead-lettered': 1 });
    expect(logger.lines).toEqual([
      'warn orders: handler "Orders.paid", message "m-1", pattern "order.paid", attempt 3 of 1 failed: Error: no stock; ' +
        'dead-lettered in "orders.dlq", reason retries-exhausted',
    ]);
  });

  it('with several handlers runs all at once and makes a dead letter for each that failed', async () => {
    const gate = newGate();
    const waiting: Behaviour = async () => {
      await gate.promise;
      return undefined;
    };
    const handlers = [
      new TestHandler('event', 'ok', '#', waiting),
      new TestHandler('event', 'bad', 'order.*', async () => failure('one')),
      new TestHandler('event', 'worse', 'order.paid', async () => failure('two', 'invalid')),
      new TestHandler('message', 'answers', 'order.paid'),
    ];
    const { counters, scope } = newBench(handlers);
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    expect(handlers.map(({ attempts: runs }) => runs.length)).toEqual([1, 1, 1, 0]);
    expect(test.source.events).toEqual([]);
    gate.open();
    await done;
    expect(test.source.events).toEqual(['republish 1', 'republish 1', 'ack 1']);
    expect(deadLetters(test)).toEqual([
      ['fatal', 'bad', '1'],
      ['invalid', 'worse', '1'],
    ]);
    expect(counters.snapshot()).toEqual({ received: 1, handled: 1, failed: 2, 'dead-lettered': 2 });
  });

  it('that is addressed to one handler reaches that one only', async () => {
    const handlers = [new TestHandler('event', 'a', '#'), new TestHandler('event', 'b', 'something.else')];
    const { scope } = newBench(handlers);
    await processAlone(deliveryOf({ headers: { 'stork-handler': 'b' } }).delivery, scope);
    expect(handlers.map(({ attempts: runs }) => runs.length)).toEqual([0, 1]);
  });

  it('reaches a message handler where there is no event handler, whose result is dropped', async () => {
    const handler = new TestHandler('message', 'm', '#', async (run) => {
      expect(run.emit('result')).toBe(true);
      return undefined;
    });
    const { driver, scope } = newBench([handler]);
    const test = deliveryOf();
    await processAlone(test.delivery, scope);
    expect([driver.replies, test.source.events]).toEqual([[], ['ack 1']]);
  });
});

describe('a message whose deadline is over', () => {
  it('is acknowledged undecoded, without a reply', async () => {
    const handler = new TestHandler('message', 'm', '#');
    const { driver, clock, counters, scope } = newBench([handler]);
    driver.target = replyToInbox;
    const deadline = (ms: number): string => new Date(clock.now() + ms).toISOString();
    const late = deliveryOf({ headers: { 'stork-deadline': deadline(0) }, body: Buffer.from('{') });
    await processAlone(late.delivery, scope);
    expect([late.source.events, driver.replies, handler.attempts]).toEqual([['ack 1'], [], []]);
    expect(counters.snapshot()).toEqual({ received: 1, expired: 1 });
    await processAlone(deliveryOf({ headers: { 'stork-deadline': deadline(1) } }).delivery, scope);
    expect(handler.attempts).toHaveLength(1);
  });

  it('is processed for as long after it as clocks may differ', async () => {
    const handler = new TestHandler('message', 'm', '#');
    const { driver, clock, scope } = newBench([handler]);
    driver.target = replyToInbox;
    const skewed = { ...scope, clockSkewMs: 5_000 };
    const run = (sinceMs: number): Promise<unknown> => {
      const deadline = new Date(clock.now() - sinceMs).toISOString();
      return processAlone(deliveryOf({ headers: { 'stork-deadline': deadline } }).delivery, skewed);
    };
    await run(4_999);
    await run(5_000);
    expect(handler.attempts).toHaveLength(1);
  });

  it('is handled nevertheless when it is not a request', async () => {
    const handler = new TestHandler('event', 'h', '#');
    const { scope } = newBench([handler]);
    await processAlone(
      deliveryOf({ headers: { 'stork-deadline': '2020-01-01T00:00:00.000Z' } }).delivery,
      scope,
    );
    expect(handler.attempts).toHaveLength(1);
  });
});

describe('a message that no handler may see', () => {
  const cases: Record<string, { message: Partial<InboundMessage>; reason: string; code: string }> = {
    'is too large': { message: { body: Buffer.alloc(1_001) }, reason: 'invalid', code: 'INVALID' },
    'cannot be decoded': { message: { body: Buffer.from('{') }, reason: 'undecodable', code: 'UNDECODABLE' },
    'has headers that cannot be decoded': {
      message: { headersError: 'nested too deeply' },
      reason: 'undecodable',
      code: 'UNDECODABLE',
    },
    'has an unknown content type': {
      message: { contentType: 'image/png' },
      reason: 'undecodable',
      code: 'UNDECODABLE',
    },
    'nobody listens to': { message: { patterns: ['x', 'y'] }, reason: 'no-handler', code: 'NO_HANDLER' },
    'is for a handler that is gone': {
      message: { patterns: ['x'], headers: { 'stork-handler': 'Gone.one' } },
      reason: 'no-handler',
      code: 'NO_HANDLER',
    },
  };

  it.each(Object.keys(cases))('because it %s is dead-lettered', async (name) => {
    const { message, reason } = cases[name]!;
    const handler = new TestHandler('event', 'h', 'order.paid');
    const { counters, driver, scope } = newBench([handler]);
    const test = deliveryOf(message);
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    expect(deadLetters(test)).toEqual([[reason, message.headers?.['stork-handler'], '1']]);
    expect(counters.snapshot()).toEqual({ received: 1, 'dead-lettered': 1 });
    expect([handler.attempts, driver.replies]).toEqual([[], []]);
  });

  it.each(Object.keys(cases))('because it %s also gets an error reply if it is a request', async (name) => {
    const { message, reason, code } = cases[name]!;
    const handler = new TestHandler('message', 'h', 'order.paid');
    const { driver, scope } = newBench([handler]);
    driver.target = replyToInbox;
    const test = deliveryOf({ ...message, correlationId: 'r-1' });
    await processAlone(test.delivery, scope);
    expect(driver.error).toMatchObject({ code, retryable: false });
    expect(driver.replies[0]?.correlationId).toBe('r-1');
    expect(deadLetters(test)).toMatchObject([[reason, message.headers?.['stork-handler'], '1']]);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
  });

  it('is dead-lettered even if its caller is gone, which is counted', async () => {
    const { driver, counters, scope } = newBench([]);
    driver.target = replyToInbox;
    driver.confirm = () => Promise.resolve('undeliverable');
    const test = deliveryOf();
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    expect(counters.snapshot()).toEqual({ received: 1, 'reply-undeliverable': 1, 'dead-lettered': 1 });
  });

  it('is dead-lettered even if the reply to its caller is not confirmed, which is logged', async () => {
    const { driver, counters, logger, scope } = newBench([]);
    driver.target = replyToInbox;
    driver.confirm = () => Promise.reject(new Error('channel closed'));
    const test = deliveryOf();
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    expect(counters.snapshot()).toEqual({ received: 1, 'dead-lettered': 1 });
    expect(logger.lines[0]).toBe('warn orders: an error reply was not confirmed: channel closed');
  });

  it('may be exactly as large as is allowed', async () => {
    const handler = new TestHandler('event', 'h', '#');
    const { scope } = newBench([handler]);
    const body = Buffer.from(JSON.stringify('x'.repeat(998)));
    await processAlone(deliveryOf({ body }).delivery, scope);
    expect([body.length, handler.attempts.length]).toEqual([1_000, 1]);
  });

  it('because its reply address is forged is dead-lettered, with the reason, without a reply', async () => {
    const handler = new TestHandler('message', 'm', '#');
    const { driver, scope } = newBench([handler]);
    driver.target = { kind: 'forged', why: 'the queue "orders" is no inbox' };
    const test = deliveryOf();
    await processAlone(test.delivery, scope);
    expect([driver.replies, handler.attempts]).toEqual([[], []]);
    expect(deadLetters(test)).toEqual([['invalid', undefined, '1']]);
    expect(test.source.republished[0]!.headers['stork-error-message']).toBe('the queue "orders" is no inbox');
  });

  it('because only event handlers listen is dead-lettered if it is a request', async () => {
    const handler = new TestHandler('event', 'e', '#');
    const { driver, scope } = newBench([handler]);
    driver.target = replyToInbox;
    await processAlone(deliveryOf().delivery, scope);
    expect(driver.error).toMatchObject({
      code: 'NO_HANDLER',
      message: 'no handler for pattern "order.paid"',
    });
    expect(handler.attempts).toEqual([]);
  });

  it('waits, its source paused, while the dead letter cannot be written', async () => {
    const { clock, blocked, counters, scope } = newBench([]);
    const test = deliveryOf();
    test.source.refusals = 2;
    const done = processAlone(test.delivery, scope);
    await clock.advance(1_499);
    expect([test.source.events, blocked]).toEqual([['republish 1', 'republish 1'], [refusal]]);
    await clock.advance(1);
    await done;
    expect([test.source.events.at(-1), blocked]).toEqual(['ack 1', [refusal, undefined]]);
    expect(counters.get('dead-lettered')).toBe(1);
  });

  it('is dead-lettered even if its codec throws an error whose name and message are no text', async () => {
    const decode = (): never => {
      throw Object.assign(new Error('x'), { name: 5, message: { fields: ['a'] } });
    };
    const codec = { contentType: 'x/own', encode: (): Buffer => Buffer.alloc(0), decode };
    const { scope } = newBench([new TestHandler('event', 'h', '#')], { codecs: newCodecs(codec) });
    const test = deliveryOf({ contentType: 'x/own' });
    await processAlone(test.delivery, scope);
    expect(deadLetters(test)).toEqual([['undecodable', undefined, '1']]);
  });

  it('is dead-lettered even if a sender wrote a time that is none', async () => {
    const { scope } = newBench([]);
    const test = deliveryOf({ timestamp: 1.767e18 });
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
  });
});

describe('a message without a handler, where others read the source too', () => {
  it('is skipped and counted', async () => {
    const { counters, scope } = newBench([], { onUnhandled: 'skip' });
    const test = deliveryOf();
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['ack 1']);
    expect(counters.snapshot()).toEqual({ received: 1, skipped: 1 });
  });

  it('still gets an error reply if it is a request', async () => {
    const { driver, scope } = newBench([], { onUnhandled: 'skip' });
    driver.target = replyToInbox;
    const test = deliveryOf();
    await processAlone(test.delivery, scope);
    expect(driver.error).toMatchObject({ code: 'NO_HANDLER' });
    expect(test.source.events).toEqual(['ack 1']);
  });

  it('does not make an undecodable one skipped', async () => {
    const { scope } = newBench([new TestHandler('event', 'h', '#')], { onUnhandled: 'skip' });
    const test = deliveryOf({ body: Buffer.from('{') });
    await processAlone(test.delivery, scope);
    expect(deadLetters(test)).toMatchObject([['undecodable', undefined, '1']]);
  });
});

describe('a message without a handler that may return', () => {
  const onUnhandled = { redeliverMs: 1_000, times: 2 };
  const returnable = (fields: Partial<InboundMessage> = {}) => {
    const bench = newBench([], { onUnhandled });
    return { ...bench, test: deliveryOf(fields) };
  };

  it('is sent back with its headers, its attempt and its handler, and is acknowledged when that is confirmed', async () => {
    const own = { tenant: 'blue', 'stork-handler': 'Gone.one', 'stork-attempt': '3' };
    const headers = {
      ...own,
      'stork-unhandled-count': '1',
      'stork-first-failed-at': '2026-01-01T00:00:00.000Z',
    };
    const { counters, clock, scope, test } = returnable({ headers });
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    expect(test.source.republished).toEqual([
      {
        to: 'redelivery',
        delayMs: 1_000,
        isDeferral: true,
        isForOtherConsumer: true,
        headers: {
          ...headers,
          'stork-unhandled-count': '2',
          'stork-origin': 'orders',
          'stork-due-at': new Date(clock.now() + 1_000).toISOString(),
        },
      },
    ]);
    expect(counters.snapshot()).toEqual({ received: 1, 'unhandled-redelivered': 1 });
  });

  it('stays what it is if it is a dead letter, whose handler is another matter', async () => {
    const headers = {
      'stork-death-reason': 'fatal',
      'stork-error-name': 'TypeError',
      'stork-handler': 'A.b',
    };
    const { scope, test } = returnable({ headers });
    await processAlone(test.delivery, scope);
    expect(test.source.republished).toMatchObject([{ to: 'redelivery', headers }]);
  });

  it('is returned although its body is too large or undecodable here', async () => {
    const { scope, counters } = returnable();
    await processAlone(deliveryOf({ body: Buffer.alloc(1_001) }).delivery, scope);
    await processAlone(deliveryOf({ contentType: 'image/png' }).delivery, scope);
    expect(counters.get('unhandled-redelivered')).toBe(2);
  });

  it('is not returned if its reply address is forged', async () => {
    const { driver, scope, test } = returnable();
    driver.target = { kind: 'forged', why: 'no inbox' };
    await processAlone(test.delivery, scope);
    expect(deadLetters(test)).toEqual([['invalid', undefined, '1']]);
  });

  it.each([
    [1_500, 'dead-letter'],
    [1_501, 'redelivery'],
  ])('returns as a request only if its caller can still be answered: %i ms', async (waitsMs, to) => {
    const { driver, clock, scope } = returnable();
    driver.target = replyToInbox;
    const deadline = new Date(clock.now() + waitsMs).toISOString();
    const test = deliveryOf({ headers: { 'stork-deadline': deadline } });
    await processAlone(test.delivery, scope);
    expect(test.source.republished.map((message) => message.to)).toEqual([to]);
    expect(driver.replies.length).toBe(to === 'redelivery' ? 0 : 1);
  });

  it.each([
    [2_000, '1', 'dead-letter'],
    [2_001, '1', 'redelivery'],
    [1_000, undefined, 'dead-letter'],
    [1_001, undefined, 'redelivery'],
  ])('returns only within its expiry: %i ms, returned before: %s', async (expiresInMs, count, to) => {
    const { scope, test } = returnable({ expiresInMs, headers: { 'stork-unhandled-count': count } });
    await processAlone(test.delivery, scope);
    expect(test.source.republished.map((message) => message.to)).toEqual([to]);
  });

  it('is acknowledged first under at-most-once, and is not sent back without that', async () => {
    const { scope } = returnable();
    const test = newDelivery({ mode: 'at-most-once' });
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['ackEarly 1', 'republish 1']);
    const lost = newDelivery({ mode: 'at-most-once' });
    lost.source.ackEarly = () => Promise.reject(new Error('the channel is closed'));
    await processAlone(lost.delivery, scope);
    expect(lost.source.events).toEqual([]);
  });

  it('is acknowledged when it can be sent back, and not before', async () => {
    const { clock, blocked, scope, test } = returnable();
    test.source.refusals = 1;
    const done = processAlone(test.delivery, scope);
    await clock.advance(500);
    await done;
    expect(test.source.events).toEqual(['republish 1', 'republish 1', 'ack 1']);
    expect(blocked).toEqual([refusal, undefined]);
  });

  it('is warned of once for each pattern and each handler that is gone, of 1 000 at most', async () => {
    const { logger, scope } = returnable();
    const send = (fields: Partial<InboundMessage>) => processAlone(deliveryOf(fields).delivery, scope);
    for (let n = 0; n < 3; n++) {
      await send({ patterns: ['a'] });
      await send({ patterns: ['b'] });
      await send({ patterns: ['a'], headers: { 'stork-handler': 'Gone.one' } });
    }
    expect(logger.lines).toEqual([
      expect.stringMatching(/^warn orders: no handler for pattern "a".* every 1000 ms, up to 2 times/),
      expect.stringContaining('no handler for pattern "b"'),
      expect.stringContaining('no handler with the id "Gone.one" for pattern "a"'),
    ]);
    for (let n = 0; n < 1_100; n++) await send({ patterns: [`forged.${n}`] });
    expect(logger.lines).toHaveLength(1_000);
  });
});

describe('a request', () => {
  const messageHandler = (...values: unknown[]): TestHandler =>
    new TestHandler('message', 'm', '#', async (run) => {
      for (const value of values) await run.emit(value);
      return undefined;
    });

  it('is acknowledged when its reply is confirmed, and not before', async () => {
    const { driver, counters, scope } = newBench([
      messageHandler({ sum: 3 }),
      new TestHandler('event', 'e', '#'),
    ]);
    driver.target = replyToInbox;
    const gate = newGate<'confirmed'>();
    driver.confirm = () => gate.promise;
    const test = deliveryOf({ correlationId: 'r-1' });
    const done = processAlone(test.delivery, scope);
    await settle();
    expect([driver.sent, test.source.events]).toEqual([['value {"sum":3}'], []]);
    gate.open('confirmed');
    await done;
    expect(test.source.events).toEqual(['ack 1']);
    expect(driver.replies[0]?.correlationId).toBe('r-1');
    expect(counters.snapshot()).toEqual({ received: 1, handled: 1 });
  });

  it('without an id of its own is answered with the id of the message', async () => {
    const { driver, scope } = newBench([messageHandler(1)]);
    driver.target = replyToInbox;
    await processAlone(deliveryOf({ messageId: 'm-7' }).delivery, scope);
    await processAlone(deliveryOf({ messageId: undefined }).delivery, scope);
    expect(driver.replies.map(({ correlationId }) => correlationId)).toEqual(['m-7', '']);
  });

  it('may have several reply items or none', async () => {
    const many = newBench([messageHandler(1, 2)]);
    many.driver.target = replyToInbox;
    await processAlone(deliveryOf().delivery, many.scope);
    const none = newBench([messageHandler()]);
    none.driver.target = replyToInbox;
    await processAlone(deliveryOf().delivery, none.scope);
    expect([many.driver.sent, none.driver.sent]).toEqual([['item 1', 'item 2', 'end'], ['end']]);
  });

  it('whose handler fails is answered with the error and done: no dead letter', async () => {
    const handler = new TestHandler('message', 'm', '#', async () => failure('no stock'));
    const { driver, counters, scope } = newBench([handler]);
    driver.target = replyToInbox;
    const test = deliveryOf();
    await processAlone(test.delivery, scope);
    expect(driver.error).toMatchObject({ message: 'no stock', code: 'HANDLER_FAILED' });
    expect(test.source.events).toEqual(['ack 1']);
    expect(counters.snapshot()).toEqual({ received: 1, failed: 1 });
  });

  it('whose caller is gone is done too, and counted', async () => {
    const { driver, counters, scope } = newBench([messageHandler(1)]);
    driver.target = replyToInbox;
    driver.confirm = () => Promise.resolve('undeliverable');
    const test = deliveryOf();
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual(['ack 1']);
    expect(counters.snapshot()).toEqual({ received: 1, handled: 1, 'reply-undeliverable': 1 });
  });

  it.each(['broker', 'in-process'] as const)(
    'whose reply is unconfirmed gets it again until it is confirmed, and its handler is not called again (requeue: %s)',
    async (requeue) => {
      const handler = messageHandler(1);
      const bench = newBench([handler], { capabilities: { requeue }, deliveryLimit: 0, random: () => 1 });
      const { driver, clock, counters, logger, scope } = bench;
      driver.target = replyToInbox;
      driver.confirm = () => Promise.reject(new Error('channel closed'));
      const test = deliveryOf();
      const done = processAlone(test.delivery, scope);
      await clock.advance(500);
      await clock.advance(999);
      expect([driver.sent, test.source.events]).toEqual([['value 1', 'value 1'], []]);
      driver.confirm = () => Promise.resolve('confirmed');
      await clock.advance(1);
      await done;
      expect(driver.sent).toEqual(['value 1', 'value 1', 'value 1']);
      expect(handler.attempts).toHaveLength(1);
      expect(test.source.events).toEqual(['ack 1']);
      expect(counters.snapshot()).toEqual({ received: 1, handled: 1 });
      expect(logger.lines).toEqual([
        'warn orders: a reply was not confirmed and is sent again: channel closed',
      ]);
    },
  );

  it.each([
    ['the deadline of its caller', 5_000, 5_000],
    ['a minute, where it has none', undefined, 60_000],
    ['ten minutes, where its caller waits longer', 3_600_000, 600_000],
  ])('whose reply is never confirmed counts as handled after %s', async (_, deadlineMs, limitMs) => {
    const handler = messageHandler(1);
    const { driver, clock, counters, logger, scope } = newBench([handler], { random: () => 1 });
    driver.target = replyToInbox;
    driver.confirm = () => Promise.reject(new Error('queue full'));
    const deadline = deadlineMs === undefined ? undefined : new Date(clock.now() + deadlineMs).toISOString();
    const test = deliveryOf({ headers: deadline === undefined ? {} : { 'stork-deadline': deadline } });
    const done = processAlone(test.delivery, scope);
    const began = clock.now();
    while (test.source.events.length === 0 && clock.now() - began < limitMs) await clock.advance(500);
    await done;
    expect(limitMs - (clock.now() - began)).toBeLessThan(10_500);
    expect(handler.attempts).toHaveLength(1);
    expect(test.source.events).toEqual(['ack 1']);
    expect(counters.snapshot()).toEqual({ received: 1, handled: 1, 'reply-undeliverable': 1 });
    expect(logger.lines.at(-1)).toBe(
      'warn orders: a reply was not confirmed in time: queue full; the request counts as handled',
    );
  });

  it('that streams past the deadline of its caller, whose time-out each item restarts, has its items sent again', async () => {
    const deadlineIsOver = newGate();
    const handler = new TestHandler('message', 'm', '#', async (run) => {
      await run.emit(1);
      await deadlineIsOver.promise;
      await run.emit(2);
      return undefined;
    });
    const { driver, clock, scope } = newBench([handler], { random: () => 1 });
    driver.target = replyToInbox;
    const headers = { 'stork-deadline': new Date(clock.now() + 1_000).toISOString() };
    const test = deliveryOf({ headers });
    const done = processAlone(test.delivery, scope);
    await settle();
    await clock.advance(2_000);
    driver.confirm = () => Promise.reject(new Error('channel closed'));
    deadlineIsOver.open();
    await settle();
    driver.confirm = () => Promise.resolve('confirmed');
    await clock.advance(500);
    await done;
    expect(driver.sent).toEqual(['item 1', 'item 2', 'item 2', 'end']);
    expect(test.source.events).toEqual(['ack 1']);
  });

  it('whose source is lost while its reply is sent again sends no more', async () => {
    const { driver, clock, counters, scope } = newBench([messageHandler(1)], { random: () => 1 });
    driver.target = replyToInbox;
    driver.confirm = () => Promise.reject(new Error('connection lost'));
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    await done;
    await clock.advance(60_000);
    expect([driver.sent, test.source.events]).toEqual([['value 1'], []]);
    expect(counters.snapshot()).toEqual({ received: 1, handled: 1, 'stale-settlements': 1 });
  });

  it('names the failure of a handler that is called again because another has requeued the message', async () => {
    const failing = new TestHandler('event', 'a', '#', async () => failure('its row is locked'));
    const requeuing = new TestHandler('event', 'b', '#', async (attempt) => {
      attempt.decide({ kind: 'requeue' });
      return undefined;
    });
    const { logger, clock, scope } = newBench([failing, requeuing]);
    const test = deliveryOf({ messageId: 'm-1' });
    const done = processAlone(test.delivery, scope);
    await settle();
    await clock.advance(1_000);
    await done;
    expect(test.source.events).toEqual(['requeue 1']);
    expect(logger.lines).toEqual([
      'warn orders: handler "a", message "m-1", pattern "order.paid", attempt 1 of 1 failed: Error: its row is locked; ' +
        'the handler is called again, because another handler has requeued the message',
    ]);
  });

  it('stops a stream whose caller has gone', async () => {
    const heard: boolean[] = [];
    const handler = new TestHandler('message', 'm', '#', async (run) => {
      for (let i = 0; i < 4; i++) {
        heard.push(run.emit(i) as boolean);
        await settle();
      }
      return undefined;
    });
    const { driver, scope } = newBench([handler]);
    driver.target = replyToInbox;
    driver.confirm = () => Promise.resolve('undeliverable');
    await processAlone(deliveryOf().delivery, scope);
    expect(heard).toEqual([true, false, false, false]);
    expect(driver.sent).toEqual(['item 0']);
  });
});

describe('a manual request that is retried while its reply is on its way', () => {
  it('gets that reply alone, and keeps its slot and key during the next attempt', async () => {
    const confirmation = newGate<'confirmed'>();
    const nextAttempt = newGate();
    const behaviour: Behaviour = async (attempt) => {
      await attempt.emit(`attempt ${attempt.number}`);
      if (attempt.number === 2) await nextAttempt.promise;
      return undefined;
    };
    const retry = resolveRetry({ maxRetries: 1, delayMs: 0 });
    const handler = new TestHandler('message', 'm', '#', behaviour, { retry });
    const { driver, clock, scope } = newBench([handler]);
    driver.target = replyToInbox;
    driver.confirm = () => confirmation.promise;
    const { delivery, source } = newDelivery({ mode: 'manual' });
    const events: string[] = [];
    const free = freeSlot(delivery, scope);
    const slot: ProcessingSlot = {
      ...free,
      wait: (...args) => {
        events.push('wait');
        return free.wait(...args);
      },
      leave: () => void events.push('leave'),
    };

    const done = newPipeline(scope)(delivery, slot);
    await settle();
    handler.attempts[0]!.decide({ kind: 'retry', delayMs: undefined });
    await settle();
    await clock.advance(1);
    expect(handler.attempts).toHaveLength(2);
    confirmation.open('confirmed');
    await settle();
    // A slot that is left now would let the next message of the key start beside the second attempt.
    expect(events).toEqual(['leave', 'wait']);
    handler.attempts[1]!.decide({ kind: 'ack' });
    nextAttempt.open();
    await done;
    expect([driver.sent, source.events]).toEqual([['value "attempt 1"'], ['ack 1']]);
  });
});

describe('a session that ends', () => {
  it('while the handler of an event runs leaves the message to be delivered again', async () => {
    for (const result of [undefined, failure('no')]) {
      const gate = newGate<Failure | undefined>();
      const { counters, scope } = newBench([new TestHandler('event', 'h', '#', () => gate.promise)]);
      const test = deliveryOf();
      const done = processAlone(test.delivery, scope);
      loseSource(test);
      gate.open(result);
      await done;
      expect(test.source.events).toEqual([]);
      expect(counters.snapshot()).toEqual({ received: 1, 'stale-settlements': 1 });
    }
  });

  it('while a codec decodes, or the reply address is read, starts no handler', async () => {
    const decoded = newGate<unknown>();
    const slow = {
      contentType: 'application/json',
      encode: () => Buffer.alloc(0),
      decode: () => decoded.promise,
    };
    const address = newGate<ReplyTarget>();
    for (const [fields, target] of [
      [{ codecs: newCodecs(slow) }, undefined],
      [{}, address.promise],
    ] as const) {
      const handler = new TestHandler('event', 'h', '#', () => Promise.resolve(undefined));
      const { driver, counters, scope } = newBench([handler], fields);
      if (target !== undefined) driver.target = target;
      const test = deliveryOf();
      const done = processAlone(test.delivery, scope);
      loseSource(test);
      decoded.open(1);
      address.open({ kind: 'none' });
      await done;
      expect([handler.attempts, test.source.events]).toEqual([[], []]);
      expect(counters.snapshot()).toEqual({ received: 1, 'stale-settlements': 1 });
    }
  });

  it('while a dead letter is on its way leaves the message to be delivered again', async () => {
    const gate = newGate();
    const { counters, scope } = newBench([]);
    const test = deliveryOf();
    test.source.gate = gate.promise;
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    gate.open();
    await done;
    expect(test.source.events).toEqual(['republish 1']);
    expect(counters.snapshot()).toEqual({ received: 1, 'stale-settlements': 1 });
  });

  it('between two publishes of a dead letter ends the retries', async () => {
    const { clock, blocked, counters, scope } = newBench([]);
    const test = deliveryOf();
    test.source.refusals = Infinity;
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    await clock.advance(500);
    await done;
    expect([test.source.events, blocked, counters.get('stale-settlements')]).toEqual([
      ['republish 1'],
      [refusal, undefined],
      1,
    ]);
  });

  it('while an error reply is being confirmed publishes no dead letter', async () => {
    const gate = newGate<'confirmed'>();
    const { driver, counters, scope } = newBench([]);
    driver.target = replyToInbox;
    driver.confirm = () => gate.promise;
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    gate.open('confirmed');
    await done;
    expect(test.source.events).toEqual([]);
    expect(counters.snapshot()).toEqual({ received: 1, 'stale-settlements': 1 });
  });

  it('while the caller of a skipped message is told acknowledges nothing', async () => {
    const gate = newGate<'confirmed'>();
    const { driver, counters, scope } = newBench([], { onUnhandled: 'skip' });
    driver.target = replyToInbox;
    driver.confirm = () => gate.promise;
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    gate.open('confirmed');
    await done;
    expect([test.source.events, counters.get('stale-settlements')]).toEqual([[], 1]);
  });

  it('while the handler of a request runs sends no reply, and acknowledges nothing', async () => {
    const gate = newGate<Failure | undefined>();
    const { driver, counters, scope } = newBench([new TestHandler('message', 'm', '#', () => gate.promise)]);
    driver.target = replyToInbox;
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    loseSource(test);
    gate.open(undefined);
    await done;
    expect([driver.sent, test.source.events]).toEqual([[], []]);
    expect(counters.snapshot()).toEqual({ received: 1, 'stale-settlements': 1 });
  });

  it('while the reply is being confirmed acknowledges nothing', async () => {
    const gate = newGate<'confirmed'>();
    const { driver, counters, scope } = newBench([new TestHandler('message', 'm', '#')]);
    driver.target = replyToInbox;
    driver.confirm = () => gate.promise;
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    gate.open('confirmed');
    await done;
    expect([test.source.events, counters.get('stale-settlements')]).toEqual([[], 1]);
  });

  it('lets nothing out that a handler emits afterwards, or had emitted in the same turn', async () => {
    const gate = newGate();
    const heard: boolean[] = [];
    const handler = new TestHandler('message', 'm', '#', async (run) => {
      heard.push(run.emit(1) as boolean);
      await gate.promise;
      heard.push(run.emit(2) as boolean);
      return undefined;
    });
    const { driver, scope } = newBench([handler]);
    driver.target = replyToInbox;
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    loseSource(test);
    gate.open();
    await done;
    await settle();
    expect([heard, driver.sent]).toEqual([[true, false], []]);
  });

  it('in the delay before a request is requeued requeues nothing', async () => {
    const { driver, clock, counters, scope } = newBench([new TestHandler('message', 'm', '#')]);
    driver.target = replyToInbox;
    driver.confirm = () => Promise.reject(new Error('channel closed'));
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    await clock.advance(1_000);
    await done;
    expect(test.source.events).toEqual([]);
    expect(counters.snapshot()).toEqual({ received: 1, handled: 1, 'stale-settlements': 1 });
  });

  it('before anything began acknowledges nothing of what is over', async () => {
    const { driver, counters, scope } = newBench([]);
    driver.target = replyToInbox;
    const test = deliveryOf({ headers: { 'stork-deadline': '2020-01-01T00:00:00.000Z' } });
    loseSource(test);
    await processAlone(test.delivery, scope);
    expect(test.source.events).toEqual([]);
    expect(counters.snapshot()).toEqual({ received: 1, expired: 1, 'stale-settlements': 1 });
  });
});

describe('a shutdown that has lost its patience', () => {
  it('while a handler runs requeues its message, whatever its outcome', async () => {
    for (const result of [undefined, failure('no')]) {
      const gate = newGate<Failure | undefined>();
      const { counters, scope } = newBench([new TestHandler('event', 'h', '#', () => gate.promise)]);
      const test = deliveryOf();
      const done = processAlone(test.delivery, scope);
      test.delivery.abort();
      gate.open(result);
      await done;
      expect(test.source.events).toEqual(['requeue 1']);
      expect(counters.snapshot()).toEqual({ received: 1, requeued: 1 });
    }
  });

  it('while a reply is being confirmed does not undo it', async () => {
    const gate = newGate<'confirmed'>();
    const { driver, scope } = newBench([new TestHandler('message', 'm', '#')]);
    driver.target = replyToInbox;
    driver.confirm = () => gate.promise;
    const test = deliveryOf();
    const done = processAlone(test.delivery, scope);
    await settle();
    test.delivery.abort();
    gate.open('confirmed');
    await done;
    expect([driver.sent, test.source.events]).toEqual([['end'], ['ack 1']]);
  });
});

describe('a dead letter that is consumed', () => {
  it('is processed as an ordinary message: by every handler, without a reply, and is dead-lettered with its first origin', async () => {
    const handlers = [
      new TestHandler('event', 'a', '#'),
      new TestHandler('event', 'b', '#', async () => failure('no')),
    ];
    const { driver, scope } = newBench(handlers);
    driver.target = replyToInbox;
    const headers = {
      'stork-death-reason': 'fatal',
      'stork-handler': 'Gone.one',
      'stork-deadline': '2020-01-01T00:00:00.000Z',
      'stork-attempt': '9',
      'stork-origin': 'first',
    };
    const test = deliveryOf({ headers, origin: { source: 'first.dlq' } });
    await processAlone(test.delivery, scope);
    expect([handlers.map(({ attempts: runs }) => runs.length), driver.replies]).toEqual([[1, 1], []]);
    expect(deadLetters(test)).toEqual([['fatal', 'b', '1']]);
    expect(test.source.republished[0]!.headers['stork-origin']).toBe('first');
  });
});

it('an event is not requeued after a bug in one handler while another one still runs', async () => {
  const gate = newGate();
  const broken = new TestHandler('event', 'broken', '#', () => Promise.reject(new Error('a bug')));
  const slow = new TestHandler('event', 'slow', '#', () => gate.promise.then(() => undefined));
  const { scope, clock } = newBench([broken, slow]);
  const test = deliveryOf();
  const done = processAlone(test.delivery, scope);
  await settle();
  await clock.advance(1_000);
  await settle();
  expect(test.source.events).toEqual([]);
  gate.open();
  await settle();
  await clock.advance(1_000);
  await done;
  expect(test.source.events).toEqual(['requeue 1']);
});

describe("a user's function that must answer at once", () => {
  it('does not end the process with the rejection of a promise that it returns', async () => {
    const rejections: unknown[] = [];
    const note = (error: unknown): void => void rejections.push(error);
    process.on('unhandledRejection', note);
    const reject = async (): Promise<never> => {
      throw new Error('an asynchronous answer');
    };
    const answer = reject as () => never;
    const handlers = [
      new TestHandler('event', 'failing', '#', async () => failure('no'), {
        retry: resolveRetry({ failOn: [answer], retryOn: [answer] }),
        deadLetter: resolveDeadLetter({ redact: answer }),
      }),
      new TestHandler('event', 'returning', '#', async (attempt) => void attempt.emit(1), {
        retry: resolveRetry({ maxRetries: 0, retryOnResult: answer }),
      }),
      new TestHandler('event', 'idempotent', '#', undefined, {
        retry: resolveRetry({ maxRetries: 0 }),
        idempotency: resolveIdempotency({ store: newMemoryStore(), keyOf: answer }),
      }),
    ];
    const test = deliveryOf();
    await processAlone(test.delivery, newBench(handlers).scope);
    await settle();
    process.off('unhandledRejection', note);
    expect(rejections).toEqual([]);
    expect(deadLetters(test).map(([reason, handler]) => [reason, handler])).toEqual([
      ['fatal', 'failing'],
      ['retries-exhausted', 'returning'],
      ['retries-exhausted', 'idempotent'],
    ]);
  });
});
