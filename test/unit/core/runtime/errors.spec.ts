import { describe, expect, it } from 'vitest';
import {
  isStorkError,
  messageOf,
  nameOf,
  NoRouteError,
  RemoteError,
  stackOf,
  StorkConfigError,
  StorkError,
} from '../../../../lib/core/runtime/errors.js';

const throwing = {
  get message(): string {
    throw new Error('no');
  },
  get name(): string {
    throw new Error('no');
  },
};
const revoked = Proxy.revocable({}, {});
revoked.revoke();

describe('StorkError', () => {
  it('has the name of its class and a code, and is recognised by its brand', () => {
    const error = new NoRouteError('nothing bound', { cause: 'x' });
    expect(error).toMatchObject({
      name: 'NoRouteError',
      code: 'NO_ROUTE',
      message: 'nothing bound',
      cause: 'x',
    });
    expect(error).toBeInstanceOf(StorkError);
    expect(isStorkError(error)).toBe(true);
  });

  it('is recognised when it comes from another copy of the package', () => {
    expect(isStorkError({ [Symbol.for('nestjs-stork.error')]: 'NoRouteError' })).toBe(true);
  });

  it.each([undefined, null, 'text', 1, {}, new Error('x')])('is not what %s is', (other) => {
    expect(isStorkError(other)).toBe(false);
  });
});

describe('StorkConfigError', () => {
  it('lists all problems', () => {
    const problems = [
      { name: 'a', expected: 'x', given: 'y' },
      { name: 'b', expected: 'x', given: 'y' },
    ];
    expect(new StorkConfigError(problems).message).toBe(
      '2 problems:\n  a: expected x, given y\n  b: expected x, given y',
    );
    expect(new StorkConfigError(problems.slice(1)).message).toBe('b: expected x, given y');
    expect(new StorkConfigError('plain').problems).toEqual([]);
  });
});

describe('RemoteError', () => {
  it('has the fields of the error reply', () => {
    const envelope = { name: 'NoStock', message: 'none', code: 'NO_STOCK', details: [1], retryable: true };
    expect(new RemoteError(envelope)).toMatchObject({
      name: 'RemoteError',
      remoteName: 'NoStock',
      message: 'none',
      code: 'NO_STOCK',
      details: [1],
      retryable: true,
    });
  });
});

const thrown: Record<string, { make: () => unknown; message: string; name: string }> = {
  'an error': { make: () => new TypeError('bad'), message: 'bad', name: 'TypeError' },
  text: { make: () => 'text', message: 'text', name: 'string' },
  undefined: { make: () => undefined, message: 'thrown undefined: undefined', name: 'undefined' },
  null: { make: () => null, message: 'thrown object: null', name: 'object' },
  'a number': { make: () => 42, message: 'thrown number: 42', name: 'number' },
  'a symbol': { make: () => Symbol('s'), message: 'thrown symbol: Symbol(s)', name: 'symbol' },
  'an object that is like an error': {
    make: () => ({ message: 'm', name: 'N' }),
    message: 'm',
    name: 'N',
  },
  'an object whose fields are no text': {
    make: () => ({ message: 5, name: 6 }),
    message: '5',
    name: 'object',
  },
  'an object without a prototype': {
    make: () => Object.create(null) as unknown,
    message: 'an error whose message cannot be read',
    name: 'object',
  },
  'an object whose getters throw': {
    make: () => throwing,
    message: 'an error whose message cannot be read',
    name: 'Error',
  },
  'a revoked proxy': {
    make: () => revoked.proxy,
    message: 'an error whose message cannot be read',
    name: 'Error',
  },
};

describe('messageOf, nameOf and stackOf', () => {
  it.each(Object.keys(thrown))('accept %s', (kind) => {
    const { make, message, name } = thrown[kind]!;
    expect([messageOf(make()), nameOf(make())]).toEqual([message, name]);
  });

  it('return a stack only for an error that has one', () => {
    const broken = new Error('x');
    Object.defineProperty(broken, 'stack', {
      get() {
        throw new Error('no');
      },
    });
    expect(stackOf(new Error('x'))).toContain('Error: x');
    expect([broken, revoked.proxy, 'text', undefined, { stack: 'made up' }].map(stackOf)).toEqual(
      Array(5).fill(undefined),
    );
  });
});
