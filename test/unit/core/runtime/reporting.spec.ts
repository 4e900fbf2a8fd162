import { describe, expect, it } from 'vitest';
import { Counters } from '../../../../lib/core/runtime/reporting.js';

describe('Counters', () => {
  it('counts each name separately, from 0', () => {
    const counters = new Counters();
    expect(counters.get('stale-settlements')).toBe(0);
    counters.add('received');
    counters.add('received');
    counters.add('stale-settlements');
    expect([counters.get('received'), counters.get('stale-settlements'), counters.get('failed')]).toEqual([
      2, 1, 0,
    ]);
  });

  it('takes a snapshot of the names that were counted', () => {
    const counters = new Counters();
    expect(counters.snapshot()).toEqual({});
    counters.add('handled');
    const snapshot = counters.snapshot();
    counters.add('handled');
    expect(snapshot).toEqual({ handled: 1 });
  });
});
