import { describe, expect, it } from 'vitest';
import { Exchange } from '../../../../../lib/memory/broker/queues/exchange.js';

describe('Exchange', () => {
  it('direct: takes the routing key literally', () => {
    const exchange = new Exchange('e', 'direct');
    exchange.bind('q1', 'order.placed');
    exchange.bind('q2', 'order.*');
    expect([...exchange.route('order.placed', {})]).toEqual(['q1']);
  });

  it('topic: lets * stand for one word and # for any number', () => {
    const exchange = new Exchange('e', 'topic');
    exchange.bind('one', 'order.*');
    exchange.bind('many', 'order.#');
    expect([...exchange.route('order', {})]).toEqual(['many']);
    expect([...exchange.route('order.placed', {})]).toEqual(['one', 'many']);
    expect([...exchange.route('order.placed.late', {})]).toEqual(['many']);
  });

  it('fanout: ignores the routing key', () => {
    const exchange = new Exchange('e', 'fanout');
    exchange.bind('q1', 'x');
    exchange.bind('q2', '');
    expect([...exchange.route('anything', {})]).toEqual(['q1', 'q2']);
  });

  it('headers: matches all of the arguments, or any of them, and ignores x- arguments', () => {
    const exchange = new Exchange('e', 'headers');
    exchange.bind('default', '', { a: 1, b: 'x' });
    exchange.bind('all', '', { 'x-match': 'all', a: 1, b: 'x' });
    exchange.bind('any', '', { 'x-match': 'any', a: 1, b: 'x' });
    exchange.bind('present', '', { a: undefined });
    expect([...exchange.route('', { a: 1, b: 'x', c: true })]).toEqual(['default', 'all', 'any', 'present']);
    expect([...exchange.route('', { a: 1, b: 'y' })]).toEqual(['any', 'present']);
    expect([...exchange.route('', { a: '1' })]).toEqual(['present']);
    expect([...exchange.route('', {})]).toEqual([]);
  });

  it('headers: does not mistake inherited properties for headers', () => {
    const exchange = new Exchange('e', 'headers');
    exchange.bind('q', '', { toString: undefined });
    expect([...exchange.route('', {})]).toEqual([]);
  });

  it('headers: refuses an unknown x-match', () => {
    const exchange = new Exchange('e', 'headers');
    expect(() => exchange.bind('q', '', { 'x-match': 'some' })).toThrow(/x-match/);
  });

  it('names a queue once, however many of its bindings match', () => {
    const exchange = new Exchange('e', 'topic');
    exchange.bind('q', 'a.*');
    exchange.bind('q', '#');
    exchange.bind('q', '#');
    expect([...exchange.route('a.b', {})]).toEqual(['q']);
  });

  it('has each binding once, so one unbind removes it', () => {
    const exchange = new Exchange('e', 'direct');
    exchange.bind('q', 'k');
    exchange.bind('q', 'k');
    exchange.unbind('q', 'k');
    expect([...exchange.route('k', {})]).toEqual([]);
  });

  it('keeps bindings with different arguments apart', () => {
    const exchange = new Exchange('e', 'headers');
    exchange.bind('q', '', { a: 1 });
    exchange.bind('q', '', { a: 2 });
    exchange.unbind('q', '', { a: 1 });
    expect([...exchange.route('', { a: 1 })]).toEqual([]);
    expect([...exchange.route('', { a: 2 })]).toEqual(['q']);
  });
});
