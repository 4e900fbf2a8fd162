import { describe, expect, it } from 'vitest';
import type { Capabilities, OptionalMessageOption } from '../../../../lib/core/port/driver.js';
import { StorkConfigError } from '../../../../lib/core/runtime/errors.js';
import {
  buildMessage,
  type MessageOptions,
  type OutboundScope,
} from '../../../../lib/core/publish/outgoing-message.js';
import type { CodecContext, MessageCodec } from '../../../../lib/core/message/codec.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { PublishCancellation } from '../../../../lib/core/port/publish-cancellation.js';
import { EncodingOrder } from '../../../../lib/core/publish/encoding-order.js';
import type { OutboundMessage } from '../../../../lib/core/port/message.js';
import { newCodecs, newGate } from '../harness.js';

const optional: readonly OptionalMessageOption[] = [
  'delayMs',
  'expiresInMs',
  'priority',
  'partition',
  'persistent',
  'appId',
];

function newScope(capabilities: Partial<Capabilities> = {}): OutboundScope {
  return {
    transport: 'shop',
    capabilities: {
      messageOptions: new Set(optional),
      destinations: new Set(['queue', 'exchange']),
      pausesWithoutRedelivery: true,
      requeue: 'broker',
      exclusiveSource: true,
      ...capabilities,
    },
    codecs: newCodecs(),
    clock: new VirtualClock(Date.UTC(2026, 0, 1)),
    order: new EncodingOrder(),
    destinationOf: ({ pattern }) => `shop.${pattern}`,
  };
}

/** Builds a message whose codec returns no promise. */
const build = (...args: Parameters<typeof buildMessage>): OutboundMessage =>
  buildMessage(...args) as OutboundMessage;

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

function thrownBy(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** Names of the rejected options. */
function refused(options: MessageOptions, scope = newScope(), pattern = 'order.paid'): string[] {
  const error = thrownBy(() => build(pattern, {}, options, scope));
  if (error === undefined) return [];
  expect(error).toBeInstanceOf(StorkConfigError);
  return (error as StorkConfigError).problems.map(({ name }) => name);
}

describe('a message', () => {
  it('needs no options', () => {
    const message = build('order.paid', { id: 1 }, {}, newScope());
    expect(message).toMatchObject({
      pattern: 'order.paid',
      contentType: 'application/json',
      timestamp: Date.UTC(2026, 0, 1),
      correlationId: undefined,
    });
    expect(message.body?.toString()).toBe('{"id":1}');
    expect(message.messageId).toMatch(uuid);
    expect(Object.keys(message.headers)).toEqual([]);
  });

  it('has a new id each time', () => {
    const ids = [1, 2].map(() => build('a', {}, {}, newScope()).messageId);
    expect(ids[0]).not.toBe(ids[1]);
  });

  it('carries every option to the driver', () => {
    const options: MessageOptions = {
      key: 'k',
      messageId: 'm',
      correlationId: 'c',
      expiresInMs: 1,
      delayMs: 0,
      persistent: false,
      priority: 255,
      partition: 0,
      contentType: 'text/plain',
      timestamp: 0,
      appId: 'app',
      to: { queue: 'elsewhere' },
    };
    expect(build('a', 'text', options, newScope())).toMatchObject(options);
  });

  it('has a copy of the headers, without a prototype', () => {
    const headers = { tenant: 'a' };
    const message = build('a', {}, { headers }, newScope());
    expect(message.headers).not.toBe(headers);
    expect(Object.getPrototypeOf(message.headers)).toBeNull();
    expect({ ...message.headers }).toEqual({ tenant: 'a' });
  });

  it('that is an event has its correlation id also in a header, for brokers without a field for it', () => {
    const { headers, correlationId } = build('a', {}, { correlationId: 'c' }, newScope());
    expect([{ ...headers }, correlationId]).toEqual([{ 'stork-correlation-id': 'c' }, 'c']);
  });

  it('that is a request has its id, and the deadline of its caller', () => {
    const request = { id: 'r-1', timeoutMs: 1_500 };
    const message = build('a', {}, { requestId: 'r-1' }, newScope(), request);
    expect(message.correlationId).toBe('r-1');
    expect({ ...message.headers }).toEqual({ 'stork-deadline': '2026-01-01T00:00:01.500Z' });
  });

  it('that is a request has its correlation id in a header only', () => {
    const message = build('a', {}, { correlationId: 'c' }, newScope(), { id: 'r-1', timeoutMs: 1_500 });
    expect(message.correlationId).toBe('r-1');
    expect(message.headers['stork-correlation-id']).toBe('c');
  });

  it('that is an event has no request id', () => {
    expect(() => build('a', {}, { requestId: 'r-1' }, newScope())).toThrow('requestId: expected nothing');
    const request = { id: 'r-1', timeoutMs: 1_500 };
    expect(() => build('a', {}, { requestId: '' }, newScope(), request)).toThrow(
      'requestId: expected a string of 1 to 255 bytes',
    );
  });

  it('that cannot be encoded is an error with the pattern and the reason', () => {
    const error = thrownBy(() => build('order.paid', 1n, {}, newScope()));
    expect(error).toBeInstanceOf(StorkConfigError);
    expect(error).toMatchObject({ cause: expect.any(TypeError) as TypeError });
    expect(String(error)).toContain('the data for pattern "order.paid" cannot be encoded');
    expect(() => build('a', {}, { contentType: 'image/png' }, newScope())).toThrow(/no codec for/);
  });
});

describe('a pattern', () => {
  it('may have 255 bytes and must have one', () => {
    expect(refused({}, newScope(), 'a'.repeat(255))).toEqual([]);
    expect(refused({}, newScope(), 'a'.repeat(256))).toEqual(['pattern']);
    expect(refused({}, newScope(), 'é'.repeat(128))).toEqual(['pattern']);
    expect(refused({}, newScope(), '')).toEqual(['pattern']);
  });
});

describe('an option that the broker does not support', () => {
  const values: Required<Pick<MessageOptions, OptionalMessageOption>> = {
    delayMs: 1,
    expiresInMs: 1,
    priority: 1,
    partition: 1,
    persistent: true,
    appId: 'a',
  };

  it.each(optional)('is rejected by name: %s', (name) => {
    const others = new Set(optional.filter((other) => other !== name));
    const options = { [name]: values[name] };
    expect(refused(options, newScope({ messageOptions: others }))).toEqual([name]);
    expect(refused(options, newScope({ messageOptions: new Set([name]) }))).toEqual([]);
    expect(String(thrownBy(() => build('a', {}, options, newScope({ messageOptions: others }))))).toContain(
      `${name}: expected nothing: the transport "shop" does not support it`,
    );
  });

  it('is accepted if it is undefined', () => {
    const options = { delayMs: undefined } as unknown as MessageOptions;
    expect(refused(options, newScope({ messageOptions: new Set() }))).toEqual([]);
  });
});

describe('the value of an option', () => {
  it.each<[keyof MessageOptions, unknown[], unknown[]]>([
    ['timeoutMs', [1, 86_400_000, 2 ** 32 - 1], [0, -1, 1.5, NaN, Infinity, '1', 2 ** 32]],
    ['expiresInMs', [0, 1, 2 ** 32 - 1], [-1, 0.5, NaN, Infinity, '1', 2 ** 32]],
    ['delayMs', [0, 1, 2 ** 32 - 1], [-1, 0.5, NaN, Infinity, '1', 2 ** 32]],
    ['partition', [0, 2 ** 31 - 1], [-1, 0.5, NaN, '0', 2 ** 31]],
    ['timestamp', [0, 8.64e15], [-1, 0.5, NaN, new Date(0), 8.64e15 + 1]],
    ['priority', [0, 255], [-1, 256, 1.5, NaN, '5']],
    ['key', ['k', 'x'.repeat(255)], ['', 'x'.repeat(256), 'é'.repeat(128), 1, null]],
    ['messageId', ['m', 'x'.repeat(255)], ['', 'x'.repeat(256), 1]],
    ['correlationId', ['c'], ['', 'x'.repeat(256), 1]],
    ['contentType', ['application/json'], ['', 1]],
    ['appId', ['a'], ['', 'x'.repeat(256), 1]],
    ['persistent', [true, false], ['false', 0, null]],
    ['headers', [{}, { tenant: 'x' }], [null, 'tenant', ['x'], 1]],
    ['signal', [new AbortController().signal], [{}, null, new AbortController(), 'now']],
    [
      'to',
      [{ queue: 'q' }, { exchange: 'e', routingKey: 'r' }],
      [{}, { topic: 't' }, { queue: 'q', exchange: 'e' }],
    ],
  ])('%s is checked', (name, good, bad) => {
    for (const value of good) expect(refused({ [name]: value })).toEqual([]);
    for (const value of bad) expect(refused({ [name]: value })).toEqual([name]);
  });

  it('is reported together with all other invalid options', () => {
    const options: MessageOptions = {
      priority: 300,
      delayMs: -1,
      key: '',
      headers: { 'stork-attempt': '1' },
    };
    expect(refused(options, newScope(), '').toSorted()).toEqual([
      'delayMs',
      'headers.stork-attempt',
      'key',
      'pattern',
      'priority',
    ]);
  });

  it('is shown without credentials', () => {
    const key = `amqp://user:secret@host/${'x'.repeat(300)}`;
    const error = thrownBy(() => build('a', {}, { key }, newScope()));
    expect(String(error)).toContain('key: expected a string of 1 to 255 bytes');
    expect(String(error)).not.toContain('secret');
  });

  it('is rejected beyond its bounds, with both bounds', () => {
    const error = thrownBy(() => build('a', {}, { timeoutMs: 2 ** 32 }, newScope()));
    expect(String(error)).toContain('timeoutMs: expected an integer from 1 to 4294967295, given 4294967296');
  });
});

describe('an unknown option', () => {
  it.each(['timeout', 'Priority', 'replyTo', 'toString', 'constructor', '__proto__'])(
    'is refused by name, not taken in silence: %s',
    (name) => {
      expect(refused(Object.fromEntries([[name, 1]]) as MessageOptions)).toEqual([name]);
    },
  );
});

describe('a destination', () => {
  it('is rejected with the list of supported kinds', () => {
    const scope = newScope({ destinations: new Set(['topic']) });
    expect(refused({ to: { topic: 't' } }, scope)).toEqual([]);
    expect(String(thrownBy(() => build('a', {}, { to: { queue: 'q' } }, scope)))).toContain(
      'to: expected { topic }, given an object',
    );
  });
});

describe('a field of a destination', () => {
  it.each([
    [{ queue: 'q', routingKey: 'r' }, 'to.routingKey: expected nothing beside queue, given "r"'],
    [{ exchange: 'e', routingKey: 1 }, 'to.routingKey: expected text, given 1 (number)'],
    [{ exchange: 'e', topic: 1 }, 'to.topic: expected nothing beside exchange, given 1 (number)'],
  ])('that would have no effect is refused by name: %j', (to, text) => {
    const error = thrownBy(() => build('a', {}, { to: to as MessageOptions['to'] & object }, newScope()));
    expect(String(error)).toContain(text);
  });
});

describe('a request', () => {
  it.each([0, 3_000])('with delayMs %i is refused, and says on which transport', (delayMs) => {
    const request = { id: 'r-1', timeoutMs: 1_000 };
    const error = thrownBy(() => build('a', {}, { delayMs }, newScope(), request));
    expect(String(error)).toContain(
      `delayMs: expected nothing: the transport "shop" does not delay requests, given ${delayMs}`,
    );
    expect(() => build('a', {}, {}, newScope(), request)).not.toThrow();
  });

  it('refuses delayMs once where the broker does not support it at all', () => {
    const scope = newScope({ messageOptions: new Set() });
    const error = thrownBy(() => build('a', {}, { delayMs: 1 }, scope, { id: 'r-1', timeoutMs: 1 }));
    expect((error as StorkConfigError).problems).toHaveLength(1);
  });
});

describe('headers', () => {
  it.each(['stork-attempt', 'stork-', 'stork-of-mine'])('named %s are reserved', (name) => {
    expect(refused({ headers: { [name]: 'x' } })).toEqual([`headers.${name}`]);
  });

  it.each(['x-stork-attempt', 'stork', 'tenant', '__proto__'])('named %s are accepted', (name) => {
    const headers = Object.fromEntries([[name, 'x']]);
    expect(refused({ headers })).toEqual([]);
  });
});

describe('a message whose codec is asynchronous', () => {
  const newSlowScope = () => {
    const gate = newGate();
    const contexts: CodecContext[] = [];
    const slow: MessageCodec = {
      contentType: 'text/x-slow',
      async encode(value, context) {
        contexts.push(context);
        await gate.promise;
        if (value === 'wrong') throw new RangeError('no schema');
        return Buffer.from(String(value));
      },
      decode: (body) => body.toString(),
    };
    return { scope: { ...newScope(), codecs: newCodecs(slow) }, gate, contexts };
  };
  const slow = { contentType: 'text/x-slow' };

  it('is a promise; its codec gets what the message is', async () => {
    const { scope, gate, contexts } = newSlowScope();
    const message = buildMessage('a', 'text', { ...slow, headers: { tenant: 'x' } }, scope);
    expect(message).toBeInstanceOf(Promise);
    gate.open();
    expect((await message).body?.toString()).toBe('text');
    expect(contexts).toEqual([
      { direction: 'outbound', pattern: 'a', destination: 'shop.a', headers: { tenant: 'x' } },
    ]);
  });

  it('is refused by name when the codec rejects, at once when an option is invalid', async () => {
    const { scope, gate } = newSlowScope();
    const message = buildMessage('a', 'wrong', slow, scope);
    gate.open();
    await expect(message).rejects.toThrow(
      new StorkConfigError('the data for pattern "a" cannot be encoded: no schema'),
    );
    expect(() => buildMessage('a', 1, { ...slow, key: '' }, scope)).toThrow(StorkConfigError);
  });

  it('keeps its place: a later message waits for it, and for a rejected one too', async () => {
    const { scope, gate } = newSlowScope();
    const done: string[] = [];
    const inOrder = (data: string, options: MessageOptions) =>
      scope.order.inOrder(buildMessage('a', data, options, scope), new PublishCancellation());
    const first = Promise.resolve(inOrder('first', slow)).then(() => done.push('first'));
    const wrong = Promise.resolve(inOrder('wrong', slow)).catch(() => done.push('wrong'));
    const json = Promise.resolve(inOrder('json', {})).then(() => done.push('json'));
    await Promise.resolve();
    expect(done).toEqual([]);
    gate.open();
    await Promise.all([first, wrong, json]);
    expect(done).toEqual(['first', 'wrong', 'json']);
    expect(inOrder('json', {})).not.toBeInstanceOf(Promise);
  });
});
