import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { MemoryQueue } from '../../../../../lib/memory/broker/queues/memory-queue.js';
import { message, newBroker, read, settle, texts, type Reader } from '../../harness.js';

type Step =
  | { readonly kind: 'publish' }
  | { readonly kind: 'turn' }
  | { readonly kind: 'open'; readonly prefetch: number }
  | { readonly kind: 'ack' | 'requeue' | 'cancel' | 'close'; readonly pick: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Step>({ kind: 'publish' }) },
  { weight: 3, arbitrary: fc.constant<Step>({ kind: 'turn' }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('open' as const), prefetch: fc.integer({ min: 0, max: 3 }) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'ack' as const,
        'ack' as const,
        'requeue' as const,
        'cancel' as const,
        'close' as const,
      ),
      pick: fc.nat(),
    }),
  },
);

interface Attached extends Reader {
  readonly prefetch: number;
  /** Texts by tag: delivered to this reader and not settled by it. */
  readonly held: Map<number, string>;
  seen: number;
  cancelled: boolean;
}

/** The invariants of the queue, checked only by published and delivered messages. */
class Model {
  readonly #queue: MemoryQueue;
  readonly #readers: Attached[] = [];
  readonly #unsettled = new Set<string>();
  #published = 0;

  constructor(queue: MemoryQueue) {
    this.#queue = queue;
  }

  async run(next: Step): Promise<void> {
    if (next.kind === 'publish') this.#publish();
    else if (next.kind === 'turn') await settle();
    else if (next.kind === 'open') this.#open(next.prefetch);
    else this.#act(next.kind, next.pick);
    this.#collect();
    this.#check();
  }

  /** Everything that is left comes out once, in order, to a last reader. */
  async drain(): Promise<void> {
    for (const reader of this.#readers) reader.consumer.close();
    await settle();
    const rest = [...this.#unsettled];
    expect(texts(this.#queue.peek())).toEqual(rest);
    const last = read(this.#queue);
    await settle();
    expect(last.texts()).toEqual(rest);
  }

  #publish(): void {
    const text = String(++this.#published);
    this.#unsettled.add(text);
    this.#queue.enqueue(message(text));
  }

  #open(prefetch: number): void {
    this.#readers.push({
      ...read(this.#queue, prefetch),
      prefetch,
      held: new Map(),
      seen: 0,
      cancelled: false,
    });
  }

  #act(kind: 'ack' | 'requeue' | 'cancel' | 'close', pick: number): void {
    const reader = this.#readers[pick % Math.max(1, this.#readers.length)];
    if (reader === undefined) return;
    if (kind === 'cancel') {
      reader.cancelled = true;
      reader.consumer.cancel();
    } else if (kind === 'close') {
      reader.consumer.close();
      this.#readers.splice(this.#readers.indexOf(reader), 1);
    } else {
      const tags = [...reader.held.keys()];
      const tag = tags[pick % Math.max(1, tags.length)];
      if (tag === undefined) return;
      if (kind === 'ack') {
        this.#unsettled.delete(reader.held.get(tag)!);
        reader.consumer.ack(tag);
      } else reader.consumer.nack(tag, true);
      reader.held.delete(tag);
    }
  }

  #collect(): void {
    for (const reader of this.#readers) {
      for (; reader.seen < reader.deliveries.length; reader.seen++) {
        const { tag, message: delivered } = reader.deliveries[reader.seen]!;
        const text = delivered.body.toString();
        expect(this.#unsettled, 'a settled message is not delivered again').toContain(text);
        for (const other of this.#readers) expect([...other.held.values()]).not.toContain(text);
        reader.held.set(tag, text);
        if (reader.prefetch > 0) expect(reader.held.size).toBeLessThanOrEqual(reader.prefetch);
      }
    }
  }

  #check(): void {
    const ready = texts(this.#queue.peek());
    expect(ready).toEqual(ready.toSorted((a, b) => Number(a) - Number(b)));
    const held = this.#readers.flatMap((reader) => [...reader.held.values()]);
    expect(held.filter((text) => ready.includes(text))).toEqual([]);
    expect(ready.length + this.#queue.unacked, 'nothing lost, nothing doubled').toBe(this.#unsettled.size);
    expect(this.#queue.consumers).toBe(this.#readers.filter(({ cancelled }) => !cancelled).length);
  }
}

it('neither loses nor duplicates a message and keeps the order, whatever publishers and consumers do', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), async (steps) => {
      const queue = newBroker().broker.declareQueue('q');
      const model = new Model(queue);
      for (const next of steps) await model.run(next);
      await model.drain();
    }),
    { numRuns: 300 },
  );
});
