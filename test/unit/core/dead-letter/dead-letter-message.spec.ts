import { hostname } from 'node:os';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildDeadLetter, type DeadLetterCause } from '../../../../lib/core/dead-letter/dead-lettering.js';
import type { FailureReason } from '../../../../lib/core/runtime/failure.js';
import { headerNames, type MessageHeaders } from '../../../../lib/core/message/headers.js';
import { newMessage } from '../harness.js';

const failedAt = Date.UTC(2026, 0, 2, 3, 4, 5, 6);

interface DeathFields extends Partial<Omit<DeadLetterCause, 'failure'>> {
  readonly reason?: FailureReason;
  readonly error?: unknown;
  readonly name?: string;
  readonly message?: string;
}

function newDeath(fields: DeathFields = {}): DeadLetterCause {
  const {
    reason = 'retries-exhausted',
    error = new TypeError('no stock'),
    name = 'TypeError',
    message = 'no stock',
    ...rest
  } = fields;
  const envelope = { name, message, code: 'HANDLER_FAILED', retryable: false };
  return {
    failure: { reason, error, name, message, envelope, isInternal: false },
    handlerId: 'Orders.paid',
    attempt: 3,
    firstFailedAt: undefined,
    failedAt,
    subscription: 'orders',
    ...rest,
  };
}

function textBytes(headers: MessageHeaders): number {
  return Object.values(headers).reduce<number>(
    (sum, value) => sum + (typeof value === 'string' ? Buffer.byteLength(value) : 0),
    0,
  );
}

/** Everything that we add to a message's own headers: name, message and stack of the error, and what is short by nature. */
const addedBytesAtMost = 8 * 1024;
const anyText = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.string({ unit: 'grapheme', minLength: 1 }).map((text) => text.repeat(2_000)),
  fc.constant('\u{1F426}'.repeat(100_000)),
);

describe('buildDeadLetter', () => {
  it('adds no more than its budget, in whole characters, whatever the error says; what is there is written over', () => {
    fc.assert(
      fc.property(
        anyText,
        anyText,
        anyText,
        fc.dictionary(fc.string(), fc.string()),
        (name, text, stack, own) => {
          const error = Object.assign(new Error(text), { stack });
          const died = newDeath({ error, name, message: text });
          const once = buildDeadLetter(newMessage({ headers: own }), died);
          const twice = buildDeadLetter(newMessage({ headers: once.headers }), died);
          const added = { ...once.headers };
          for (const header of Object.keys(own)) delete added[header];
          expect(textBytes(added)).toBeLessThanOrEqual(addedBytesAtMost);
          expect(twice.headers).toEqual(once.headers);
          // A character that was cut in two is written as U+FFFD, which the error's own texts may contain too.
          if (`${name}${text}${stack}`.includes('\uFFFD')) return;
          for (const value of Object.values(added)) expect(value).not.toContain('\uFFFD');
        },
      ),
      // What is large shrinks for minutes, and says no more.
      { numRuns: 60, endOnFailure: true },
    );
  });

  it('describes the failure as text', () => {
    const { to, headers } = buildDeadLetter(newMessage(), newDeath());
    expect(to).toBe('dead-letter');
    expect(headers).toMatchObject({
      'stork-death-reason': 'retries-exhausted',
      'stork-failed-at': '2026-01-02T03:04:05.006Z',
      'stork-first-failed-at': '2026-01-02T03:04:05.006Z',
      'stork-attempt': '3',
      'stork-handler': 'Orders.paid',
      'stork-error-name': 'TypeError',
      'stork-error-message': 'no stock',
      'stork-consumer': `${hostname()}/${process.pid}/orders`,
    });
    expect(headers[headerNames.errorStack]).toMatch(/^TypeError: no stock\n\s+at /);
    for (const value of Object.values(headers)) expect(typeof value).toBe('string');
  });

  it("keeps the message's own headers and does not touch the message", () => {
    const own = { tenant: 'a', list: ['x', 'y'], bytes: Buffer.from('b') };
    const message = newMessage({ headers: own });
    expect(buildDeadLetter(message, newDeath()).headers).toMatchObject(own);
    expect(Object.keys(message.headers)).toEqual(['tenant', 'list', 'bytes']);
  });

  it('overwrites the headers of an earlier dead-lettering, and appends to none', () => {
    const first = buildDeadLetter(newMessage(), newDeath({ reason: 'fatal', attempt: 1 }));
    const again = newMessage({
      headers: {
        ...first.headers,
        'stork-death-reason': ['fatal', 'undecodable'],
        'stork-attempt': ['1', '2'],
      },
    });
    const { headers } = buildDeadLetter(
      again,
      newDeath({
        reason: 'invalid',
        attempt: 7,
        error: 'thrown text',
        name: 'string',
        message: 'thrown text',
      }),
    );
    expect(headers).toMatchObject({
      'stork-death-reason': 'invalid',
      'stork-attempt': '7',
      'stork-error-name': 'string',
      'stork-error-message': 'thrown text',
    });
    expect(Object.keys(headers).length).toBeLessThanOrEqual(Object.keys(first.headers).length);
  });

  it('removes headers of an earlier dead-lettering that this one does not set', () => {
    const message = newMessage({
      headers: { 'stork-handler': 'Old.handler', 'stork-error-stack': 'old stack' },
    });
    const { headers } = buildDeadLetter(
      message,
      newDeath({ handlerId: undefined, error: { message: 'plain' } }),
    );
    expect(Object.keys(headers)).not.toContain('stork-handler');
    expect(Object.keys(headers)).not.toContain('stork-error-stack');
  });

  it('keeps the time of the first failure', () => {
    const firstFailedAt = failedAt - 60_000;
    expect(buildDeadLetter(newMessage(), newDeath({ firstFailedAt })).headers).toMatchObject({
      'stork-first-failed-at': '2026-01-02T03:03:05.006Z',
      'stork-failed-at': '2026-01-02T03:04:05.006Z',
    });
  });

  it('makes headers without a prototype, in which __proto__ stays a header', () => {
    const headers = JSON.parse('{"__proto__":"x"}') as MessageHeaders;
    const copy = buildDeadLetter(newMessage({ headers }), newDeath());
    expect(Object.getPrototypeOf(copy.headers)).toBeNull();
    expect(copy.headers['__proto__']).toBe('x');
  });
});

describe('the origin', () => {
  const queueOrigin = { source: 'orders', exchange: 'shop', routingKey: 'order.paid' };
  const logOrigin = { source: 'orders', partition: 0, offset: '42' };

  it('is written at the first dead-lettering, as far as the broker knows it', () => {
    const timestamp = Date.UTC(2026, 0, 1);
    const queue = buildDeadLetter(newMessage({ origin: queueOrigin, timestamp }), newDeath()).headers;
    expect(queue).toMatchObject({
      'stork-origin': 'orders',
      'stork-origin-exchange': 'shop',
      'stork-origin-routing-key': 'order.paid',
      'stork-origin-timestamp': '2026-01-01T00:00:00.000Z',
    });
    expect(Object.keys(queue)).not.toContain('stork-origin-partition');
    const log = buildDeadLetter(newMessage({ origin: logOrigin }), newDeath()).headers;
    expect(log).toMatchObject({ 'stork-origin-partition': '0', 'stork-origin-offset': '42' });
    expect(Object.keys(log)).not.toContain('stork-origin-exchange');
    expect(Object.keys(log)).not.toContain('stork-origin-timestamp');
  });

  it('stays that of the first dead-lettering, however often the dead letter fails again', () => {
    const first = buildDeadLetter(newMessage({ origin: queueOrigin }), newDeath()).headers;
    const elsewhere = newMessage({
      headers: first,
      origin: { source: 'orders.dlq', partition: 9 },
      timestamp: 0,
    });
    const second = buildDeadLetter(elsewhere, newDeath()).headers;
    expect(second).toMatchObject({
      'stork-origin': 'orders',
      'stork-origin-exchange': 'shop',
      'stork-origin-routing-key': 'order.paid',
    });
    expect(Object.keys(second)).not.toContain('stork-origin-partition');
    expect(Object.keys(second)).not.toContain('stork-origin-timestamp');
  });

  it('is where the message was consumed, whatever its headers claim: otherwise it would be found in neither store', () => {
    const headers = {
      'stork-origin': 'elsewhere',
      'stork-origin-offset': '1',
      'stork-death-reason': 'fatal',
    };
    const deadLetter = buildDeadLetter(newMessage({ headers, origin: queueOrigin }), newDeath()).headers;
    expect(deadLetter[headerNames.origin]).toBe('orders');
    expect(Object.keys(deadLetter)).not.toContain('stork-origin-offset');
  });

  it('is not mixed with a partial origin of forged headers', () => {
    const headers = { 'stork-origin-offset': '1', 'stork-origin-partition': '2' };
    const deadLetter = buildDeadLetter(newMessage({ headers, origin: queueOrigin }), newDeath()).headers;
    expect(deadLetter[headerNames.origin]).toBe('orders');
    expect(Object.keys(deadLetter)).not.toContain('stork-origin-offset');
    expect(Object.keys(deadLetter)).not.toContain('stork-origin-partition');
  });

  it.each([8.64e15 + 1, -8.64e15 - 1, Infinity, NaN])(
    'survives a timestamp that is no time: a sender wrote %d',
    (timestamp) => {
      const { headers } = buildDeadLetter(newMessage({ timestamp }), newDeath());
      expect(Object.keys(headers)).not.toContain(headerNames.originTimestamp);
      expect(headers[headerNames.origin]).toBe('orders');
    },
  );
});

describe('the error', () => {
  it('has the name and the message that a caller is told, whatever its own are', () => {
    const error = Object.assign(new RangeError('mine'), { name: 5, message: { fields: ['a'] } });
    const { headers } = buildDeadLetter(
      newMessage(),
      newDeath({ error, name: 'ValidationError', message: 'id must be a number' }),
    );
    expect(headers).toMatchObject({
      'stork-error-name': 'ValidationError',
      'stork-error-message': 'id must be a number',
    });
  });

  it('fits beside the other headers, however much it has to say', () => {
    const error = new Error('x');
    error.stack = `${'é'.repeat(500_000)}\0`;
    const death = newDeath({ error, name: 'N'.repeat(1_000_000), message: '😀'.repeat(250_000) });
    const { headers } = buildDeadLetter(newMessage(), death);
    expect(textBytes(headers)).toBeLessThan(8 * 1_024);
    expect(headers[headerNames.errorName]).toMatch(/^N{253}…$/);
    expect(headers[headerNames.errorMessage]).toMatch(/^(😀){255}…$/u);
    expect(headers[headerNames.errorStack]).toMatch(/^é+…$/);
  });

  it('is written without null characters', () => {
    const error = new Error('x');
    error.stack = 'Error: a\0b';
    const { headers } = buildDeadLetter(newMessage(), newDeath({ error, name: '\0E', message: 'a\0b' }));
    expect(headers).toMatchObject({
      'stork-error-name': 'E',
      'stork-error-message': 'ab',
      'stork-error-stack': 'Error: ab',
    });
  });

  it.each(['null', 'a symbol', 'an object without a prototype', 'an error whose stack throws'])(
    'may be %s, which has no stack to tell',
    (kind) => {
      const broken = new Error('x');
      Object.defineProperty(broken, 'stack', {
        get() {
          throw new Error('no');
        },
      });
      const errors: Record<string, unknown> = {
        null: null,
        'a symbol': Symbol('s'),
        'an object without a prototype': Object.create(null),
        'an error whose stack throws': broken,
      };
      const { headers } = buildDeadLetter(newMessage(), newDeath({ error: errors[kind] }));
      expect(Object.keys(headers)).not.toContain(headerNames.errorStack);
      expect(headers[headerNames.errorMessage]).toBe('no stock');
    },
  );
});
