import { describe, expect, it } from 'vitest';
import { HandlerTable } from '../../../../lib/core/consume/handler-table.js';
import type { Handler } from '../../../../lib/core/consume/handler.js';
import { patternFromRegExp, patternFromString, type Pattern } from '../../../../lib/core/message/pattern.js';
import { newMessage } from '../harness.js';

function newHandler(
  kind: Handler['kind'],
  id: string,
  ...patterns: readonly (string | RegExp)[]
): Handler & { readonly looked: () => number } {
  const own: Pattern[] = patterns.map((pattern) =>
    typeof pattern === 'string' ? patternFromString(pattern) : patternFromRegExp(pattern),
  );
  let looks = 0;
  return {
    id,
    kind,
    get patterns() {
      looks++;
      return own;
    },
    run: async () => undefined,
    looked: () => looks,
  };
}

function routeOf(table: HandlerTable<Handler>, ...texts: readonly string[]) {
  const { pattern, events, messageHandler } = table.route(texts);
  return { pattern, events: events.map(({ id }) => id), messageHandler: messageHandler?.id };
}

describe('HandlerTable', () => {
  it('gives an event to every event handler that matches, in the order of declaration', () => {
    const table = new HandlerTable([
      newHandler('event', 'all', '#'),
      newHandler('event', 'paid', 'order.paid'),
      newHandler('event', 'other', 'order.sent'),
      newHandler('event', 'order', /^order/),
    ]);
    expect(routeOf(table, 'order.paid').events).toEqual(['all', 'paid', 'order']);
  });

  it('gives a handler with several matching patterns the message once', () => {
    const table = new HandlerTable([newHandler('event', 'h', 'order.*', 'order.paid', '#')]);
    expect(routeOf(table, 'order.paid').events).toEqual(['h']);
  });

  it('gives a request to the most exact message handler: exact, then wildcard or RegExp, then #', () => {
    const all = newHandler('message', 'all', '#');
    const some = newHandler('message', 'some', 'order.*');
    const one = newHandler('message', 'one', 'order.paid');
    expect(routeOf(new HandlerTable([all, some, one]), 'order.paid').messageHandler).toBe('one');
    expect(routeOf(new HandlerTable([all, some, one]), 'order.sent').messageHandler).toBe('some');
    expect(routeOf(new HandlerTable([all, some, one]), 'user.born').messageHandler).toBe('all');
  });

  it('gives it to the first declared of two that are equally exact', () => {
    const wildcard = newHandler('message', 'wildcard', 'order.*');
    const regExp = newHandler('message', 'regExp', /^order/);
    expect(routeOf(new HandlerTable([wildcard, regExp]), 'order.paid').messageHandler).toBe('wildcard');
    expect(routeOf(new HandlerTable([regExp, wildcard]), 'order.paid').messageHandler).toBe('regExp');
  });

  it('ranks a handler by those of its patterns that match', () => {
    const mixed = newHandler('message', 'mixed', 'user.born', '#');
    const some = newHandler('message', 'some', 'order.*');
    expect(routeOf(new HandlerTable([mixed, some]), 'order.paid').messageHandler).toBe('some');
    expect(routeOf(new HandlerTable([some, mixed]), 'user.born').messageHandler).toBe('mixed');
  });

  it('tells event and message handlers apart', () => {
    const table = new HandlerTable([newHandler('event', 'e', 'a'), newHandler('message', 'm', 'a')]);
    expect(routeOf(table, 'a')).toEqual({ pattern: 'a', events: ['e'], messageHandler: 'm' });
  });

  it('lets the first text decide that any handler listens to, of either kind', () => {
    const table = new HandlerTable([newHandler('event', 'e', 'second'), newHandler('message', 'm', 'third')]);
    expect(routeOf(table, 'first', 'second', 'third')).toEqual({
      pattern: 'second',
      events: ['e'],
      messageHandler: undefined,
    });
    expect(routeOf(table, 'first', 'third', 'second')).toEqual({
      pattern: 'third',
      events: [],
      messageHandler: 'm',
    });
  });

  it('returns the most specific candidate when no handler listens', () => {
    const table = new HandlerTable([newHandler('event', 'e', 'a')]);
    expect(routeOf(table, 'x', 'y')).toEqual({ pattern: 'x', events: [], messageHandler: undefined });
  });

  it('does not read wildcards out of a message', () => {
    const table = new HandlerTable([newHandler('event', 'e', 'order.paid')]);
    expect(routeOf(table, 'order.*').events).toEqual([]);
    expect(routeOf(table, '#').events).toEqual([]);
  });

  it.each(['__proto__', 'constructor', ''])('is not confused by the text %j', (text) => {
    const table = new HandlerTable([newHandler('event', 'e', 'a')]);
    expect(routeOf(table, text)).toEqual({ pattern: text, events: [], messageHandler: undefined });
    expect(table.byId(text)).toBeUndefined();
  });

  it('finds handlers by their id', () => {
    const handlers = [newHandler('event', 'Orders.paid', 'a'), newHandler('message', 'Orders.get', 'b')];
    const table = new HandlerTable(handlers);
    expect(table.byId('Orders.get')).toBe(handlers[1]);
    expect(table.byId('Orders.gone')).toBeUndefined();
  });

  it('gives a text that no pattern can be as long as to # only, and neither matches nor remembers it', () => {
    const wildcard = newHandler('event', 'wildcard', 'a.#');
    const handlers = [
      newHandler('event', 'all', 'b', '#'),
      wildcard,
      newHandler('event', 'regExp', /a/),
      newHandler('message', 'first', '#'),
      newHandler('message', 'second', '#'),
    ];
    const table = new HandlerTable(handlers);
    const atLimit = `a.${'x'.repeat(253)}`;
    expect(routeOf(table, atLimit).events).toEqual(['all', 'wildcard', 'regExp']);
    const long = `${atLimit}x`;
    expect(routeOf(table, long)).toEqual({ pattern: long, events: ['all'], messageHandler: 'first' });
    expect(table.route([long])).not.toBe(table.route([long]));
    expect(routeOf(new HandlerTable([wildcard]), long, 'a.b').pattern).toBe('a.b');
  });

  it('matches each text once while it remembers it', () => {
    const handler = newHandler('event', 'e', 'a.*');
    const table = new HandlerTable([handler]);
    const first = table.route(['a.b']);
    const looks = handler.looked();
    expect(table.route(['a.b'])).toBe(first);
    expect(handler.looked()).toBe(looks);
  });

  it('caches at most 10 000 routes, and evicting them changes no result', () => {
    const handler = newHandler('event', 'e', 'a.*');
    const table = new HandlerTable([handler]);
    const first = table.route(['a.b']);
    for (let i = 1; i < 10_000; i++) table.route([`hostile ${i}`]);
    expect(table.route(['a.b'])).toBe(first);
    table.route(['one too many']);
    const looks = handler.looked();
    expect(table.route(['a.b'])).not.toBe(first);
    expect(handler.looked()).toBeGreaterThan(looks);
    expect(routeOf(table, 'a.b').events).toEqual(['e']);
  });
});

describe('concurrency limits of a message', () => {
  const bounded = (handler: Handler, concurrency: number): Handler => ({
    ...handler,
    consume: { concurrency },
  });
  const table = new HandlerTable([
    bounded(newHandler('event', 'one', 'a', '#'), 1),
    bounded(newHandler('message', 'two', 'a'), 2),
    newHandler('event', 'free', 'a'),
  ]);
  const limits = (pattern: string, headers: Record<string, string> = {}): number[] =>
    table.limitsOf(newMessage({ patterns: [pattern], headers })).map(({ max: limit }) => limit);

  it('are those of the handlers that it may get, the same objects each time', () => {
    expect([limits('a'), limits('b'), limits('x'.repeat(300))]).toEqual([[1, 2], [1], [1]]);
    const [bound] = table.limitsOf(newMessage({ patterns: ['b'] }));
    expect(table.limitsOf(newMessage({ patterns: ['c'] }))[0]).toBe(bound);
  });

  it('are those of the handler that a redelivery names, except for a dead letter that is consumed', () => {
    expect(limits('a', { 'stork-handler': 'two' })).toEqual([2]);
    expect([limits('a', { 'stork-handler': 'free' }), limits('a', { 'stork-handler': 'gone' })]).toEqual([
      [],
      [],
    ]);
    expect(limits('b', { 'stork-handler': 'two', 'stork-death-reason': 'fatal' })).toEqual([1]);
  });

  it('cost nothing where no handler has one', () => {
    expect([table.hasLimits, new HandlerTable([newHandler('event', 'e', 'a')]).hasLimits]).toEqual([
      true,
      false,
    ]);
  });
});
