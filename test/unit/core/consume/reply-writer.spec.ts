import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ReplyWriter, type ReplyRetry } from '../../../../lib/core/consume/reply-writer.js';
import type { ErrorEnvelope } from '../../../../lib/core/runtime/errors.js';
import type { StoredReply } from '../../../../lib/core/idempotency/idempotency-store.js';
import type { OutboundReply, ReplyOutcome } from '../../../../lib/core/port/message.js';
import { decodeNow, newCodecs, newGate, noteWhenDone, settle, type Gate } from '../harness.js';

/** Notes replies; each is confirmed at once, or when the test says so. */
class ReplyDriver {
  readonly sent: OutboundReply[] = [];
  readonly addresses: unknown[] = [];
  gates: Gate<ReplyOutcome>[] | undefined;
  outcome: ReplyOutcome | Error = 'confirmed';
  largest = Infinity;

  async reply(to: unknown, reply: OutboundReply): Promise<ReplyOutcome> {
    this.addresses.push(to);
    this.sent.push(reply);
    if (this.gates !== undefined) {
      const gate = newGate<ReplyOutcome>();
      this.gates.push(gate);
      return gate.promise;
    }
    if (this.outcome instanceof Error) throw this.outcome;
    if (reply.body.length > this.largest) return 'too-large';
    return this.outcome;
  }

  get told(): string[] {
    return this.sent.map(({ kind, body }) => `${kind} ${body.toString()}`.trim());
  }
}

function newBench(retry: ReplyRetry = () => Promise.resolve(false)) {
  const driver = new ReplyDriver();
  const replyWriter = new ReplyWriter({
    driver,
    codecs: newCodecs(),
    address: 'inbox-1',
    correlationId: 'c-1',
    pattern: 'order.quote',
    retry,
  });
  const emit = (value: unknown): boolean =>
    replyWriter.emit(replyWriter.encode(value) as StoredReply | undefined);
  return { driver, replyWriter, emit };
}

const failure: ErrorEnvelope = { name: 'NoStock', message: 'none left', code: 'NO_STOCK', retryable: false };

describe('a reply with one value', () => {
  it('is one message of the kind value, to the address, with the id of the request', async () => {
    const { driver, replyWriter, emit } = newBench();
    expect(emit({ id: 1 })).toBe(true);
    expect(await replyWriter.end()).toBe('confirmed');
    await settle();
    expect(driver.sent).toMatchObject([
      { kind: 'value', correlationId: 'c-1', contentType: 'application/json' },
    ]);
    expect(driver.told).toEqual(['value {"id":1}']);
    expect(driver.addresses).toEqual(['inbox-1']);
  });

  it('may be null', async () => {
    const { driver, replyWriter, emit } = newBench();
    emit(null);
    await replyWriter.end();
    expect(driver.told).toEqual(['value null']);
  });

  it('may be bytes', async () => {
    const { driver, replyWriter, emit } = newBench();
    emit(Buffer.from('abc'));
    await replyWriter.end();
    expect(driver.sent).toMatchObject([{ kind: 'value', contentType: 'application/octet-stream' }]);
  });
});

describe('a reply without a value', () => {
  it('is an end alone, whether undefined was emitted or nothing', async () => {
    const silent = newBench();
    await silent.replyWriter.end();
    const empty = newBench();
    empty.emit(undefined);
    await empty.replyWriter.end();
    await settle();
    expect([silent.driver.told, empty.driver.told]).toEqual([['end'], ['end']]);
    expect(silent.driver.sent.map(({ endsStream }) => endsStream)).toEqual([false]);
  });
});

describe('a reply with several values', () => {
  it('is items in order and an end', async () => {
    const { driver, replyWriter, emit } = newBench();
    for (const value of [1, 2, 3]) emit(value);
    expect(await replyWriter.end()).toBe('confirmed');
    expect(driver.told).toEqual(['item 1', 'item 2', 'item 3', 'end']);
    expect(driver.sent.map(({ endsStream }) => endsStream)).toEqual([false, false, false, true]);
  });

  it('sends each only when the one before is confirmed', async () => {
    const { driver, replyWriter, emit } = newBench();
    driver.gates = [];
    for (const value of [1, 2]) emit(value);
    const done = noteWhenDone(replyWriter.end());
    await settle();
    expect(driver.told).toEqual(['item 1']);
    driver.gates[0]!.open('confirmed');
    await settle();
    expect(driver.told).toEqual(['item 1', 'item 2']);
    driver.gates[1]!.open('confirmed');
    await settle();
    expect([driver.told.at(-1), done.value]).toEqual(['end', undefined]);
    driver.gates[2]!.open('confirmed');
    await settle();
    expect(done.value).toBe('confirmed');
  });

  it('does not keep the first one back while the second is long in coming', async () => {
    const { driver, replyWriter, emit } = newBench();
    emit(1);
    expect(driver.told).toEqual([]);
    await nextTurn();
    expect(driver.told).toEqual(['item 1']);
    await replyWriter.end();
    expect(driver.told).toEqual(['item 1', 'end']);
  });

  it('sends a buffered value once, at the next value or after the current turn', async () => {
    const { driver, replyWriter, emit } = newBench();
    emit(1);
    emit(2);
    await settle();
    emit(3);
    await replyWriter.end();
    await settle();
    expect(driver.told).toEqual(['item 1', 'item 2', 'item 3', 'end']);
  });

  it('can be read by its caller even where one of them is undefined, first or later', async () => {
    for (const values of [
      [undefined, 1],
      [1, undefined],
      [undefined, undefined],
    ]) {
      const { driver, replyWriter, emit } = newBench();
      for (const value of values) emit(value);
      await replyWriter.end();
      const items = driver.sent.filter(({ kind }) => kind === 'item');
      const decoded = items.map(({ body, contentType }) => decodeNow(newCodecs(), body, contentType));
      expect(decoded).toEqual(values.map((value) => ({ ok: true, value: value ?? null })));
    }
  });

  it('can be read by its caller where undefined came alone and the end late', async () => {
    const { driver, replyWriter, emit } = newBench();
    emit(undefined);
    await settle();
    await replyWriter.end();
    expect(driver.told).toEqual(['item null', 'end']);
  });

  it('ends as an item and an end where the last one was released before the end', async () => {
    const { driver, replyWriter, emit } = newBench();
    emit(1);
    emit(undefined);
    await replyWriter.end();
    expect(driver.told).toEqual(['item 1', 'item null', 'end']);
  });

  it('fails where it outruns the broker by 10 000, and the items before are still told in order', async () => {
    const { driver, replyWriter, emit } = newBench();
    driver.gates = [];
    for (let i = 0; i < 10_000; i++) emit(i);
    expect(() => emit(10_000)).toThrow('the stream has 10000 items that the broker has not confirmed');
    const done = noteWhenDone(replyWriter.fail(failure));
    while (done.value === undefined && driver.gates.length <= 10_001) {
      driver.gates.at(-1)!.open('confirmed');
      await Promise.resolve();
    }
    expect([done.value, driver.sent.length, driver.told[9_999]]).toEqual(['confirmed', 10_001, 'item 9999']);
    expect(driver.sent.at(-1)?.kind).toBe('error');
  });
});

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

describe('a reply that is an error', () => {
  it('carries the envelope as JSON', async () => {
    const { driver, replyWriter } = newBench();
    expect(await replyWriter.fail({ ...failure, details: ['a'] })).toBe('confirmed');
    expect(driver.sent).toMatchObject([{ kind: 'error', contentType: 'application/json' }]);
    expect(JSON.parse(driver.sent[0]!.body.toString())).toEqual({ ...failure, details: ['a'] });
  });

  it('comes instead of a buffered value', async () => {
    const { driver, replyWriter, emit } = newBench();
    emit(1);
    await replyWriter.fail(failure);
    await settle();
    expect(driver.sent.map(({ kind }) => kind)).toEqual(['error']);
  });

  it('comes after the items that were sent', async () => {
    const { driver, replyWriter, emit } = newBench();
    emit(1);
    emit(2);
    await replyWriter.fail(failure);
    expect(driver.sent.map(({ kind }) => kind)).toEqual(['item', 'item', 'error']);
  });

  it('goes without what cannot be written of its details', async () => {
    const circle: { self?: unknown; id: number } = { id: 1 };
    circle.self = circle;
    const throwing = {
      id: 1,
      toJSON: (): never => {
        throw new Error('no');
      },
      get field(): never {
        throw new Error('no');
      },
    };
    for (const [details, written] of [
      [circle, { id: 1 }],
      [throwing, { id: 1 }],
      [[circle], undefined],
      [revoked(), undefined],
    ] as const) {
      const { driver, replyWriter } = newBench();
      await replyWriter.fail({ ...failure, details });
      expect(JSON.parse(driver.sent[0]!.body.toString())).toEqual({ ...failure, details: written });
    }
  });
});

describe('a value that cannot be written', () => {
  it('throws where it is emitted, and the error can still be told', async () => {
    const { driver, replyWriter, emit } = newBench();
    expect(() => emit(1n)).toThrow(TypeError);
    await replyWriter.fail(failure);
    expect(driver.sent.map(({ kind }) => kind)).toEqual(['error']);
  });

  it('leaves the items before it and their order alone', async () => {
    const { driver, replyWriter, emit } = newBench();
    emit(1);
    emit(2);
    expect(() => emit(() => 3)).toThrow(TypeError);
    await replyWriter.fail(failure);
    expect(driver.sent.map(({ kind }) => kind)).toEqual(['item', 'item', 'error']);
  });
});

describe('a reply that exceeds the size limit of the broker', () => {
  const tooLarge = { code: 'TOO_LARGE', retryable: false };
  const toldLast = ({ sent }: ReplyDriver): unknown => JSON.parse(sent.at(-1)!.body.toString());

  it('is an error that says so', async () => {
    const { driver, replyWriter, emit } = newBench();
    driver.largest = 1_000;
    emit('x'.repeat(2_000));
    expect(await replyWriter.end()).toBe('too-large');
    expect(driver.sent.map(({ kind }) => kind)).toEqual(['value', 'error']);
    expect(toldLast(driver)).toMatchObject(tooLarge);
  });

  it('ends a stream at the item that does not', async () => {
    const { driver, replyWriter, emit } = newBench();
    driver.largest = 1_000;
    for (const length of [1, 2_000, 3]) emit('x'.repeat(length));
    expect(await replyWriter.end()).toBe('too-large');
    expect(emit(4)).toBe(false);
    expect(driver.sent.map(({ kind }) => kind)).toEqual(['item', 'item', 'error']);
    expect(toldLast(driver)).toMatchObject(tooLarge);
  });

  it('of an error keeps what fits: its name, code, status and the beginning of its message', async () => {
    const { driver, replyWriter } = newBench();
    driver.largest = 2_000;
    const message = 'none left '.repeat(1_000);
    const error = { ...failure, message, status: 404 };
    expect(await replyWriter.fail({ ...error, details: { message } })).toBe('too-large');
    expect(toldLast(driver)).toEqual({ ...error, message: message.slice(0, 1_000) });
  });

  it('nor the error instead of it, is sent once each', async () => {
    const { driver, replyWriter, emit } = newBench();
    driver.largest = 0;
    emit(1);
    expect(await replyWriter.end()).toBe('too-large');
    expect(driver.sent).toHaveLength(2);
  });
});

describe('a caller who is gone', () => {
  it('makes a single value undeliverable', async () => {
    const { driver, replyWriter, emit } = newBench();
    driver.outcome = 'undeliverable';
    emit(1);
    expect(await replyWriter.end()).toBe('undeliverable');
  });

  it('stops a stream: emit says so, nothing more is sent, and the end is undeliverable', async () => {
    const { driver, replyWriter, emit } = newBench();
    driver.outcome = 'undeliverable';
    emit(1);
    emit(2);
    emit(3);
    await settle();
    expect(emit(4)).toBe(false);
    expect(await replyWriter.end()).toBe('undeliverable');
    expect(driver.told).toEqual(['item 1']);
  });

  it('is not told an error either', async () => {
    const { driver, replyWriter, emit } = newBench();
    driver.outcome = 'undeliverable';
    emit(1);
    emit(2);
    expect(await replyWriter.fail(failure)).toBe('undeliverable');
    expect(driver.told).toEqual(['item 1']);
  });
});

describe('a reply that was not confirmed', () => {
  it('is sent again as it was, before those behind it, until it is confirmed', async () => {
    const retries: number[] = [];
    const { driver, replyWriter, emit } = newBench(async (retry) => {
      retries.push(retry);
      if (retry === 1) driver.outcome = 'confirmed';
      return true;
    });
    driver.outcome = new Error('channel closed');
    emit(1);
    emit(2);
    emit(3);
    expect(await replyWriter.end()).toBe('confirmed');
    expect(retries).toEqual([0, 1]);
    expect(driver.sent.map(({ kind, headers }) => [kind, headers['stork-reply-item']])).toEqual([
      ['item', '1'],
      ['item', '1'],
      ['item', '1'],
      ['item', '2'],
      ['item', '3'],
      ['end', undefined],
    ]);
  });

  it('while the handler runs is sent again by the retry of its end, once it has ended', async () => {
    const waits: string[] = [];
    const { driver, replyWriter, emit } = newBench(async (retry) => {
      waits.push(`running ${retry}`);
      await settle();
      return true;
    });
    driver.outcome = new Error('queue full');
    emit(1);
    emit(2);
    await settle();
    const ended = replyWriter.end(async (retry) => {
      waits.push(`ended ${retry}`);
      driver.outcome = 'confirmed';
      return true;
    });
    expect(await ended).toBe('confirmed');
    expect([waits[0], waits.at(-1)!.split(' ')[0]]).toEqual(['running 0', 'ended']);
    expect(driver.told.slice(-3)).toEqual(['item 1', 'item 2', 'end']);
  });

  it('that is an error is sent again only where a retry is given', async () => {
    const never = newBench(() => Promise.reject(new Error('not asked')));
    never.driver.outcome = new Error('channel closed');
    expect(await never.replyWriter.fail(failure)).toEqual({ unconfirmed: never.driver.outcome });
    const { driver, replyWriter } = newBench();
    driver.outcome = new Error('channel closed');
    const retry = async (): Promise<boolean> => {
      driver.outcome = 'confirmed';
      return true;
    };
    expect(await replyWriter.fail(failure, retry)).toBe('confirmed');
    expect(driver.sent).toHaveLength(2);
  });

  it('makes the reply unconfirmed, with the reason', async () => {
    const { driver, replyWriter, emit } = newBench();
    const reason = new Error('channel closed');
    driver.outcome = reason;
    emit(1);
    expect(await replyWriter.end()).toEqual({ unconfirmed: reason });
  });

  it('stops a stream where it happened, and nothing is left unhandled', async () => {
    const { driver, replyWriter, emit } = newBench();
    const reason = new Error('channel closed');
    driver.outcome = reason;
    emit(1);
    await settle();
    expect(emit(2)).toBe(false);
    driver.outcome = 'confirmed';
    expect(await replyWriter.end()).toEqual({ unconfirmed: reason });
    expect(driver.told).toEqual(['item 1']);
  });
});
