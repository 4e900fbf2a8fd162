import { describe, expect, it } from 'vitest';
import type { SubscribedPattern } from '../../../../lib/core/port/driver.js';
import { NoRouteError } from '../../../../lib/core/runtime/errors.js';
import { patternFromRegExp, patternFromString } from '../../../../lib/core/message/pattern.js';
import {
  isServerNamed,
  queueAddress,
  validateBindable,
  replyTarget,
} from '../../../../lib/driver-kit/queue/addressing.js';

describe('the destination of a message of a queue transport', () => {
  const exchange = { name: 'x', type: 'topic' };
  const pattern = 'order.placed';

  it.each([
    ['its own exchange', {}, { queue: 'q', exchange }, { exchange: 'x', routingKey: pattern }],
    ['its own queue without one', {}, { queue: 'q' }, { exchange: '', routingKey: 'q' }],
    [
      'publishTo before both',
      {},
      { queue: 'q', exchange, publishTo: { queue: 'p' } },
      { exchange: '', routingKey: 'p' },
    ],
    [
      "the message's own before all",
      { to: { exchange: 'm' } },
      { publishTo: { queue: 'p' } },
      { exchange: 'm', routingKey: pattern },
    ],
    [
      'a routing key that is named',
      { to: { exchange: 'm', routingKey: 'k' } },
      {},
      { exchange: 'm', routingKey: 'k' },
    ],
  ])('%s', (_, message, options, expected) => {
    expect(queueAddress({ pattern, ...message }, options)).toEqual(expected);
  });

  it('is never a topic', () => {
    expect(() => queueAddress({ pattern, to: { topic: 't' } }, { queue: 'q' })).toThrow(NoRouteError);
  });
});

describe('the destination of a reply', () => {
  it.each([
    ['amq.gen-JzTY20BRgKO-HjmUJj0wLg', true],
    ['amq.rabbitmq.reply-to.g1h2AA.x==', true],
    ['amq.rabbitmq.reply-to', false],
    [`amq.gen-${'x'.repeat(248)}`, false],
    ['amq.topic', false],
    ['orders', false],
    [' amq.gen-a', false],
  ])('%s is named by the broker: %s', (address, is) => {
    expect(isServerNamed(address)).toBe(is);
    expect(replyTarget(address).kind).toBe(is ? 'address' : 'forged');
  });

  it.each([undefined, '', 7, {}])('nowhere: %j', (address) => {
    expect(replyTarget(address)).toEqual({ kind: 'none' });
  });

  it('may be a queue of replyQueues', () => {
    expect(replyTarget('answers', ['answers'])).toEqual({ kind: 'address', address: 'answers' });
  });

  it('quotes only the beginning of a forged address', () => {
    expect(replyTarget('x'.repeat(10_000))).toMatchObject({ why: expect.stringMatching(/^"x{100}" is not/) });
  });
});

describe('patterns that an exchange can bind', () => {
  const all = [patternFromString('a.b'), patternFromString('a.*'), patternFromRegExp(/^a/)].map(
    (pattern): SubscribedPattern => ({
      ...pattern,
      order: 'key',
      delivery: 'at-least-once',
      handlerNames: [],
    }),
  );
  const refusedBy = (type?: string) =>
    validateBindable(all, type === undefined ? undefined : { name: 'x', type }, 'shop').map(
      ({ given }) => given,
    );

  it.each([
    ['topic', ['/^a/']],
    ['direct', ['a.*', '/^a/']],
    ['headers', ['a.*', '/^a/']],
    ['fanout', []],
    [undefined, []],
  ])('%s refuses %j', (type, refused) => {
    expect(refusedBy(type)).toEqual(refused);
  });
});
