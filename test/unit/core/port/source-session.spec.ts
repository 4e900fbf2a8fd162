import { describe, expect, it } from 'vitest';
import { SourceSession } from '../../../../lib/core/port/delivery.js';

describe('SourceSession', () => {
  it('lives until it is ended', () => {
    const session = new SourceSession();
    expect(session.isActive).toBe(true);
    session.end();
    expect(session.isActive).toBe(false);
  });

  it('tells every listener when it ends, once, in the order of listening, and is over by then', () => {
    const session = new SourceSession();
    const told: string[] = [];
    for (const name of ['a', 'b']) session.onEnd(() => told.push(`${name} ${session.isActive}`));
    expect(told).toEqual([]);
    session.end();
    session.end();
    expect(told).toEqual(['a false', 'b false']);
  });

  it('may be ended by what it tells', () => {
    const session = new SourceSession();
    let told = 0;
    session.onEnd(() => {
      told++;
      session.end();
    });
    session.end();
    expect(told).toBe(1);
  });
});
