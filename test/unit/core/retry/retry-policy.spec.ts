import { array, assert, constantFrom, double, integer, nat, option, property, record } from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  resolveRetry,
  type RetryOptions,
  type RetryPolicy,
} from '../../../../lib/core/retry/retry-options.js';
import {
  maxInProcessWaitMs,
  maxAttemptsOf,
  stepAfter,
  stepAsRequested,
  type FailedAttempt,
  type NextStep,
} from '../../../../lib/core/retry/retry-policy.js';

class ShopError extends Error {}
class DeclinedError extends ShopError {}

const failed = (fields: Partial<FailedAttempt> = {}): FailedAttempt => ({
  attempt: 1,
  errors: [new Error('no')],
  isRetryable: true,
  firstFailedAt: 0,
  now: 0,
  ...fields,
});
const after = (options: RetryOptions, fields: Partial<FailedAttempt> = {}): NextStep =>
  stepAfter(failed(fields), resolveRetry(options), Math.random);

const policies = record({
  maxRetries: nat(20),
  delayMs: nat(100_000),
  factor: double({ min: 1, max: 100, noNaN: true }),
  maxDelayMs: nat(1_000_000),
  jitter: constantFrom('full' as const, 'none' as const),
  redeliverDelaysMs: array(nat(1_000_000), { maxLength: 5 }),
}).map((options) => resolveRetry(options));
const parts = double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

/** Runs a chain that always fails, from the run with this number to its end. */
function chain(policy: RetryPolicy, random: () => number, from = 1): NextStep[] {
  const steps: NextStep[] = [];
  for (let attempt = from; ; attempt++) {
    const step = stepAfter(failed({ attempt }), policy, random);
    steps.push(step);
    if (!('delayMs' in step)) return steps;
  }
}

describe('the sequence of attempts', () => {
  it('is the first, the in-process retries, then the redeliveries, and ends exhausted', () => {
    const holds = property(policies, parts, (policy, part) => {
      const steps = chain(policy, () => part);
      expect(steps.length).toBe(maxAttemptsOf(policy));
      const kinds = steps.map(({ kind }) => kind);
      const inPlace = Array.from({ length: policy.maxRetries }, () => 'in-process');
      const redeliveries = policy.redeliverDelaysMs.map(() => 'redeliver');
      expect(kinds).toEqual([...inPlace, ...redeliveries, 'exhausted']);
    });
    assert(holds);
  });

  it('waits in process within its limits, for a redelivery exactly its delay', () => {
    const holds = property(policies, parts, (policy, part) => {
      let sum = 0;
      for (const [i, step] of chain(policy, () => part).entries()) {
        if (step.kind === 'redeliver') {
          expect(step.delayMs).toBe(policy.redeliverDelaysMs[i - policy.maxRetries]);
        } else if (step.kind === 'in-process') {
          const bound =
            policy.delayMs === 0 ? 0 : Math.min(policy.maxDelayMs, policy.delayMs * policy.factor ** i);
          expect(Number.isInteger(step.delayMs)).toBe(true);
          expect(step.delayMs).toBeGreaterThanOrEqual(0);
          expect(step.delayMs).toBeLessThanOrEqual(Math.ceil(bound));
          if (policy.jitter === 'none') expect(step.delayMs).toBe(Math.ceil(bound));
          sum += step.delayMs;
        }
      }
      expect(sum).toBeLessThanOrEqual(maxInProcessWaitMs(policy));
    });
    assert(holds);
  });

  it('continues after a restart at the number in the headers, and ends for a number beyond the maximum', () => {
    const holds = property(policies, integer({ min: 1, max: 40 }), (policy, from) => {
      const rest = chain(policy, () => 0.5, from);
      expect(rest).toEqual(
        from > maxAttemptsOf(policy) ? [{ kind: 'exhausted' }] : chain(policy, () => 0.5).slice(from - 1),
      );
    });
    assert(holds);
  });

  it('starts no attempt later than maxElapsedMs after the first failure', () => {
    const times = {
      firstFailedAt: integer({ min: -1e6, max: 1e6 }),
      now: integer({ min: -1e6, max: 1e6 }),
    };
    const holds = property(policies, nat(2_000_000), record(times), (policy, maxElapsedMs, at) => {
      const step = stepAfter(failed(at), { ...policy, maxElapsedMs }, () => 0.9);
      const free = stepAfter(failed(at), policy, () => 0.9);
      const elapsed = Math.max(0, at.now - at.firstFailedAt);
      if ('delayMs' in free && elapsed + free.delayMs > maxElapsedMs)
        expect(step).toEqual({ kind: 'exhausted' });
      else expect(step).toEqual(free);
      expect(maxInProcessWaitMs({ ...policy, maxElapsedMs })).toBeLessThanOrEqual(maxElapsedMs);
    });
    assert(holds);
  });

  it('counts a retry that the handler requests, and uses its delay', () => {
    const holds = property(
      policies,
      integer({ min: 1, max: 40 }),
      option(nat(), { nil: undefined }),
      (policy, attempt, delayMs) => {
        const step = stepAsRequested(failed({ attempt }), policy, { delayMs, random: () => 0.5 });
        if (attempt >= maxAttemptsOf(policy)) expect(step).toEqual({ kind: 'exhausted' });
        else if (delayMs === undefined)
          expect(step).toEqual(stepAfter(failed({ attempt }), policy, () => 0.5));
        else expect(step).toEqual({ kind: 'redeliver', delayMs });
      },
    );
    assert(holds);
  });
});

describe('which failures are retried', () => {
  const caused = new Error('outer', { cause: new DeclinedError('inner') });
  it.each<[string, RetryOptions, Partial<FailedAttempt>, NextStep['kind']]>([
    ['any, where nothing is said', {}, {}, 'in-process'],
    [
      'those of retryOn, subclasses included',
      { retryOn: [ShopError] },
      { errors: [new DeclinedError()] },
      'in-process',
    ],
    ['not others than those of retryOn', { retryOn: [ShopError] }, {}, 'fatal'],
    ['those whose cause retryOn names', { retryOn: [DeclinedError] }, { errors: [caused] }, 'in-process'],
    ['none of failOn', { failOn: [ShopError] }, { errors: [new DeclinedError()] }, 'fatal'],
    ['none whose cause failOn names', { failOn: [DeclinedError] }, { errors: [caused] }, 'fatal'],
    [
      'failOn wins',
      { failOn: [DeclinedError], retryOn: [ShopError] },
      { errors: [new DeclinedError()] },
      'fatal',
    ],
    ['a predicate', { failOn: [(error) => error === 'x'] }, { errors: ['x'] }, 'fatal'],
    [
      'a predicate that throws means none',
      {
        failOn: [
          () => {
            throw new Error('bug');
          },
        ],
      },
      {},
      'in-process',
    ],
    ['final ones are not', {}, { isRetryable: false }, 'fatal'],
    [
      'final ones that are named are',
      { retryOn: [ShopError] },
      { isRetryable: false, errors: [new ShopError()] },
      'in-process',
    ],
    ['Error names no final one', { retryOn: [Error] }, { isRetryable: false }, 'fatal'],
    ['Error names the others', { retryOn: [Error] }, {}, 'in-process'],
    ['thrown undefined', { retryOn: [ShopError] }, { errors: [undefined] }, 'fatal'],
  ])('%s', (_, options, fields, kind) => {
    expect(after(options, fields).kind).toBe(kind);
  });

  it('looks along a long way of causes', () => {
    let error: Error = new DeclinedError('at the bottom');
    for (let depth = 0; depth < 50; depth++) error = new Error('around', { cause: error });
    expect(after({ failOn: [DeclinedError] }, { errors: [error] }).kind).toBe('fatal');
  });

  it('survives a loop of causes and a cause that throws', () => {
    const loop: { cause?: unknown } = new Error('a');
    loop.cause = Object.assign(new Error('b'), { cause: loop });
    const hostile = Object.defineProperty(new Error('c'), 'cause', {
      get: () => {
        throw new Error('no');
      },
    });
    const endless = {
      get cause(): unknown {
        return Object.create(this);
      },
    };
    for (const error of [loop, hostile, endless])
      expect(after({ failOn: [DeclinedError] }, { errors: [error] }).kind).toBe('in-process');
  });
});

describe('options', () => {
  it('are merged field by field, the later winning where it says anything', () => {
    const policy = resolveRetry(
      { maxRetries: 1, delayMs: 5 },
      undefined,
      { delayMs: 7 },
      { maxRetries: undefined, factor: 3 },
    );
    expect(policy).toMatchObject({
      maxRetries: 1,
      delayMs: 7,
      factor: 3,
      maxDelayMs: 30_000,
      jitter: 'full',
    });
  });

  it('default to three in-process retries of 1, 2 and 4 seconds at most', () => {
    expect(maxInProcessWaitMs(resolveRetry())).toBe(7_000);
    expect(maxAttemptsOf(resolveRetry())).toBe(4);
  });
});
