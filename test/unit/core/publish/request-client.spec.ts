import { describe, expect, it } from 'vitest';
import { ConnectionStateCell } from '../../../../lib/core/port/connection-state.js';
import { Counters } from '../../../../lib/core/runtime/reporting.js';
import type { Driver, ReplyInbox, ReplyListener, Subscription } from '../../../../lib/core/port/driver.js';
import {
  ClientClosedError,
  ConnectionLostError,
  NoRouteError,
  RemoteError,
  RequestTimeoutError,
  StorkConfigError,
  TooManyPendingError,
} from '../../../../lib/core/runtime/errors.js';
import type {
  OutboundMessage,
  InboundReply,
  ReplyKind,
  ReplyTarget,
} from '../../../../lib/core/port/message.js';
import type { MessageOptions } from '../../../../lib/core/publish/outgoing-message.js';
import { RequestClient, type ReplyObserver } from '../../../../lib/core/publish/request-client.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import type { PublishCancellation } from '../../../../lib/core/port/publish-cancellation.js';
import { EncodingOrder } from '../../../../lib/core/publish/encoding-order.js';
import type { MessageCodec } from '../../../../lib/core/message/codec.js';
import { newCodecs, newGate, settle } from '../harness.js';

/** A driver for requests only. */
class ClientDriver implements Driver {
  readonly consumerName = undefined;
  readonly capabilities = {
    messageOptions: new Set<never>(),
    destinations: new Set<never>(),
    pausesWithoutRedelivery: true,
    requeue: 'broker' as const,
    exclusiveSource: true,
  };
  roundDelay = () => undefined;
  deadLetterName = (source: string): string => `${source}.dlq`;
  readonly state = new ConnectionStateCell();
  readonly published: OutboundMessage[] = [];
  opened = 0;
  listener: ReplyListener | undefined;
  opening: Promise<void> = Promise.resolve();
  confirming: (message: OutboundMessage) => Promise<void> = () => Promise.resolve();

  async openReplies(listener: ReplyListener): Promise<ReplyInbox> {
    this.opened++;
    this.listener = listener;
    await this.opening;
    return { address: 'inbox-1' };
  }

  readonly cancellations: PublishCancellation[] = [];
  publish(message: OutboundMessage, cancellation: PublishCancellation): Promise<void> {
    this.published.push(message);
    this.cancellations.push(cancellation);
    return this.confirming(message);
  }

  reply(): Promise<'confirmed' | 'undeliverable'> {
    return Promise.reject(new Error('not a server'));
  }
  parseReplyAddress(): ReplyTarget {
    return { kind: 'none' };
  }
  validate(): readonly [] {
    return [];
  }
  async connect(): Promise<void> {}
  async declare(): Promise<void> {}
  subscribe(): Promise<Subscription> {
    return Promise.reject(new Error('not a server'));
  }
  deadLetters(): Promise<never> {
    return Promise.reject(new Error('not a server'));
  }
  unwrap(): undefined {}
  async close(): Promise<void> {}
}

class RecordingObserver implements ReplyObserver {
  readonly told: unknown[] = [];
  readonly errors: Error[] = [];
  next(value: unknown): void {
    this.told.push(value);
  }
  complete(): void {
    this.told.push('complete');
  }
  error(error: Error): void {
    this.errors.push(error);
  }
  get remote(): RemoteError {
    expect(this.errors).toHaveLength(1);
    expect(this.errors[0]).toBeInstanceOf(RemoteError);
    return this.errors[0] as RemoteError;
  }
}

/** The longer the text, the later it is decoded. */
const slowCodec: MessageCodec = {
  contentType: 'text/x-slow',
  async encode(value) {
    await settle();
    return Buffer.from(String(value));
  },
  async decode(body, { direction, pattern }) {
    for (let i = 0; i < body.length; i++) await settle();
    if (body.toString() === 'wrong') throw new RangeError('no schema');
    return `${direction} ${pattern} ${body.toString()}`;
  },
};

function newBench(maxPending = 100) {
  const driver = new ClientDriver();
  const clock = new VirtualClock();
  const counters = new Counters();
  const outbound = {
    transport: 'shop',
    capabilities: driver.capabilities,
    codecs: newCodecs(slowCodec),
    clock,
    order: new EncodingOrder(),
    destinationOf: () => 'orders',
  };
  const connecting = { connect: () => Promise.resolve() };
  const connect = (): Promise<void> => connecting.connect();
  const requestClient = new RequestClient({ driver, outbound, maxPending, counters, connect });
  const ask = (options: MessageOptions = {}, data: unknown = { id: 1 }) => {
    const observer = new RecordingObserver();
    const giveUp = requestClient.request('order.get', data, options, observer);
    return { observer, giveUp };
  };
  const replyWriter = (
    correlationId: string,
    kind: ReplyKind,
    body = '',
    contentType = 'application/json',
  ) => {
    const reply: InboundReply = { kind, correlationId, body: Buffer.from(body), contentType, headers: {} };
    driver.listener!.onReply(reply);
  };
  return { driver, clock, counters, requestClient, connecting, ask, replyWriter };
}

describe('a request', () => {
  it('is published with its id, the address of the inbox and its deadline', async () => {
    const { driver, ask } = newBench();
    ask({ timeoutMs: 2_000, requestId: 'r-1', correlationId: 'talk' });
    await settle();
    expect(driver.published).toMatchObject([
      {
        pattern: 'order.get',
        correlationId: 'r-1',
        replyTo: 'inbox-1',
        headers: { 'stork-deadline': '2026-01-01T00:00:02.000Z', 'stork-correlation-id': 'talk' },
      },
    ]);
  });

  it('has a new id and a time-out of 30 seconds by default', async () => {
    const { driver, clock, ask } = newBench();
    const { observer } = ask();
    ask();
    await settle();
    const ids = driver.published.map(({ correlationId }) => correlationId);
    expect(new Set(ids).size).toBe(2);
    await clock.advance(29_999);
    expect(observer.errors).toEqual([]);
    await clock.advance(1);
    expect(observer.errors[0]).toBeInstanceOf(RequestTimeoutError);
  });

  it('opens the inbox once, for the first of all requests', async () => {
    const { driver, ask } = newBench();
    expect(driver.opened).toBe(0);
    for (let i = 0; i < 5; i++) ask();
    await settle();
    ask();
    await settle();
    expect([driver.opened, driver.published.length]).toEqual([1, 6]);
  });

  it('that is invalid fails and is not pending', async () => {
    const { driver, requestClient, clock, ask } = newBench();
    const unwritable = ask({}, 1n).observer;
    const refused = ask({ delayMs: 5 }).observer;
    await settle();
    expect(unwritable.errors[0]).toBeInstanceOf(StorkConfigError);
    expect(refused.errors[0]).toBeInstanceOf(StorkConfigError);
    expect([driver.published, requestClient.pending, clock.pendingTimers]).toEqual([[], 0, 0]);
  });

  it('with the id of a pending request fails, and the pending one continues', async () => {
    const { requestClient, ask, replyWriter } = newBench();
    const first = ask({ requestId: 'r-1' }).observer;
    const second = ask({ requestId: 'r-1' }).observer;
    await settle();
    expect(second.errors[0]).toBeInstanceOf(StorkConfigError);
    expect(requestClient.pending).toBe(1);
    replyWriter('r-1', 'value', '1');
    expect([first.told, second.told]).toEqual([[1, 'complete'], []]);
  });

  it('beyond maxPending fails and is not published', async () => {
    const { driver, ask } = newBench(1);
    ask();
    const { observer } = ask();
    await settle();
    expect(observer.errors[0]).toBeInstanceOf(TooManyPendingError);
    expect(driver.published).toHaveLength(1);
  });

  it('that the broker rejects fails with the reason and is no longer pending', async () => {
    const { driver, requestClient, ask } = newBench();
    const reason = new NoRouteError('no queue');
    driver.confirming = () => Promise.reject(reason);
    const { observer } = ask();
    await settle();
    expect([observer.errors, requestClient.pending]).toEqual([[reason], 0]);
  });
});

describe('a reply', () => {
  it('of one value is emitted and completes', async () => {
    const { requestClient, ask, replyWriter } = newBench();
    const { observer } = ask({ requestId: 'r-1' });
    await settle();
    replyWriter('r-1', 'value', '{"sum":3}');
    expect([observer.told, observer.errors, requestClient.pending]).toEqual([
      [{ sum: 3 }, 'complete'],
      [],
      0,
    ]);
  });

  it('without a value completes', async () => {
    const { ask, replyWriter } = newBench();
    const { observer } = ask({ requestId: 'r-1' });
    await settle();
    replyWriter('r-1', 'end');
    expect(observer.told).toEqual(['complete']);
  });

  it('of several items emits each and completes; each item restarts the time-out', async () => {
    const { clock, ask, replyWriter } = newBench();
    const { observer } = ask({ requestId: 'r-1', timeoutMs: 1_000 });
    await settle();
    for (let i = 0; i < 4; i++) {
      await clock.advance(900);
      replyWriter('r-1', 'item', String(i));
    }
    replyWriter('r-1', 'end');
    expect([observer.told, observer.errors]).toEqual([[0, 1, 2, 3, 'complete'], []]);
  });

  it('times out when the next item is late, after the items before it', async () => {
    const { clock, ask, replyWriter } = newBench();
    const { observer } = ask({ requestId: 'r-1', timeoutMs: 1_000 });
    await settle();
    replyWriter('r-1', 'item', '1');
    await clock.advance(1_000);
    expect(observer.told).toEqual([1]);
    expect(observer.errors[0]).toBeInstanceOf(RequestTimeoutError);
  });

  it('that arrives before the broker confirms the request is emitted, and the confirm changes nothing', async () => {
    for (const outcome of ['confirmed', 'refused']) {
      const { driver, ask, replyWriter } = newBench();
      const gate = newGate();
      driver.confirming = ({ correlationId }) => {
        replyWriter(correlationId!, 'value', '1');
        return gate.promise;
      };
      const { observer } = ask();
      await settle();
      expect(observer.told).toEqual([1, 'complete']);
      if (outcome === 'confirmed') gate.open();
      else gate.fail(new ConnectionLostError('gone'));
      await settle();
      expect([observer.told, observer.errors]).toEqual([[1, 'complete'], []]);
    }
  });

  it('that arrives twice or after the end is dropped, and is not counted as late', async () => {
    const { counters, ask, replyWriter } = newBench();
    const { observer } = ask({ requestId: 'r-1' });
    await settle();
    replyWriter('r-1', 'value', '1');
    replyWriter('r-1', 'value', '2');
    replyWriter('r-1', 'error', '{}');
    expect([observer.told, observer.errors, counters.get('late-replies')]).toEqual([[1, 'complete'], [], 0]);
  });

  it.each<[ReplyKind, string, string]>([
    ['value', '{', 'application/json'],
    ['item', '{"__proto__":1}', 'application/json'],
    ['value', 'x', 'image/png'],
  ])(
    'of the kind %s that cannot be decoded (%s, %s) fails the request, once',
    async (kind, body, contentType) => {
      const { requestClient, ask, replyWriter } = newBench();
      const { observer } = ask({ requestId: 'r-1' });
      await settle();
      replyWriter('r-1', kind, body, contentType);
      replyWriter('r-1', 'end');
      expect(observer.remote).toMatchObject({ code: 'UNDECODABLE', retryable: false });
      expect(observer.remote.message).toMatch(/^the reply cannot be decoded: /);
      expect([observer.told, requestClient.pending]).toEqual([[], 0]);
    },
  );
});

describe('an error reply', () => {
  async function failWith(body: string | Buffer | null): Promise<RemoteError> {
    const { driver, ask } = newBench();
    const { observer } = ask({ requestId: 'r-1' });
    await settle();
    driver.listener!.onReply({
      kind: 'error',
      correlationId: 'r-1',
      body: typeof body === 'string' ? Buffer.from(body) : body,
      contentType: undefined,
      headers: {},
    });
    expect(observer.told).toEqual([]);
    return observer.remote;
  }

  it("has the fields of the server's error", async () => {
    const envelope = {
      name: 'NoStock',
      message: 'none',
      code: 'NO_STOCK',
      details: { left: 0 },
      retryable: true,
    };
    expect(await failWith(JSON.stringify(envelope))).toMatchObject({
      remoteName: 'NoStock',
      message: 'none',
      code: 'NO_STOCK',
      details: { left: 0 },
      retryable: true,
    });
  });

  it.each([
    '{}',
    'null',
    '[]',
    '5',
    'true',
    '{"name":5,"message":{},"code":null,"retryable":"true"}',
    '[{"message":"inside"}]',
  ])('has defaults where a peer sent %s', async (body) => {
    expect(await failWith(body)).toMatchObject({
      remoteName: 'Error',
      message: 'the handler failed',
      code: 'HANDLER_FAILED',
      retryable: false,
    });
  });

  it('with a __proto__ key is not parsed: it is read as text', async () => {
    const body = '{"__proto__":{"name":"Evil","message":"evil","code":"EVIL","retryable":true}}';
    expect(await failWith(body)).toMatchObject({ message: body, code: 'HANDLER_FAILED', retryable: false });
  });

  it('may be text, as JSON or plain', async () => {
    expect(await failWith('"no stock"')).toMatchObject({ message: 'no stock', code: 'HANDLER_FAILED' });
    expect(await failWith('no stock')).toMatchObject({ message: 'no stock', code: 'HANDLER_FAILED' });
    expect((await failWith('x'.repeat(100_000))).message).toHaveLength(1_000);
  });

  it.each([null, Buffer.alloc(0), Buffer.from([0xff, 0xfe]), Buffer.from('['.repeat(200_000))])(
    'is an error also where the body is %#: nothing, empty, no text, too deep',
    async (body) => {
      expect(await failWith(body)).toMatchObject({ code: 'HANDLER_FAILED', retryable: false });
    },
  );
});

describe('a time-out', () => {
  it('names the pattern, the transport and the time limit', async () => {
    const { clock, ask } = newBench();
    const { observer } = ask({ timeoutMs: 1_500 });
    await clock.advance(1_500);
    expect(observer.errors[0]?.message).toBe('no reply to "order.get" on transport "shop" within 1500 ms');
  });

  it('occurs also while the inbox is opening, and then nothing is published', async () => {
    const { driver, clock, requestClient, ask } = newBench();
    const gate = newGate();
    driver.opening = gate.promise;
    const { observer } = ask({ timeoutMs: 1_000 });
    await clock.advance(1_000);
    expect(observer.errors[0]).toBeInstanceOf(RequestTimeoutError);
    gate.open();
    await settle();
    expect([driver.published, requestClient.pending, observer.errors.length]).toEqual([[], 0, 1]);
  });

  it('occurs also while the broker does not confirm', async () => {
    const { driver, clock, ask } = newBench();
    driver.confirming = () => newGate().promise;
    const { observer } = ask({ timeoutMs: 1_000 });
    await clock.advance(1_000);
    expect(observer.errors[0]).toBeInstanceOf(RequestTimeoutError);
  });
});

describe('a request that waits in the buffer of the driver', () => {
  const newBufferedBench = () => {
    const bench = newBench();
    bench.driver.confirming = () => newGate().promise;
    return bench;
  };

  it.each<[string, (bench: ReturnType<typeof newBufferedBench>, giveUp: () => void) => unknown]>([
    ['times out', ({ clock }) => clock.advance(1_000)],
    ['is unsubscribed', (_, giveUp) => giveUp()],
    ['is lost with the connection', ({ driver }) => driver.listener!.onLost(new ConnectionLostError('gone'))],
    ['is closed', ({ requestClient }) => requestClient.close(new ClientClosedError('closed'))],
  ])('is cancelled when it %s', async (_, end) => {
    const bench = newBufferedBench();
    const { giveUp } = bench.ask({ timeoutMs: 1_000 });
    await settle();
    expect(bench.driver.cancellations.map(({ isCancelled }) => isCancelled)).toEqual([false]);
    await end(bench, giveUp);
    expect(bench.driver.cancellations.map(({ isCancelled }) => isCancelled)).toEqual([true]);
  });

  it('is cancelled when its signal aborts', async () => {
    const { driver, ask } = newBufferedBench();
    const controller = new AbortController();
    ask({ signal: controller.signal });
    await settle();
    controller.abort();
    expect(driver.cancellations[0]!.isCancelled).toBe(true);
  });

  it('is not cancelled by its reply', async () => {
    const { driver, ask, replyWriter } = newBench();
    ask({ correlationId: 'r-1' });
    await settle();
    replyWriter('r-1', 'value', '1');
    expect(driver.cancellations[0]!.isCancelled).toBe(false);
  });

  it('says why when the broker is away', async () => {
    const { driver, clock, ask } = newBufferedBench();
    const { observer } = ask({ timeoutMs: 1_000 });
    const error = new Error('connect ECONNREFUSED');
    driver.state.move({ value: 'backoff', attempt: 1, delayMs: 1, error });
    await clock.advance(1_000);
    expect(observer.errors[0]!.message).toBe(
      'no reply to "order.get" on transport "shop" within 1000 ms; the transport is reconnecting: connect ECONNREFUSED',
    );
  });
});

it('a signal that is none is refused with the other options', async () => {
  const { driver, ask } = newBench();
  const { observer } = ask({ signal: {} as AbortSignal, timeoutMs: 0 });
  await settle();
  const [error] = observer.errors as StorkConfigError[];
  expect(error!.problems.map(({ name }) => name)).toEqual(['timeoutMs', 'signal']);
  expect(driver.published).toEqual([]);
});

describe('a connection', () => {
  it('is awaited before the inbox is opened and the request published', async () => {
    const { driver, connecting, ask } = newBench();
    const gate = newGate();
    connecting.connect = () => gate.promise;
    ask();
    await settle();
    expect([driver.opened, driver.published]).toEqual([0, []]);
    gate.open();
    await settle();
    expect([driver.opened, driver.published.length]).toEqual([1, 1]);
  });

  it('that takes too long lets the request time out, and nothing is published later', async () => {
    const { driver, clock, connecting, ask } = newBench();
    const gate = newGate();
    connecting.connect = () => gate.promise;
    const { observer } = ask({ timeoutMs: 1_000 });
    await clock.advance(1_000);
    expect(observer.errors[0]).toBeInstanceOf(RequestTimeoutError);
    gate.open();
    await settle();
    expect([driver.published, observer.errors.length]).toEqual([[], 1]);
  });

  it('that fails lets the request fail, which is no longer pending', async () => {
    const { driver, clock, requestClient, connecting, ask } = newBench();
    const reason = new ConnectionLostError('no broker');
    connecting.connect = () => Promise.reject(reason);
    const { observer } = ask();
    await settle();
    expect([observer.errors, driver.opened, requestClient.pending, clock.pendingTimers]).toEqual([
      [reason],
      0,
      0,
      0,
    ]);
  });
});

describe('an inbox that cannot be opened', () => {
  it('fails the requests that await it, and the next request opens it again', async () => {
    const { driver, ask, replyWriter } = newBench();
    const reason = new ConnectionLostError('no');
    driver.opening = Promise.reject(reason);
    const [first, second] = [ask().observer, ask().observer];
    await settle();
    expect([first.errors, second.errors, driver.opened]).toEqual([[reason], [reason], 1]);
    driver.opening = Promise.resolve();
    const third = ask({ requestId: 'r-3' }).observer;
    await settle();
    replyWriter('r-3', 'value', '3');
    expect([third.told, driver.opened]).toEqual([[3, 'complete'], 2]);
  });

  it('that is lost later fails the pending requests, and later requests work', async () => {
    const { driver, ask, replyWriter } = newBench();
    const { observer } = ask();
    await settle();
    const reason = new ConnectionLostError('partition moved');
    driver.listener!.onLost(reason);
    expect(observer.errors).toEqual([reason]);
    const next = ask({ requestId: 'r-2' }).observer;
    await settle();
    replyWriter('r-2', 'value', '2');
    expect(next.told).toEqual([2, 'complete']);
  });
});

describe('a cancelled request', () => {
  it('does not call its observer again and counts its reply as late', async () => {
    const { counters, clock, requestClient, ask, replyWriter } = newBench();
    const { observer, giveUp } = ask({ requestId: 'r-1' });
    await settle();
    giveUp();
    giveUp();
    expect(requestClient.pending).toBe(0);
    replyWriter('r-1', 'value', '1');
    await clock.advance(60_000);
    expect([observer.told, observer.errors, counters.get('late-replies')]).toEqual([[], [], 1]);
  });

  it('is not published if the inbox is not open yet', async () => {
    const { driver, ask } = newBench();
    const { giveUp } = ask();
    giveUp();
    await settle();
    expect(driver.published).toEqual([]);
  });

  it('does not affect a later request with the same id', async () => {
    const { ask, replyWriter } = newBench();
    const first = ask({ requestId: 'r-1' });
    first.giveUp();
    const second = ask({ requestId: 'r-1' });
    first.giveUp();
    await settle();
    replyWriter('r-1', 'value', '1');
    expect([first.observer.told, second.observer.told]).toEqual([[], [1, 'complete']]);
  });
});

describe('an abort', () => {
  it('fails the request with its reason, and the observer is not called again', async () => {
    const { requestClient, counters, ask, replyWriter } = newBench();
    const controller = new AbortController();
    const reason = new Error('user left');
    const { observer } = ask({ requestId: 'r-1', signal: controller.signal });
    await settle();
    controller.abort(reason);
    replyWriter('r-1', 'value', '1');
    expect([observer.told, observer.errors]).toEqual([[], [reason]]);
    expect([requestClient.pending, counters.get('late-replies')]).toEqual([0, 1]);
  });

  it('with a reason that is not an error rejects with that reason', async () => {
    const { ask } = newBench();
    const controller = new AbortController();
    const { observer } = ask({ signal: controller.signal });
    controller.abort('enough');
    expect(observer.errors).toEqual(['enough']);
  });

  it('before the request publishes nothing', async () => {
    const { driver, requestClient, ask } = newBench();
    const reason = new Error('too late');
    const { observer } = ask({ signal: AbortSignal.abort(reason) });
    await settle();
    expect([observer.errors, driver.published, driver.opened, requestClient.pending]).toEqual([
      [reason],
      [],
      0,
      0,
    ]);
  });

  it('while the inbox is opening publishes nothing', async () => {
    const { driver, ask } = newBench();
    const gate = newGate();
    driver.opening = gate.promise;
    const controller = new AbortController();
    const { observer } = ask({ signal: controller.signal });
    controller.abort();
    gate.open();
    await settle();
    expect([observer.errors.length, driver.published]).toEqual([1, []]);
  });

  it('after the end has no effect', async () => {
    const { ask, replyWriter } = newBench();
    const controller = new AbortController();
    const { observer } = ask({ requestId: 'r-1', signal: controller.signal });
    await settle();
    replyWriter('r-1', 'end');
    controller.abort();
    expect([observer.told, observer.errors]).toEqual([['complete'], []]);
  });
});

describe('close', () => {
  it('fails every pending and every later request, with the first reason', async () => {
    const { driver, clock, requestClient, ask } = newBench();
    const { observer } = ask();
    await settle();
    const reason = new ClientClosedError('closed');
    requestClient.close(reason);
    requestClient.close(new ClientClosedError('closed again'));
    expect([observer.errors, requestClient.pending, clock.pendingTimers]).toEqual([[reason], 0, 0]);
    const later = ask().observer;
    await settle();
    expect([later.errors, driver.published.length]).toEqual([[reason], 1]);
  });

  it('while the inbox is opening publishes nothing afterwards', async () => {
    const { driver, requestClient, ask } = newBench();
    const gate = newGate();
    driver.opening = gate.promise;
    const { observer } = ask();
    const reason = new ClientClosedError('closed');
    requestClient.close(reason);
    gate.open();
    await settle();
    expect([observer.errors, driver.published]).toEqual([[reason], []]);
  });
});

describe('an asynchronous codec', () => {
  it('encodes the request before it is published, and its time limit has begun', async () => {
    const { driver, requestClient, ask } = newBench();
    ask({ contentType: slowCodec.contentType, requestId: 'r-1' }, 'text');
    expect([driver.published.length, requestClient.pending]).toEqual([0, 1]);
    await expect.poll(() => driver.published.map(({ body }) => body?.toString())).toEqual(['text']);
  });

  it('decodes the items of a stream in their order, before it completes', async () => {
    const { ask, replyWriter } = newBench();
    const { observer } = ask({ requestId: 'r-1' });
    await settle();
    for (const text of ['long', 'a', '']) replyWriter('r-1', 'item', text, slowCodec.contentType);
    replyWriter('r-1', 'end');
    const items = ['long', 'a', ''].map((text) => `inbound order.get ${text}`);
    await expect.poll(() => observer.told).toEqual([...items, 'complete']);
  });

  it('makes a reply undecodable by rejecting', async () => {
    const { ask, replyWriter } = newBench();
    const { observer } = ask({ requestId: 'r-1' });
    await settle();
    replyWriter('r-1', 'value', 'wrong', slowCodec.contentType);
    await expect.poll(() => observer.errors).toHaveLength(1);
    expect(observer.errors[0]).toMatchObject({
      code: 'UNDECODABLE',
      message: 'the reply cannot be decoded: no schema',
    });
  });
});
