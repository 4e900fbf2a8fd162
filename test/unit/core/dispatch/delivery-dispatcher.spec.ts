import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Delivery, SourceSession } from '../../../../lib/core/port/delivery.js';
import type { Subscription } from '../../../../lib/core/port/driver.js';
import {
  DeliveryDispatcher,
  type DeliveryDispatcherFields,
} from '../../../../lib/core/dispatch/delivery-dispatcher.js';
import type { ProcessingSlot } from '../../../../lib/core/consume/delivery-context.js';
import { RetryTimers } from '../../../../lib/core/retry/retry-timers.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { newDelivery, newGate, newMessage, noteWhenDone, settle, type Gate } from '../harness.js';

class RecordingSubscription implements Subscription {
  readonly calls: string[] = [];
  stopped: Promise<void> = Promise.resolve();
  pause(): void {
    this.calls.push('pause');
  }
  resume(): void {
    this.calls.push('resume');
  }
  stop(): Promise<void> {
    this.calls.push('stop');
    return this.stopped;
  }
  async close(): Promise<void> {
    this.calls.push('close');
  }
}

function newBench(fields: Partial<DeliveryDispatcherFields> = {}) {
  const clock = new VirtualClock();
  const released: number[] = [];
  const started: number[] = [];
  const gates = new Map<number, Gate>();
  const slots = new Map<number, ProcessingSlot>();
  const dispatcher = new DeliveryDispatcher({
    concurrency: 2,
    maxWaiting: 20,
    pausesWithoutRedelivery: true,
    pausesWhileRepublishBlocked: true,
    clock,
    retryTimers: new RetryTimers(clock),
    process: (delivery, slot) => {
      started.push(delivery.tag);
      slots.set(delivery.tag, slot);
      const gate = newGate();
      gates.set(delivery.tag, gate);
      return gate.promise;
    },
    returnToSource: (delivery) => {
      released.push(delivery.tag);
      delivery.requeue();
    },
    ...fields,
  });
  const subscription = new RecordingSubscription();
  const deliver = (tag: number, orderingKey?: string, bytes = 8, session = new SourceSession()): Delivery => {
    const message = newMessage({ body: Buffer.alloc(bytes) });
    const { delivery } = newDelivery({ tag, orderingKey, message, session });
    dispatcher.deliver(delivery);
    return delivery;
  };
  const end = async (tag: number): Promise<void> => {
    gates.get(tag)!.open();
    await settle();
  };
  const slot = (tag: number): ProcessingSlot => slots.get(tag)!;
  return { clock, dispatcher, subscription, started, released, deliver, end, slot };
}

describe('deliveries', () => {
  it('run up to the concurrency, those of one key one after another', async () => {
    const { dispatcher, started, deliver, end } = newBench();
    deliver(1, 'x');
    deliver(2, 'x');
    deliver(3, 'y');
    deliver(4);
    expect([started, dispatcher.running, dispatcher.inFlight]).toEqual([[1, 3], 2, 4]);
    await end(1);
    expect([started, dispatcher.running, dispatcher.inFlight]).toEqual([[1, 3, 4], 2, 3]);
    await end(3);
    expect(started).toEqual([1, 3, 4, 2]);
  });

  it('count as in flight until they are settled, a tombstone included', async () => {
    const { dispatcher, end } = newBench();
    dispatcher.deliver(newDelivery({ tag: 1, message: newMessage({ body: null }) }).delivery);
    expect(dispatcher.inFlight).toBe(1);
    await end(1);
    expect(dispatcher.inFlight).toBe(0);
  });
});

describe('a delivery that waits', () => {
  it.each(['a shutdown', 'the loss of its source'])(
    'is interrupted by %s that follows the end of its wait, before it has a slot again',
    async (cause) => {
      const { clock, dispatcher, slot, deliver } = newBench();
      const hook = newGate();
      const delivery = deliver(1);
      const waited = noteWhenDone(slot(1).wait(10, hook.promise));
      await clock.advance(10);
      hook.open();
      queueMicrotask(() => {
        if (cause === 'a shutdown') void dispatcher.drain(20_000, () => {});
        else delivery.session.end();
      });
      await settle();
      expect(waited).toEqual({ done: true, value: false });
    },
  );

  it('gives its slot to another, keeps its key, and continues before others start', async () => {
    const { clock, dispatcher, started, slot, deliver, end } = newBench({ concurrency: 1 });
    for (const [tag, key] of [[1, 'x'], [2, 'x'], [3], [4]] as const) deliver(tag, key);
    const waited = noteWhenDone(slot(1).wait(1_000));
    await settle();
    expect([started, dispatcher.running, dispatcher.inFlight]).toEqual([[1, 3], 1, 4]);
    await clock.advance(1_000);
    expect(waited.done).toBe(false);
    await end(3);
    expect([waited.value, started, dispatcher.running]).toEqual([true, [1, 3], 1]);
    await end(1);
    await end(4);
    expect(started).toEqual([1, 3, 4, 2]);
  });

  it('keeps its slot until all its handlers wait', async () => {
    const { dispatcher, slot, deliver } = newBench();
    deliver(1);
    slot(1).handlersStarted(3);
    void slot(1).wait(1_000);
    slot(1).handlerEnded();
    expect(dispatcher.running).toBe(1);
    slot(1).handlerEnded();
    expect(dispatcher.running).toBe(0);
  });

  it('gets one slot for all its handlers', async () => {
    const { clock, dispatcher, slot, deliver, end } = newBench({ concurrency: 1 });
    deliver(1);
    slot(1).handlersStarted(2);
    const waits = [slot(1).wait(1_000), slot(1).wait(1_000), slot(1).wait(2_000)].map(noteWhenDone);
    await clock.advance(1_000);
    await settle();
    expect([waits.map(({ value }) => value), dispatcher.running]).toEqual([[true, true, undefined], 1]);
    await end(1);
    expect(dispatcher.running).toBe(0);
  });

  it('is interrupted by a drain and by the end of its session, also while it waits for a slot', async () => {
    for (const how of ['drain', 'session'] as const) {
      const { clock, dispatcher, slot, deliver } = newBench({ concurrency: 2 });
      const session = new SourceSession();
      for (const tag of [1, 2]) deliver(tag, undefined, 8, session);
      const elapsed = noteWhenDone(slot(1).wait(1_000));
      const long = noteWhenDone(slot(2).wait(60_000));
      for (const tag of [3, 4]) deliver(tag);
      await clock.advance(1_000);
      await settle();
      expect([elapsed.done, long.done]).toEqual([false, false]);
      if (how === 'drain') void dispatcher.drain(10_000, () => {});
      else session.end();
      await settle();
      expect([elapsed.value, long.value]).toEqual([false, false]);
      expect(await slot(1).wait(0)).toBe(false);
    }
  });

  it('holds up no rebalance, and gets no slot until it is over', async () => {
    const { clock, dispatcher, slot, deliver } = newBench();
    deliver(1);
    const waited = noteWhenDone(slot(1).wait(1_000));
    await dispatcher.quiesce();
    await clock.advance(1_000);
    await settle();
    expect(waited.done).toBe(false);
    dispatcher.resume();
    await settle();
    expect([waited.value, dispatcher.running]).toEqual([true, 1]);
  });

  it('is awaited by a rebalance once a drain has interrupted its wait, until it is settled', async () => {
    const { dispatcher, slot, deliver, end } = newBench();
    deliver(1);
    const waited = noteWhenDone(slot(1).wait(1_000));
    const drained = noteWhenDone(dispatcher.drain(10_000, () => {}));
    await settle();
    const quiesced = noteWhenDone(dispatcher.quiesce());
    await settle();
    expect([waited.value, dispatcher.running, quiesced.done, drained.done]).toEqual([false, 1, false, false]);
    await end(1);
    expect([dispatcher.running, dispatcher.inFlight, quiesced.done, drained.done]).toEqual([
      0,
      0,
      true,
      true,
    ]);
  });

  it('keeps others from starting when maxWaiting wait, and does not pause the source before', async () => {
    const { clock, dispatcher, subscription, started, slot, deliver, end } = newBench({ concurrency: 2 });
    dispatcher.attach(subscription);
    for (let tag = 1; tag <= 20; tag++) {
      deliver(tag);
      void slot(tag).wait(1_000);
    }
    for (let tag = 21; tag <= 83; tag++) deliver(tag);
    expect([started.length, dispatcher.inFlight, subscription.calls]).toEqual([20, 83, []]);
    deliver(84);
    expect(subscription.calls).toEqual(['pause']);
    await clock.advance(1_000);
    await settle();
    expect(dispatcher.running).toBe(2);
    // Those that waited continue before others start.
    for (let tag = 1; tag <= 18; tag++) await end(tag);
    expect([started.length, dispatcher.running]).toEqual([20, 2]);
    await end(19);
    expect([started.length, dispatcher.running]).toEqual([21, 2]);
  });
});

describe('a delivery that has left its slot', () => {
  it('frees its key, and counts as in flight until it is settled', async () => {
    const { dispatcher, started, slot, deliver, end } = newBench({ concurrency: 1 });
    deliver(1, 'x');
    deliver(2, 'x');
    slot(1).leave();
    const counts = (): number[] => [dispatcher.running, dispatcher.deferred, dispatcher.inFlight];
    expect([started, counts()]).toEqual([
      [1, 2],
      [1, 1, 2],
    ]);
    await end(1);
    expect(counts()).toEqual([1, 0, 1]);
  });

  it('continues in the order of its key after a wait', async () => {
    const { clock, dispatcher, slot, deliver, end } = newBench({ concurrency: 5 });
    deliver(1, 'x');
    slot(1).leave();
    deliver(2, 'x');
    const waited = noteWhenDone(slot(1).wait(1_000));
    await clock.advance(1_000);
    await settle();
    expect(waited.done).toBe(false);
    await end(2);
    expect([waited.value, dispatcher.running, dispatcher.deferred]).toEqual([true, 1, 0]);
  });

  it('is aborted when its session ends', async () => {
    const { released, slot, deliver } = newBench();
    const session = new SourceSession();
    const left = deliver(1, 'x', 8, session);
    slot(1).leave();
    session.end();
    expect([left.aborted, released]).toEqual([true, []]);
  });

  it('is awaited by a drain, and requeued when the limit passes', async () => {
    const { clock, dispatcher, released, slot, deliver, end } = newBench();
    for (const tag of [1, 2]) {
      deliver(tag);
      slot(tag).leave();
    }
    let abandoned = 0;
    const drained = noteWhenDone(dispatcher.drain(1_000, () => abandoned++));
    await settle();
    await end(1);
    expect([drained.done, abandoned]).toEqual([false, 0]);
    await clock.advance(1_000);
    expect([drained.done, abandoned, released]).toEqual([true, 1, [2]]);
    await end(2);
    expect([dispatcher.inFlight, released]).toEqual([0, [2]]);
  });

  it('ends a drain when the last of it is settled', async () => {
    const { dispatcher, slot, deliver, end } = newBench();
    deliver(1);
    slot(1).leave();
    const drained = noteWhenDone(dispatcher.drain(1_000, () => {}));
    await settle();
    expect(drained.done).toBe(false);
    await end(1);
    expect([drained.done, dispatcher.inFlight]).toEqual([true, 0]);
  });
});

it('does not abort an early-acked message when its session ends', async () => {
  const { deliver, started } = newBench();
  const session = new SourceSession();
  const delivery = deliver(1, 'x', 8, session);
  await delivery.ackEarly();
  session.end();
  expect([started, delivery.aborted]).toEqual([[1], false]);
});

it('enqueues a delivery with the concurrency limits of its handlers', async () => {
  const bound = { max: 1 };
  const { started, deliver, end } = newBench({
    limitsOf: ({ tag }) => (tag % 2 === 1 ? [bound] : []),
  });
  for (const tag of [1, 3, 2, 4]) deliver(tag);
  expect(started).toEqual([1, 2]);
  await end(2);
  expect(started).toEqual([1, 2, 4]);
  await end(1);
  expect(started).toEqual([1, 2, 4, 3]);
});

describe('a session that ends', () => {
  it('releases what waits of it at once, and nothing else, and aborts what is at work', async () => {
    const { dispatcher, started, released, deliver, end } = newBench();
    const lost = new SourceSession();
    const running = deliver(1, 'x', 8, lost);
    const other = deliver(2, 'y');
    deliver(3, 'x', 8, lost);
    deliver(4, 'x');
    deliver(5, 'z', 8, lost);
    lost.end();
    expect([released.toSorted(), dispatcher.inFlight]).toEqual([[3, 5], 3]);
    expect([running.aborted, other.aborted, released.includes(1)]).toEqual([true, false, false]);
    await end(1);
    expect(started).toEqual([1, 2, 4]);
  });

  it('starts nothing of it that its source delivers when it resumes', async () => {
    const { dispatcher, subscription, started, deliver, end } = newBench();
    dispatcher.attach(subscription);
    const session = new SourceSession();
    for (let tag = 1; tag <= 64; tag++) deliver(tag, 'x', 8, session);
    subscription.resume = () => void deliver(65, 'y', 8, session);
    void dispatcher.quiesce();
    session.end();
    dispatcher.resume();
    await end(1);
    expect([started, dispatcher.inFlight]).toEqual([[1], 0]);
  });

  it('leaves the others before what its source delivers when it resumes', async () => {
    const { dispatcher, started, subscription, deliver, end } = newBench({ concurrency: 1 });
    const kept = new SourceSession();
    const lost = new SourceSession();
    subscription.resume = () => void deliver(5, 'x', 8, kept);
    dispatcher.attach(subscription);
    for (const tag of [1, 2, 3, 4]) deliver(tag, 'x', 8, kept);
    for (let tag = 100; tag < 160; tag++) deliver(tag, `of ${tag}`, 8, lost);
    expect(subscription.calls).toEqual(['pause']);
    lost.end();
    for (const tag of [1, 2, 3, 4]) await end(tag);
    expect(started).toEqual([1, 2, 3, 4, 5]);
  });

  it('leaves the others in the order of their keys, each settled or started once', () => {
    const step = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({ orderingKey: fc.constantFrom('x', 'y', undefined), of: fc.nat(2) }),
      },
      {
        weight: 3,
        arbitrary: fc.record({ finish: fc.nat(5), waits: fc.boolean() }),
      },
      { weight: 1, arbitrary: fc.record({ end: fc.nat(2) }) },
      { weight: 1, arbitrary: fc.constantFrom('quiesce', 'resume') },
    );
    return fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3 }),
        fc.array(step, { maxLength: 40 }),
        async (concurrency, steps) => {
          const atWork = new Map<Delivery, { readonly gate: Gate; readonly slot: ProcessingSlot }>();
          const waiting = new Set<Delivery>();
          const started: Delivery[] = [];
          const released: Delivery[] = [];
          const delivered: Delivery[] = [];
          const { clock, dispatcher } = newBench({
            concurrency,
            process: (delivery, slot) => {
              expect([delivery.open, delivery.aborted, atWork.has(delivery)]).toEqual([true, false, false]);
              const sameLane = [...atWork.keys(), ...waiting].filter(
                ({ orderingKey }) => orderingKey !== undefined && orderingKey === delivery.orderingKey,
              );
              expect(sameLane).toEqual([]);
              started.push(delivery);
              const gate = newGate();
              atWork.set(delivery, { gate, slot });
              return gate.promise;
            },
            returnToSource: (delivery) => void released.push(delivery),
          });
          const wait = (delivery: Delivery, work: { readonly gate: Gate; readonly slot: ProcessingSlot }) => {
            waiting.add(delivery);
            void work.slot.wait(1).then((hasSlot) => {
              waiting.delete(delivery);
              if (hasSlot) atWork.set(delivery, work);
              else work.gate.open();
            });
          };
          const sessions = [new SourceSession(), new SourceSession(), new SourceSession()];
          for (const next of steps) {
            if (next === 'quiesce') void dispatcher.quiesce();
            else if (next === 'resume') dispatcher.resume();
            else if ('end' in next) {
              sessions[next.end]!.end();
              sessions[next.end] = new SourceSession();
            } else if ('of' in next) {
              const { delivery } = newDelivery({
                tag: delivered.length,
                orderingKey: next.orderingKey,
                session: sessions[next.of]!,
              });
              delivered.push(delivery);
              dispatcher.deliver(delivery);
            } else {
              const [delivery, work] = [...atWork][next.finish] ?? [];
              if (delivery === undefined) continue;
              atWork.delete(delivery);
              if (next.waits) wait(delivery, work!);
              else work!.gate.open();
              await clock.advance(1);
            }
            for (let turn = 0; turn < 10; turn++) await Promise.resolve();
            expect(dispatcher.running).toBe(atWork.size);
            expect(dispatcher.running).toBeLessThanOrEqual(concurrency);
          }
          dispatcher.resume();
          while (atWork.size + waiting.size > 0) {
            for (const [delivery, { gate }] of atWork) {
              atWork.delete(delivery);
              gate.open();
            }
            await clock.advance(1);
            for (let turn = 0; turn < 10; turn++) await Promise.resolve();
          }
          expect([...started, ...released].toSorted((a, b) => a.tag - b.tag)).toEqual(delivered);
          for (const orderingKey of ['x', 'y']) {
            const tags = started
              .filter((delivery) => delivery.orderingKey === orderingKey)
              .map(({ tag }) => tag);
            expect(tags).toEqual(tags.toSorted((a, b) => a - b));
          }
          for (const { session } of released) expect(session.isActive).toBe(false);
          expect([dispatcher.inFlight, dispatcher.running]).toEqual([0, 0]);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('a full house', () => {
  it('pauses the source at the upper limit and resumes it at the lower one', async () => {
    const { dispatcher, subscription, deliver, end } = newBench();
    dispatcher.attach(subscription);
    for (let tag = 1; tag <= 63; tag++) deliver(tag);
    expect(subscription.calls).toEqual([]);
    deliver(64);
    deliver(65);
    expect(subscription.calls).toEqual(['pause']);
    for (let tag = 1; tag <= 32; tag++) await end(tag);
    expect([subscription.calls, dispatcher.inFlight]).toEqual([['pause'], 33]);
    await end(33);
    expect(subscription.calls).toEqual(['pause', 'resume']);
  });

  it('is full of bytes too', async () => {
    const { dispatcher, subscription, deliver, end } = newBench();
    dispatcher.attach(subscription);
    deliver(1, undefined, 64 * 1024 * 1024);
    expect(subscription.calls).toEqual(['pause']);
    await end(1);
    expect(subscription.calls).toEqual(['pause', 'resume']);
  });

  it('pauses nothing where a pause would give messages back', async () => {
    const { dispatcher, subscription, deliver, end } = newBench({ pausesWithoutRedelivery: false });
    dispatcher.attach(subscription);
    for (let tag = 1; tag <= 100; tag++) deliver(tag);
    for (let tag = 1; tag <= 100; tag++) await end(tag);
    expect(subscription.calls).toEqual([]);
  });

  it('pauses a source whose subscription comes after its first deliveries', () => {
    const { dispatcher, subscription, deliver } = newBench();
    for (let tag = 1; tag <= 64; tag++) deliver(tag);
    dispatcher.attach(subscription);
    expect(subscription.calls).toEqual(['pause']);
  });
});

describe('a dead letter that cannot be written', () => {
  it('pauses the source, also where a full house does not, until the last of several is written', () => {
    const { dispatcher, subscription } = newBench({ pausesWithoutRedelivery: false });
    dispatcher.attach(subscription);
    expect([dispatcher.onRepublishBlocked(true), dispatcher.onRepublishBlocked(true)]).toEqual([true, false]);
    expect(subscription.calls).toEqual(['pause']);
    expect(dispatcher.onRepublishBlocked(false)).toBe(false);
    expect(subscription.calls).toEqual(['pause']);
    expect(dispatcher.onRepublishBlocked(false)).toBe(true);
    expect(subscription.calls).toEqual(['pause', 'resume']);
    expect(dispatcher.onRepublishBlocked(true)).toBe(true);
  });

  it('requeues waiting deliveries where the source delivers a new prefetch window after a pause, but not running ones', async () => {
    const { dispatcher, subscription, started, released, deliver, end } = newBench({
      pausesWithoutRedelivery: false,
    });
    dispatcher.attach(subscription);
    deliver(1, 'x');
    deliver(2, 'x');
    deliver(3);
    deliver(4);
    dispatcher.onRepublishBlocked(true);
    expect([released.toSorted(), dispatcher.inFlight, subscription.calls]).toEqual([[2, 4], 2, ['pause']]);
    await end(1);
    await end(3);
    expect([started, dispatcher.inFlight]).toEqual([[1, 3], 0]);
  });

  it('gives nothing back where a pause leaves what was delivered here', async () => {
    const { dispatcher, subscription, released, started, deliver, end } = newBench({ concurrency: 1 });
    dispatcher.attach(subscription);
    deliver(1);
    deliver(2);
    dispatcher.onRepublishBlocked(true);
    await end(1);
    expect([released, started]).toEqual([[], [1, 2]]);
  });

  it('keeps a source paused that has room again, and the other way round', async () => {
    const { dispatcher, subscription, deliver, end } = newBench();
    dispatcher.attach(subscription);
    deliver(1, undefined, 64 * 1024 * 1024);
    dispatcher.onRepublishBlocked(true);
    await end(1);
    expect(subscription.calls).toEqual(['pause']);
    deliver(2, undefined, 64 * 1024 * 1024);
    dispatcher.onRepublishBlocked(false);
    expect(subscription.calls).toEqual(['pause']);
    await end(2);
    expect(subscription.calls).toEqual(['pause', 'resume']);
  });
});

describe('quiesce', () => {
  it('starts nothing, waits for running deliveries, keeps waiting ones, and is ended by resume', async () => {
    const { dispatcher, started, released, deliver, end } = newBench({ concurrency: 1 });
    deliver(1);
    deliver(2);
    const quiesced = noteWhenDone(dispatcher.quiesce());
    await settle();
    expect(quiesced.done).toBe(false);
    await end(1);
    deliver(3);
    expect([quiesced.done, started, released]).toEqual([true, [1], []]);
    dispatcher.resume();
    expect(started).toEqual([1, 2]);
  });

  it('continues with deliveries of the sessions that are still active', async () => {
    const { dispatcher, started, released, deliver } = newBench();
    const lost = new SourceSession();
    await dispatcher.quiesce();
    deliver(1, 'x', 8, lost);
    deliver(2, 'x');
    deliver(3, 'y', 8, lost);
    lost.end();
    dispatcher.resume();
    await settle();
    expect([started, released, dispatcher.inFlight]).toEqual([[2], [1, 3], 1]);
  });
});

describe('drain', () => {
  it('stops the source, requeues deliveries that have not started, and waits for those that have', async () => {
    const { clock, dispatcher, subscription, started, released, deliver, end } = newBench();
    dispatcher.attach(subscription);
    const [running, , waiting] = [deliver(1, 'x'), deliver(2), deliver(3, 'x'), deliver(4)];
    const abandoned: string[] = [];
    const drained = noteWhenDone(dispatcher.drain(10_000, () => abandoned.push('abandon')));
    await settle();
    expect(subscription.calls).toEqual(['stop']);
    expect(released.toSorted()).toEqual([3, 4]);
    expect([drained.done, running.open, waiting.open, dispatcher.inFlight]).toEqual([false, true, false, 2]);
    await end(1);
    await clock.advance(5_000);
    expect(drained.done).toBe(false);
    await end(2);
    expect([drained.done, started, abandoned, dispatcher.inFlight]).toEqual([true, [1, 2], [], 0]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('requeues what still arrives while the source stops, and starts none of it', async () => {
    const { dispatcher, subscription, started, released, deliver } = newBench();
    const stopping = newGate();
    subscription.stopped = stopping.promise;
    dispatcher.attach(subscription);
    const drained = noteWhenDone(dispatcher.drain(10_000, () => {}));
    deliver(1);
    await settle();
    expect([started, drained.done]).toEqual([[], false]);
    stopping.open();
    await settle();
    expect([released, started, dispatcher.inFlight, drained.done]).toEqual([[1], [], 0, true]);
  });

  it('requeues waiting deliveries even if the source cannot be stopped', async () => {
    const { dispatcher, subscription, released, deliver, end } = newBench({ concurrency: 1 });
    subscription.stopped = Promise.reject(new Error('channel closed'));
    dispatcher.attach(subscription);
    deliver(1);
    deliver(2);
    const drained = noteWhenDone(dispatcher.drain(10_000, () => {}));
    await settle();
    expect(released).toEqual([2]);
    await end(1);
    expect(drained.done).toBe(true);
  });

  it('does not wait longer than its limit for a source that does not stop', async () => {
    const { clock, dispatcher, subscription } = newBench();
    subscription.stopped = newGate().promise;
    dispatcher.attach(subscription);
    const abandoned: string[] = [];
    const drained = noteWhenDone(dispatcher.drain(10_000, () => abandoned.push('abandon')));
    await clock.advance(9_999);
    expect(drained.done).toBe(false);
    await clock.advance(1);
    // No handler runs, so there is nothing to say of any.
    expect([drained.done, abandoned]).toEqual([true, []]);
  });

  it('aborts what still runs after the limit, and requeues it too', async () => {
    const { clock, dispatcher, subscription, released, deliver, end } = newBench();
    dispatcher.attach(subscription);
    const [first, second] = [deliver(1), deliver(2)];
    const atAbandon: number[][] = [];
    const drained = noteWhenDone(dispatcher.drain(10_000, () => atAbandon.push([...released])));
    await clock.advance(9_999);
    expect([drained.done, atAbandon]).toEqual([false, []]);
    await clock.advance(1);
    expect([drained.done, atAbandon, released]).toEqual([true, [[]], [1, 2]]);
    expect([first.aborted, second.aborted]).toEqual([true, true]);
    expect([first.ack(), second.ack()]).toEqual([false, false]);
    await end(1);
    await end(2);
    expect([released, dispatcher.inFlight]).toEqual([[1, 2], 0]);
  });

  it('releases nothing that has settled itself before the limit', async () => {
    const { clock, dispatcher, subscription, released, deliver, end } = newBench();
    dispatcher.attach(subscription);
    deliver(1);
    deliver(2);
    void dispatcher.drain(10_000, () => {});
    await end(1);
    await clock.advance(10_000);
    expect(released).toEqual([2]);
  });

  it('starts nothing on resume, and does not resume the source', async () => {
    const { dispatcher, subscription, started, deliver, end } = newBench();
    dispatcher.attach(subscription);
    deliver(1, undefined, 64 * 1024 * 1024);
    const drained = noteWhenDone(dispatcher.drain(10_000, () => {}));
    await settle();
    dispatcher.resume();
    await end(1);
    dispatcher.resume();
    deliver(2);
    await settle();
    expect([drained.done, started, subscription.calls]).toEqual([true, [1], ['pause', 'stop']]);
  });

  it('starts nothing that waited, also while the source stops', async () => {
    const { dispatcher, subscription, started, released, deliver } = newBench();
    const stopping = newGate();
    subscription.stopped = stopping.promise;
    dispatcher.attach(subscription);
    deliver(1);
    void dispatcher.quiesce();
    deliver(2);
    const drained = noteWhenDone(dispatcher.drain(10_000, () => {}));
    deliver(3);
    dispatcher.resume();
    stopping.open();
    await settle();
    expect([started, released.toSorted(), drained.done]).toEqual([[1], [2, 3], false]);
  });

  it('can be called again', async () => {
    const { dispatcher, subscription, deliver, end } = newBench();
    dispatcher.attach(subscription);
    deliver(1);
    const notes = [dispatcher.drain(10_000, () => {}), dispatcher.drain(10_000, () => {})].map(noteWhenDone);
    await settle();
    expect(notes.map(({ done }) => done)).toEqual([false, false]);
    await end(1);
    expect(notes.map(({ done }) => done)).toEqual([true, true]);
    await dispatcher.drain(10_000, () => {});
    expect(subscription.calls).toEqual(['stop']);
  });

  it('is shortened by a second call, and says once that it abandons', async () => {
    const { clock, dispatcher, subscription, released, deliver } = newBench();
    dispatcher.attach(subscription);
    const running = deliver(1);
    const abandoned: string[] = [];
    const long = noteWhenDone(dispatcher.drain(10_000, () => abandoned.push('long')));
    const short = noteWhenDone(dispatcher.drain(1_000, () => abandoned.push('short')));
    await clock.advance(999);
    expect([long.done, short.done, running.aborted]).toEqual([false, false, false]);
    await clock.advance(1);
    expect([long.done, short.done, running.aborted]).toEqual([true, true, true]);
    await clock.advance(10_000);
    expect([abandoned, released, clock.pendingTimers]).toEqual([['short'], [1], 0]);
  });

  it('is not prolonged by a second call', async () => {
    const { clock, dispatcher, subscription, released, deliver } = newBench();
    dispatcher.attach(subscription);
    deliver(1);
    const abandoned: string[] = [];
    const short = noteWhenDone(dispatcher.drain(1_000, () => abandoned.push('short')));
    const long = noteWhenDone(dispatcher.drain(10_000, () => abandoned.push('long')));
    await clock.advance(1_000);
    expect([short.done, long.done, released]).toEqual([true, true, [1]]);
    await clock.advance(10_000);
    expect([abandoned, released]).toEqual([['short'], [1]]);
  });

  it('works where nothing was ever subscribed', async () => {
    await expect(newBench().dispatcher.drain(10_000, () => {})).resolves.toBeUndefined();
  });

  it('also stops a source that is attached afterwards, or its requeued messages would be redelivered in a loop', async () => {
    const { dispatcher, subscription, started, released, deliver } = newBench();
    await dispatcher.drain(10_000, () => {});
    deliver(1);
    dispatcher.attach(subscription);
    deliver(2);
    await settle();
    expect(subscription.calls).toEqual(['stop']);
    expect([started, released, dispatcher.inFlight]).toEqual([[], [1, 2], 0]);
  });
});
