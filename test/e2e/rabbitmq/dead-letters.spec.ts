import { describe, expect, it } from 'vitest';
import { url, useRaw } from './support.js';
import { bodies, discard, fillBox, list, openBox, replay, takeAll, upTo } from './boxes.js';

describe.skipIf(url === undefined)('RabbitMQ: the dead letter box', () => {
  const raw = useRaw();

  it.each([200, 450])(
    'shows %i letters in the same order 50 times, and moves none',
    async (count) => {
      const { queue, dlq } = await fillBox(raw(), count);
      const box = await openBox({ queue });
      const ids = new Set<string>();
      for (let round = 0; round < 50; round++) {
        const letters = await list(box);
        expect(bodies(letters), `round ${round}`).toEqual(upTo(count));
        ids.add(letters.map(({ id }) => id).join());
      }
      expect(ids.size).toBe(1);
      expect({ source: await raw().count(queue), letters: await raw().count(dlq) }).toEqual({
        source: 0,
        letters: count,
      });
    },
    60_000,
  );

  it('replays all to the source, where they are as they were sent', async () => {
    const { queue, dlq } = await fillBox(raw(), 30);
    const box = await openBox({ queue });
    expect(await replay(box)).toMatchObject({ done: 30, kept: 0, byReason: { 'retries-exhausted': 30 } });
    const back = await takeAll(raw(), queue);
    expect(back.map(({ content }) => content.toString())).toEqual(upTo(30));
    expect(await raw().count(dlq)).toBe(0);
  });

  it('discards what is meant', async () => {
    const { queue, dlq } = await fillBox(raw(), 30);
    const box = await openBox({ queue });
    const since = new Date(Date.UTC(2026, 0, 1) + 10_000);
    expect(await discard(box, { filter: { since } })).toMatchObject({ seen: 30, done: 20 });
    expect(bodies(await list(box))).toEqual(upTo(10));
    expect(await raw().count(dlq)).toBe(10);
  });
});
