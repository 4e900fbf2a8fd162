import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  KeyedQueue,
  type ConcurrencyLimit,
  type QueueEntry,
} from '../../../../lib/core/dispatch/keyed-queue.js';
import { settle } from '../harness.js';

/** Lanes whose items end when the test says so. */
class Bench {
  readonly queue: KeyedQueue<string>;
  readonly started: string[] = [];
  readonly #entries = new Map<string, QueueEntry<string>>();

  constructor(concurrency: number) {
    this.queue = new KeyedQueue(concurrency, (item, entry) => {
      this.started.push(item);
      this.#entries.set(item, entry);
    });
  }

  get running(): string[] {
    return [...this.#entries.keys()];
  }

  async end(item: string): Promise<void> {
    const entry = this.#entries.get(item)!;
    this.#entries.delete(item);
    this.queue.end(entry);
    await settle();
  }
}

function noteWhenDone(promise: Promise<void>): { done: boolean } {
  const note = { done: false };
  void promise.then(() => (note.done = true));
  return note;
}

describe('KeyedQueue', () => {
  it('runs items without a key concurrently, up to its concurrency', async () => {
    const bench = new Bench(2);
    for (const item of ['a', 'b', 'c']) bench.queue.push(undefined, item);
    expect(bench.running).toEqual(['a', 'b']);
    expect([bench.queue.running, bench.queue.waiting]).toEqual([2, 1]);
    await bench.end('b');
    expect(bench.running).toEqual(['a', 'c']);
    expect([bench.queue.running, bench.queue.waiting]).toEqual([2, 0]);
  });

  it('runs the items of one key one after another, in the order in which they came', async () => {
    const bench = new Bench(10);
    for (const item of ['x1', 'x2', 'x3']) bench.queue.push('x', item);
    expect(bench.running).toEqual(['x1']);
    await bench.end('x1');
    expect(bench.running).toEqual(['x2']);
    await bench.end('x2');
    await bench.end('x3');
    expect(bench.started).toEqual(['x1', 'x2', 'x3']);
  });

  it('treats the empty text as a key like any other', () => {
    const bench = new Bench(10);
    bench.queue.push('', 'a');
    bench.queue.push('', 'b');
    expect(bench.running).toEqual(['a']);
  });

  it('starts a key anew after it has become empty', async () => {
    const bench = new Bench(10);
    bench.queue.push('x', 'x1');
    await bench.end('x1');
    bench.queue.push('x', 'x2');
    expect(bench.running).toEqual(['x2']);
  });

  it('moves a key to the end of the ready queue after each item, so that a busy key does not starve the others', async () => {
    const bench = new Bench(1);
    for (const item of ['busy1', 'busy2', 'busy3', 'busy4']) bench.queue.push('busy', item);
    bench.queue.push('quiet', 'quiet1');
    bench.queue.push(undefined, 'free');
    for (const item of ['busy1', 'quiet1', 'free', 'busy2', 'busy3', 'busy4']) {
      expect(bench.running).toEqual([item]);
      await bench.end(item);
    }
  });

  it('starts what is pushed while an item runs', async () => {
    const started: string[] = [];
    const queue: KeyedQueue<string> = new KeyedQueue(2, (item, entry) => {
      started.push(item);
      if (item === 'first') {
        queue.push('x', 'x1');
        queue.push('x', 'x2');
      }
      queue.end(entry);
    });
    queue.push(undefined, 'first');
    await settle();
    expect(started).toEqual(['first', 'x1', 'x2']);
    expect([queue.running, queue.waiting]).toEqual([0, 0]);
  });

  describe('quiesce', () => {
    it('starts nothing more, and resolves when what ran has ended', async () => {
      const bench = new Bench(2);
      bench.queue.push('x', 'x1');
      bench.queue.push('x', 'x2');
      bench.queue.push(undefined, 'a');
      const quiesced = noteWhenDone(bench.queue.quiesce());
      await bench.end('x1');
      expect([quiesced.done, bench.running]).toEqual([false, ['a']]);
      await bench.end('a');
      expect([quiesced.done, bench.running]).toEqual([true, []]);
      bench.queue.push(undefined, 'b');
      expect(bench.running).toEqual([]);
      expect(bench.queue.waiting).toBe(2);
    });

    it('resolves at once when nothing runs', async () => {
      await expect(new Bench(1).queue.quiesce()).resolves.toBeUndefined();
    });

    it('resolves for every caller', async () => {
      const bench = new Bench(1);
      bench.queue.push(undefined, 'a');
      const notes = [bench.queue.quiesce(), bench.queue.quiesce(), bench.queue.settled()].map(noteWhenDone);
      await bench.end('a');
      expect(notes.map(({ done }) => done)).toEqual([true, true, true]);
    });

    it('is ended by resume, which starts waiting items, up to the concurrency', async () => {
      const bench = new Bench(2);
      void bench.queue.quiesce();
      for (const item of ['a', 'b', 'c']) bench.queue.push(undefined, item);
      bench.queue.resume();
      expect(bench.running).toEqual(['a', 'b']);
    });
  });

  it('settled waits also for what starts while it waits', async () => {
    const bench = new Bench(1);
    bench.queue.push(undefined, 'a');
    bench.queue.push(undefined, 'b');
    const settled = noteWhenDone(bench.queue.settled());
    await bench.end('a');
    expect(settled.done).toBe(false);
    await bench.end('b');
    expect(settled.done).toBe(true);
  });

  describe('takeWaiting', () => {
    it('takes what has not started out of every key, whether its first item runs or waits', async () => {
      const bench = new Bench(1);
      for (const item of ['x1', 'x2', 'x3']) bench.queue.push('x', item);
      for (const item of ['y1', 'y2']) bench.queue.push('y', item);
      bench.queue.push(undefined, 'a');
      expect(bench.queue.takeWaiting().toSorted()).toEqual(['a', 'x2', 'x3', 'y1', 'y2']);
      expect(bench.queue.waiting).toBe(0);
      expect(bench.queue.takeWaiting()).toEqual([]);
      await bench.end('x1');
      expect(bench.running).toEqual([]);
    });

    it('keeps a key in order whose item still runs', async () => {
      const bench = new Bench(5);
      bench.queue.push('x', 'x1');
      bench.queue.push('x', 'x2');
      bench.queue.takeWaiting();
      bench.queue.push('x', 'x3');
      expect(bench.running).toEqual(['x1']);
      await bench.end('x1');
      expect(bench.running).toEqual(['x3']);
    });

    it('leaves keys usable whose items only waited', () => {
      const bench = new Bench(5);
      void bench.queue.quiesce();
      bench.queue.push('x', 'x1');
      bench.queue.push('x', 'x2');
      bench.queue.takeWaiting();
      bench.queue.push('x', 'x3');
      bench.queue.resume();
      expect(bench.running).toEqual(['x3']);
    });
  });

  it('keeps thousands of items of one key in order', async () => {
    const started: number[] = [];
    const queue = new KeyedQueue<number>(4, (item, entry) => {
      started.push(item);
      queueMicrotask(() => queue.end(entry));
    });
    const numbers = [...Array(2_000).keys()];
    for (const number of numbers) queue.push('x', number);
    await queue.settled();
    expect(started).toEqual(numbers);
  });
});

describe('an item at one of its concurrency limits', () => {
  const one: ConcurrencyLimit = { max: 1 };

  it('waits beside the line: others go past it and take every slot', async () => {
    const bench = new Bench(2);
    for (const item of ['b1', 'b2', 'b3']) bench.queue.push(undefined, item, [one]);
    for (const item of ['a1', 'a2']) bench.queue.push(undefined, item);
    expect([bench.running, bench.queue.waiting]).toEqual([['b1', 'a1'], 3]);
    await bench.end('a1');
    expect(bench.running).toEqual(['b1', 'a2']);
    await bench.end('a2');
    expect([bench.running, bench.queue.running]).toEqual([['b1'], 1]);
    await bench.end('b1');
    expect(bench.running).toEqual(['b2']);
    await bench.end('b2');
    expect(bench.running).toEqual(['b3']);
  });

  it('blocks its key, and no other', async () => {
    const bench = new Bench(5);
    bench.queue.push('x', 'x1', [one]);
    bench.queue.push('y', 'y1', [one]);
    bench.queue.push('y', 'y2');
    bench.queue.push('z', 'z1');
    expect(bench.running).toEqual(['x1', 'z1']);
    await bench.end('x1');
    expect(bench.running).toEqual(['z1', 'y1']);
    await bench.end('y1');
    expect(bench.running).toEqual(['z1', 'y2']);
  });

  it('starts before later items of the limit, its own key included', async () => {
    const bench = new Bench(5);
    bench.queue.push('x', 'x1', [one]);
    bench.queue.push('x', 'x2', [one]);
    bench.queue.push('y', 'y1', [one]);
    for (const item of ['x1', 'y1', 'x2']) {
      expect(bench.running).toEqual([item]);
      await bench.end(item);
    }
  });

  it('takes all of its limits or none', async () => {
    const bench = new Bench(5);
    const other: ConcurrencyLimit = { max: 1 };
    bench.queue.push(undefined, 'a', [one]);
    bench.queue.push(undefined, 'both', [one, other]);
    bench.queue.push(undefined, 'b', [other]);
    expect(bench.running).toEqual(['a', 'b']);
    await bench.end('a');
    expect(bench.running).toEqual(['b']);
    await bench.end('b');
    expect(bench.running).toEqual(['both']);
  });

  it('lets the next one try where a place is free that it cannot use yet', async () => {
    const bench = new Bench(5);
    const other: ConcurrencyLimit = { max: 1 };
    bench.queue.push(undefined, 'a', [one]);
    bench.queue.push(undefined, 'b', [other]);
    bench.queue.push(undefined, 'both', [one, other]);
    bench.queue.push(undefined, 'a2', [one]);
    await bench.end('a');
    expect(bench.running).toEqual(['b', 'a2']);
  });

  it('can be taken out, with its key, and leaves the limit as it was', async () => {
    const bench = new Bench(1);
    bench.queue.push(undefined, 'runs');
    bench.queue.push('x', 'x1', [one]);
    bench.queue.push('y', 'y1', [one]);
    bench.queue.push('y', 'y2');
    expect(bench.queue.takeWaiting().toSorted()).toEqual(['x1', 'y1', 'y2']);
    bench.queue.push('y', 'y3', [one]);
    await bench.end('runs');
    expect(bench.running).toEqual(['y3']);
  });
});

interface Item {
  readonly orderingKey: string | undefined;
  readonly number: number;
  readonly bounds: readonly ConcurrencyLimit[];
}

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('push' as const),
      orderingKey: fc.integer({ min: -1, max: 3 }),
      bounds: fc.subarray([0, 1, 2]),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('end' as const), pick: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('quiesce' as const, 'resume' as const, 'take' as const) }),
  },
);

/** Ends of the event loop's microtasks that an ended item needs to start the next one. */
async function rest(): Promise<void> {
  for (let i = 0; i < 5; i++) await Promise.resolve();
}

describe('KeyedQueue under any load', () => {
  it('never exceeds its concurrency or a limit, leaves no slot idle, keeps keys exclusive and in order, and runs or returns each item once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }), fc.constant(4)),
        fc.array(step, { maxLength: 60 }),
        async (concurrency, limits, steps) => {
          const allBounds: ConcurrencyLimit[] = limits.map((max) => ({ max }));
          const running = new Map<Item, QueueEntry<Item>>();
          const started: Item[] = [];
          const taken: Item[] = [];
          const pushed: Item[] = [];
          let quiesced = false;
          const isFull = (bound: ConcurrencyLimit): boolean =>
            [...running.keys()].filter(({ bounds }) => bounds.includes(bound)).length === bound.max;
          const queue = new KeyedQueue<Item>(concurrency, (item, entry) => {
            expect(quiesced).toBe(false);
            expect(item.bounds.filter(isFull)).toEqual([]);
            expect(running.size).toBeLessThan(concurrency);
            const sameLane = [...running.keys()].filter(
              ({ orderingKey }) => orderingKey !== undefined && orderingKey === item.orderingKey,
            );
            expect(sameLane).toEqual([]);
            running.set(item, entry);
            started.push(item);
          });
          const end = async (item: Item): Promise<void> => {
            const entry = running.get(item)!;
            running.delete(item);
            queue.end(entry);
            await rest();
          };
          const check = (): void => {
            const gone = new Set([...started, ...taken]);
            const waiting = pushed.filter((item) => !gone.has(item));
            expect(queue.running).toBe(running.size);
            expect(queue.waiting).toBe(waiting.length);
            if (quiesced || running.size === concurrency) return;
            // Nothing idles: whatever waits does so behind its own key, or at a bound that is reached.
            const busy = new Set([...running.keys()].map(({ orderingKey }) => orderingKey));
            for (const { orderingKey, bounds } of waiting) {
              if (orderingKey !== undefined && busy.has(orderingKey)) continue;
              expect(bounds.filter(isFull)).not.toEqual([]);
              busy.add(orderingKey);
            }
          };
          for (const next of steps) {
            if (next.kind === 'push') {
              const item = {
                orderingKey: next.orderingKey < 0 ? undefined : String(next.orderingKey),
                number: pushed.length,
                bounds: next.bounds.map((index) => allBounds[index]!),
              };
              pushed.push(item);
              queue.push(item.orderingKey, item, item.bounds);
            } else if (next.kind === 'end') {
              if (running.size > 0) await end([...running.keys()][next.pick % running.size]!);
            } else if (next.kind === 'quiesce') {
              quiesced = true;
              void queue.quiesce();
            } else if (next.kind === 'resume') {
              quiesced = false;
              queue.resume();
            } else {
              taken.push(...queue.takeWaiting());
            }
            check();
          }
          quiesced = false;
          queue.resume();
          while (running.size > 0) await end([...running.keys()][0]!);
          await queue.settled();
          const byNumber = (a: Item, b: Item): number => a.number - b.number;
          expect([...started, ...taken].toSorted(byNumber)).toEqual(pushed);
          for (const orderingKey of ['0', '1', '2', '3']) {
            const ofLane = started.filter((item) => item.orderingKey === orderingKey);
            expect(ofLane).toEqual(ofLane.toSorted(byNumber));
          }
        },
      ),
    );
  });

  it("starts one item of every key before any key's second", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(4), { minLength: 1, maxLength: 40 }), async (laneNumbers) => {
        const started: number[] = [];
        const queue = new KeyedQueue<number>(1, (orderingKey, entry) => {
          started.push(orderingKey);
          queueMicrotask(() => queue.end(entry));
        });
        void queue.quiesce();
        for (const orderingKey of laneNumbers) queue.push(String(orderingKey), orderingKey);
        queue.resume();
        await queue.settled();
        // Round by round: the keys that have anything left, in the order of their first item.
        const left = new Map<number, number>();
        for (const orderingKey of laneNumbers) left.set(orderingKey, (left.get(orderingKey) ?? 0) + 1);
        const rounds: number[] = [];
        while (left.size > 0) {
          for (const [orderingKey, count] of left) {
            rounds.push(orderingKey);
            if (count === 1) left.delete(orderingKey);
            else left.set(orderingKey, count - 1);
          }
        }
        expect(started).toEqual(rounds);
      }),
    );
  });
});
