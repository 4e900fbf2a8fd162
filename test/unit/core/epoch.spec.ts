import { describe, expect, it } from 'vitest';
import { Epoch } from '../../../lib/core/epoch.js';

describe('Epoch', () => {
  it('lives until it is ended', () => {
    const epoch = new Epoch();
    expect(epoch.live).toBe(true);
    epoch.end();
    expect(epoch.live).toBe(false);
  });

  it('tells every listener when it ends, once, in the order of listening, and is over by then', () => {
    const epoch = new Epoch();
    const told: string[] = [];
    for (const name of ['a', 'b']) epoch.onEnd(() => told.push(`${name} ${epoch.live}`));
    expect(told).toEqual([]);
    epoch.end();
    epoch.end();
    expect(told).toEqual(['a false', 'b false']);
  });

  it('may be ended by what it tells', () => {
    const epoch = new Epoch();
    let told = 0;
    epoch.onEnd(() => {
      told++;
      epoch.end();
    });
    epoch.end();
    expect(told).toBe(1);
  });
});
