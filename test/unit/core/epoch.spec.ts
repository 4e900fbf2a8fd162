import { describe, expect, it } from 'vitest';
import { Epoch } from '../../../lib/core/epoch.js';

describe('Epoch', () => {
  it('lives until it is ended', () => {
    const epoch = new Epoch();
    expect(epoch.live).toBe(true);
    epoch.end();
    expect(epoch.live).toBe(false);
  });

  it('aborts its signal when it ends', () => {
    const epoch = new Epoch();
    const { signal } = epoch;
    expect(signal.aborted).toBe(false);
    epoch.end();
    expect(signal.aborted).toBe(true);
  });

  it('gives everybody the same signal', () => {
    const epoch = new Epoch();
    expect(epoch.signal).toBe(epoch.signal);
  });

  it('gives whoever asks first after the end a signal that has aborted', () => {
    const epoch = new Epoch();
    epoch.end();
    expect(epoch.signal.aborted).toBe(true);
  });

  it('can be ended again, which tells nobody twice', () => {
    const epoch = new Epoch();
    let aborts = 0;
    epoch.signal.addEventListener('abort', () => aborts++);
    epoch.end();
    epoch.end();
    expect(aborts).toBe(1);
    expect(epoch.live).toBe(false);
  });

  it('makes no signal that nobody asked for', () => {
    const Original = globalThis.AbortController;
    let made = 0;
    globalThis.AbortController = class extends Original {
      constructor() {
        super();
        made++;
      }
    };
    try {
      const epoch = new Epoch();
      epoch.end();
      expect(made).toBe(0);
      const { signal } = epoch;
      expect([signal.aborted, made]).toEqual([true, 1]);
    } finally {
      globalThis.AbortController = Original;
    }
  });
});
