import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { World, type Interruption, type Scenario, type Step } from './interleaving-model.js';

const duration = fc.constantFrom(0, 1, 50, 700);

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('succeed', 'throw', 'throw', 'throw', 'ack', 'nack', 'retry', 'dead-letter'),
  takesMs: duration,
  heedsAbort: fc.boolean(),
  delayMs: fc.constantFrom(undefined, 0, 300),
  thenThrows: fc.boolean(),
  decidesAfterMs: fc.constantFrom(undefined, 0, 20, 800),
});

const interruption = (what: Interruption['what']): fc.Arbitrary<Interruption> =>
  fc.record({
    what: fc.constant(what),
    at: fc.oneof(
      fc.record({ ms: fc.constantFrom(0, 1, 50, 99, 100, 101, 300, 700, 1_000, 1_700) }),
      fc.record({ happening: fc.nat(25), microtasks: fc.nat(12) }),
    ),
    limitMs: fc.constantFrom(0, 1, 100, 2_000),
    storesUnconfirmed: fc.boolean(),
  });

function scenarios(
  fields: Pick<Scenario, 'source' | 'mode'>,
  handlers: number,
  interruptions: readonly Interruption['what'][],
): fc.Arbitrary<Scenario> {
  const event = fc.record({
    key: fc.constantFrom('x', 'y', undefined),
    steps: fc.array(fc.array(step, { maxLength: 5 }), { minLength: handlers, maxLength: handlers }),
  });
  return fc.record({
    source: fc.constant(fields.source),
    mode: fc.constant(fields.mode),
    concurrency: fc.integer({ min: 1, max: 2 }),
    retry: fc.record({
      maxRetries: fc.nat(2),
      delayMs: fc.constantFrom(0, 100, 1_000),
      redeliverDelaysMs: fc.array(fc.constantFrom(1, 500), { maxLength: 2 }),
    }),
    republish: fc.record({ takesMs: fc.constantFrom(0, 0, 30), refusals: fc.nat(2) }),
    events: fc.array(event, { minLength: 1, maxLength: 3 }),
    interruptions:
      interruptions.length === 0
        ? fc.constant([])
        : fc.array(fc.oneof(...interruptions.map(interruption)), { minLength: 1, maxLength: 2 }),
  });
}

/** fast-check reports the seed and the smallest scenario that fails. */
async function holds(scenario: fc.Arbitrary<Scenario>, numRuns: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(scenario, async (one) => {
      expect(await new World(one).run()).toEqual([]);
    }),
    { numRuns },
  );
}

describe.each(['queue', 'log'] as const)('on a %s, whatever its handlers do, an event', (source) => {
  const events = (interruptions: readonly Interruption['what'][]) =>
    scenarios({ source, mode: 'at-least-once' }, 2, interruptions);

  it('is settled once, for each of its two handlers', () => holds(events([]), 100));

  it('is neither lost nor repeated by a shutdown, and returns for its unfinished handlers', () =>
    holds(events(['shutdown']), 200));

  it('is not lost with its session, and what was settled is not repeated', () =>
    holds(events(source === 'log' ? ['loss', 'rebalance'] : ['loss']), 100));

  it('is not lost by losses and shutdowns that overlap', () =>
    holds(events(source === 'log' ? ['loss', 'shutdown', 'rebalance'] : ['loss', 'shutdown']), 200));

  it('is settled once by a manual handler, whenever it decides, and returned if it does not', () =>
    holds(
      scenarios(
        { source, mode: 'manual' },
        1,
        source === 'log' ? ['loss', 'shutdown', 'rebalance'] : ['loss', 'shutdown'],
      ),
      150,
    ));
});
