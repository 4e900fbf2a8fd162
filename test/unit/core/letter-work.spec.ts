import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../lib/core/clock.js';
import { discardLetters, replayLetters, type ReplayOptions } from '../../../lib/core/letter-work.js';
import { FakeBox, letter } from '../cli/fake-host.js';

const options: ReplayOptions = {
  filter: {},
  signal: new AbortController().signal,
  dryRun: false,
  max: Infinity,
  rate: Infinity,
  clock: systemClock,
  maxReplays: 3,
  onProgress: () => {},
};

describe('work on dead letters', () => {
  it('ends in good order where its listener throws, with what that threw', async () => {
    const box = new FakeBox(['1', '2', '3'].map((id) => letter({ id })));
    const thrown = new Error('the terminal is gone');
    const rejected: unknown[] = [];
    const pass = box.pass.bind(box);
    // A driver is promised that neither rejects: it would not know what is done.
    box.pass = (visitor, passOptions) =>
      pass(visitor, passOptions).catch((error: unknown) => {
        rejected.push(error);
        throw error;
      });
    const onProgress = (): void => {
      throw thrown;
    };
    await expect(replayLetters(box, { ...options, onProgress })).rejects.toBe(thrown);
    expect(box.replayed).toEqual(['1']);
    expect(rejected).toEqual([]);
  });

  it.each(['constructor', '__proto__', 'toString'])('counts the reason %s as any other', async (reason) => {
    const box = new FakeBox([letter({ id: '1', reason }), letter({ id: '2', reason })]);
    const { byReason } = await discardLetters(box, options);
    expect(Object.entries(byReason)).toEqual([[reason, 2]]);
  });
});
